//! A host of one transport and one security protocol.

use std::time::Duration;

use libp2p::{
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    identity::Keypair,
    noise, quic, tcp, tls, websocket, yamux, Multiaddr, PeerId, Swarm, SwarmBuilder, Transport,
};

use crate::Result;

pub mod behaviour {
    use libp2p::{identify, ping, swarm::NetworkBehaviour};

    #[derive(NetworkBehaviour)]
    #[behaviour(to_swarm = "Event")]
    pub struct Behaviour {
        pub ping: ping::Behaviour,
        pub identify: identify::Behaviour,
        pub stream: libp2p_stream::Behaviour,
    }

    pub enum Event {
        Ping(ping::Event),
        Identified,
        Other,
    }
    impl From<ping::Event> for Event {
        fn from(event: ping::Event) -> Self {
            Event::Ping(event)
        }
    }
    impl From<identify::Event> for Event {
        fn from(event: identify::Event) -> Self {
            match event {
                identify::Event::Received { .. } => Event::Identified,
                _ => Event::Other,
            }
        }
    }
    impl From<()> for Event {
        fn from(_: ()) -> Self {
            Event::Other
        }
    }
}
use behaviour::Behaviour;

type Transported = Boxed<(PeerId, StreamMuxerBox)>;

/// `upgraded` secures and multiplexes the connections of a stream transport.
macro_rules! upgraded {
    ($base:expr, $security:expr, $key:expr) => {{
        let base = $base.upgrade(Version::V1Lazy);
        match $security {
            "noise" => base
                .authenticate(noise::Config::new($key)?)
                .multiplex(yamux::Config::default())
                .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
                .boxed(),
            "tls" => base
                .authenticate(tls::Config::new($key)?)
                .multiplex(yamux::Config::default())
                .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
                .boxed(),
            other => return Err(format!("security={other} is not tested by this peer").into()),
        }
    }};
}

fn transported(key: &Keypair, transport: &str, security: &str) -> Result<Transported> {
    let plain = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    Ok(match transport {
        "tcp" => upgraded!(plain(), security, key),
        "ws" => upgraded!(websocket::Config::new(plain()), security, key),
        "quic-v1" => quic::tokio::Transport::new(quic::Config::new(key))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed(),
        other => return Err(format!("transport={other} is not tested by this peer").into()),
    })
}

pub fn host(key: Keypair, transport: &str, security: &str) -> Result<Swarm<Behaviour>> {
    let made = transported(&key, transport, security)?;
    let behaviour = Behaviour {
        ping: libp2p::ping::Behaviour::default(),
        identify: libp2p::identify::Behaviour::new(
            libp2p::identify::Config::new("/ipfs/0.1.0".to_owned(), key.public())
                .with_agent_version("rust-libp2p-interop".to_owned()),
        ),
        stream: libp2p_stream::Behaviour::new(),
    };
    Ok(SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_other_transport(|_| made)?
        .with_behaviour(|_| behaviour)?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build())
}

pub fn listen_address(transport: &str, ip: &str, port: u16) -> Result<Multiaddr> {
    let family = if ip.contains(':') { "ip6" } else { "ip4" };
    Ok(match transport {
        "ws" => format!("/{family}/{ip}/tcp/{port}/ws"),
        "quic-v1" => format!("/{family}/{ip}/udp/{port}/quic-v1"),
        _ => format!("/{family}/{ip}/tcp/{port}"),
    }
    .parse()?)
}
