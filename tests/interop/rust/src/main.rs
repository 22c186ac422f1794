//! The rust-libp2p peer of the interoperability tests and of the benchmark. Its first argument is a role:
//!
//!     transport-interop      the official transport contract, from environment variables
//!     perf ...               the official perf contract, from arguments (perf.rs)

mod host;
mod perf;
mod redis;

use std::{env, error::Error, time::Duration, time::Instant};

use futures::StreamExt;
use host::{behaviour::Event, host, listen_address};
use libp2p::{identity::Keypair, multiaddr::Protocol, ping, swarm::SwarmEvent, Multiaddr};

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("transport-interop") => transport_interop().await,
        Some("perf") => perf::run(&arguments[1..]).await,
        _ => Err("the first argument is transport-interop or perf".into()),
    };
    if let Err(error) = done {
        eprintln!("rust peer: {error}");
        std::process::exit(1);
    }
}

fn variable(name: &str, otherwise: &str) -> String {
    match env::var(name) {
        Ok(value) if !value.is_empty() => value,
        _ => otherwise.to_owned(),
    }
}

async fn transport_interop() -> Result<()> {
    let seconds: u64 = variable("test_timeout_seconds", "180").parse()?;
    match tokio::time::timeout(Duration::from_secs(seconds), contract(seconds)).await {
        Ok(done) => done,
        Err(_) => Err("the test's time is over".into()),
    }
}

async fn contract(seconds: u64) -> Result<()> {
    let transport = variable("transport", "tcp");
    let is_dialer = variable("is_dialer", "false") == "true";
    let muxer = variable("muxer", "yamux");
    if transport != "quic-v1" && muxer != "yamux" {
        return Err(format!("muxer={muxer} is not tested by this peer").into());
    }
    let mut store = redis::Redis::connect(&variable("redis_addr", "redis:6379"))?;
    let mut swarm = host(
        Keypair::generate_ed25519(),
        &transport,
        &variable("security", "noise"),
    )?;

    if !is_dialer {
        swarm.listen_on(listen_address(&transport, &variable("ip", "0.0.0.0"), 0)?)?;
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                let full = address.with(Protocol::P2p(*swarm.local_peer_id()));
                store.push("listenerAddr", &full.to_string())?;
            }
        }
    }

    let address: Multiaddr = store.pop("listenerAddr", seconds)?.parse()?;
    let started = Instant::now();
    swarm.dial(address)?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(Event::Ping(ping::Event {
                result: Ok(round_trip),
                ..
            })) => {
                println!(
                    "{{\"handshakePlusOneRTTMillis\":{:.3},\"pingRTTMilllis\":{:.3}}}",
                    started.elapsed().as_secs_f64() * 1e3,
                    round_trip.as_secs_f64() * 1e3
                );
                return Ok(());
            }
            SwarmEvent::Behaviour(Event::Ping(ping::Event {
                result: Err(error), ..
            })) => return Err(error.into()),
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
            SwarmEvent::ConnectionClosed {
                cause: Some(error), ..
            } => return Err(error.into()),
            _ => {}
        }
    }
}
