//! The official perf contract, with blocks of 64 KiB as go-libp2p's program has them:
//!
//!     perf --run-server --server-address HOST:PORT [--transport T] [--security S]
//!     perf --server-address HOST:PORT --transport T --upload-bytes N --download-bytes N [--security S]
//!          [--handshakes N]
//!
//! A server without --transport listens on TCP. The last option connects, waits for identify and closes, N
//! times, one after another, and prints how long it took.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    identity::Keypair, multiaddr::Protocol, swarm::SwarmEvent, Multiaddr, PeerId, Stream,
    StreamProtocol, Swarm,
};

use crate::{
    host::{
        behaviour::{Behaviour, Event},
        host, listen_address,
    },
    Result,
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/perf/1.0.0");
const BLOCK: usize = 64 << 10;

struct Options {
    server: bool,
    named: HashMap<String, String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            server: false,
            named: HashMap::new(),
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let name = argument
                .strip_prefix("--")
                .ok_or_else(|| format!("{argument} is not an option"))?;
            if name == "run-server" {
                options.server = true;
                continue;
            }
            let value = rest
                .next()
                .ok_or_else(|| format!("{argument} needs a value"))?;
            options.named.insert(name.to_owned(), value.clone());
        }
        Ok(options)
    }

    fn text<'a>(&'a self, name: &str, otherwise: &'a str) -> &'a str {
        self.named.get(name).map_or(otherwise, String::as_str)
    }

    fn number(&self, name: &str) -> Result<u64> {
        Ok(self.text(name, "0").parse()?)
    }
}

/// The server's key is the same everywhere, so that clients know whom to expect.
fn server_key() -> Result<Keypair> {
    Ok(Keypair::ed25519_from_bytes([0u8; 32])?)
}

fn print(kind: &str, seconds: f64, upload: u64, download: u64) {
    println!(
        "{{\"type\":\"{kind}\",\"timeSeconds\":{seconds:.6},\"uploadBytes\":{upload},\"downloadBytes\":{download}}}"
    );
}

/// Counts bytes, and prints a line for every second.
struct Meter {
    quiet: bool,
    upload: bool,
    since: Instant,
    bytes: u64,
}

impl Meter {
    fn new(upload: bool, quiet: bool) -> Self {
        Self {
            quiet,
            upload,
            since: Instant::now(),
            bytes: 0,
        }
    }

    fn add(&mut self, bytes: usize) {
        if self.quiet {
            return;
        }
        self.bytes += bytes as u64;
        let elapsed = self.since.elapsed();
        if elapsed >= Duration::from_secs(1) {
            let (up, down) = if self.upload {
                (self.bytes, 0)
            } else {
                (0, self.bytes)
            };
            print("intermediary", elapsed.as_secs_f64(), up, down);
            self.since = Instant::now();
            self.bytes = 0;
        }
    }
}

async fn send(stream: &mut Stream, mut left: u64, quiet: bool) -> Result<()> {
    let block = vec![0u8; BLOCK];
    let mut meter = Meter::new(true, quiet);
    while left > 0 {
        let length = left.min(BLOCK as u64) as usize;
        let taken = stream.write(&block[..length]).await?;
        if taken == 0 {
            return Err("the stream takes no more".into());
        }
        left -= taken as u64;
        meter.add(taken);
    }
    Ok(stream.close().await?)
}

async fn drain(stream: &mut Stream, quiet: bool) -> Result<u64> {
    let mut block = vec![0u8; BLOCK];
    let mut meter = Meter::new(false, quiet);
    let mut received = 0;
    loop {
        match stream.read(&mut block).await? {
            0 => return Ok(received),
            length => {
                received += length as u64;
                meter.add(length);
            }
        }
    }
}

async fn answer(mut stream: Stream) -> Result<()> {
    let mut header = [0u8; 8];
    stream.read_exact(&mut header).await?;
    drain(&mut stream, true).await?;
    send(&mut stream, u64::from_be_bytes(header), true).await
}

async fn serve(options: &Options, address: SocketAddr) -> Result<()> {
    let transport = options.text("transport", "tcp");
    let mut swarm = host(server_key()?, transport, options.text("security", "tls"))?;
    let mut incoming = swarm.behaviour().stream.new_control().accept(PROTOCOL)?;
    swarm.listen_on(listen_address(
        transport,
        &address.ip().to_string(),
        address.port(),
    )?)?;
    tokio::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            tokio::spawn(async move {
                if let Err(error) = answer(stream).await {
                    eprintln!("rust peer: {error}");
                }
            });
        }
    });
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            println!("{}", address.with(Protocol::P2p(*swarm.local_peer_id())));
        }
    }
}

/// Connects, waits for identify and closes, |count| times.
async fn shake_hands(mut swarm: Swarm<Behaviour>, target: Multiaddr, count: u64) -> Result<()> {
    let mut connects = Vec::new();
    let started = Instant::now();
    for _ in 0..count {
        let dialled = Instant::now();
        let mut peer = None;
        swarm.dial(target.clone())?;
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    connects.push(dialled.elapsed().as_secs_f64() * 1e3);
                    peer = Some(peer_id);
                }
                SwarmEvent::Behaviour(Event::Identified) => {
                    if let Some(peer) = peer {
                        let _ = swarm.disconnect_peer_id(peer);
                    }
                }
                SwarmEvent::ConnectionClosed { .. } => break,
                SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
                _ => {}
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    connects.sort_by(f64::total_cmp);
    println!(
        "{{\"type\":\"final\",\"timeSeconds\":{seconds:.6},\"handshakes\":{count},\"connectP50Millis\":{:.3}}}",
        connects[connects.len() / 2]
    );
    Ok(())
}

async fn measure(options: &Options, address: SocketAddr) -> Result<()> {
    let transport = options.text("transport", "tcp");
    let key = Keypair::generate_ed25519();
    let mut swarm = host(key, transport, options.text("security", "tls"))?;
    let server: PeerId = server_key()?.public().to_peer_id();
    let target = listen_address(transport, &address.ip().to_string(), address.port())?
        .with(Protocol::P2p(server));
    let handshakes = options.number("handshakes")?;
    if handshakes > 0 {
        return shake_hands(swarm, target, handshakes).await;
    }

    let (upload, download) = (
        options.number("upload-bytes")?,
        options.number("download-bytes")?,
    );
    let started = Instant::now();
    swarm.dial(target)?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { .. } => break,
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
            _ => {}
        }
    }
    let mut control = swarm.behaviour().stream.new_control();
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let mut stream = control
        .open_stream(server, PROTOCOL)
        .await
        .map_err(|error| error.to_string())?;
    stream.write_all(&download.to_be_bytes()).await?;
    send(&mut stream, upload, false).await?;
    let received = drain(&mut stream, false).await?;
    if received != download {
        return Err(format!("{received} of {download} bytes came").into());
    }
    print("final", started.elapsed().as_secs_f64(), upload, download);
    Ok(())
}

pub async fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let address: SocketAddr = options.text("server-address", "").parse()?;
    if options.server {
        serve(&options, address).await
    } else {
        measure(&options, address).await
    }
}
