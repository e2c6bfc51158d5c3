//! Links as streams of libp2p, through `libp2p-stream`, over QUIC or over TCP with Noise and Yamux.

use std::{io, time::Duration};

use anyhow::{Context, Result, anyhow};
use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, gossipsub, identify, identity, kad,
    kad::store::MemoryStore,
    noise,
    swarm::{NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle},
    tcp, yamux,
};
use libp2p_stream as stream;
use tokio::{sync::mpsc, time};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use crate::{
    keys,
    link::{Endpoint, Link, LinkFuture, StreamLink},
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/skein/bench/1");

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub quic: bool,
    /// Kademlia, gossipsub and identify in the same swarm, with traffic.
    pub chatter: bool,
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    stream: stream::Behaviour,
    kad: Toggle<kad::Behaviour<MemoryStore>>,
    gossip: Toggle<gossipsub::Behaviour>,
    identify: Toggle<identify::Behaviour>,
}

pub struct P2p {
    address: String,
    control: stream::Control,
    incoming: mpsc::Receiver<libp2p::Stream>,
    dial: mpsc::Sender<Multiaddr>,
}

fn keypair(index: usize) -> Result<identity::Keypair> {
    Ok(identity::Keypair::ed25519_from_bytes(keys::seed(index))?)
}

fn behaviour(key: &identity::Keypair, chatter: bool) -> Result<Behaviour> {
    let peer = PeerId::from(key.public());
    if !chatter {
        let (kad, gossip, identify) = (None.into(), None.into(), None.into());
        return Ok(Behaviour {
            stream: stream::Behaviour::new(),
            kad,
            gossip,
            identify,
        });
    }
    let mut kad = kad::Behaviour::new(peer, MemoryStore::new(peer));
    kad.set_mode(Some(kad::Mode::Server));
    let authenticity = gossipsub::MessageAuthenticity::Signed(key.clone());
    let gossip = gossipsub::Behaviour::new(authenticity, gossipsub::Config::default())
        .map_err(|error| anyhow!("gossipsub: {error}"))?;
    let identify = identify::Behaviour::new(identify::Config::new(
        "/skein/bench/1".to_owned(),
        key.public(),
    ));
    Ok(Behaviour {
        stream: stream::Behaviour::new(),
        kad: Some(kad).into(),
        gossip: Some(gossip).into(),
        identify: Some(identify).into(),
    })
}

fn swarm(own: usize, options: Options) -> Result<Swarm<Behaviour>> {
    let key = keypair(own)?;
    let behaviour = behaviour(&key, options.chatter)?;
    let swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_quic()
        .with_behaviour(|_| behaviour)
        .map_err(|error| anyhow!("behaviour: {error}"))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
        .build();
    Ok(swarm)
}

impl P2p {
    pub async fn bind(own: usize, options: Options) -> Result<Self> {
        let mut swarm = swarm(own, options)?;
        let listen = if options.quic {
            "/ip4/127.0.0.1/udp/0/quic-v1"
        } else {
            "/ip4/127.0.0.1/tcp/0"
        };
        swarm.listen_on(listen.parse()?)?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address.to_string();
            }
        };
        let mut control = swarm.behaviour().stream.new_control();
        let mut accepted = control
            .accept(PROTOCOL)
            .map_err(|error| anyhow!("{error}"))?;
        // `libp2p-stream` drops what is not fetched at once, and the node fetches when it gets to it.
        let (arrived, incoming) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Some((_, stream)) = accepted.next().await {
                if arrived.send(stream).await.is_err() {
                    break;
                }
            }
        });
        let (dial, dials) = mpsc::channel(8);
        tokio::spawn(drive(swarm, dials, options.chatter));
        Ok(Self {
            address,
            control,
            incoming,
            dial,
        })
    }
}

impl Endpoint for P2p {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn connect<'a>(&'a mut self, peer: usize, address: &'a str) -> LinkFuture<'a, Box<dyn Link>> {
        Box::pin(async move {
            let peer = PeerId::from(keypair(peer)?.public());
            let address = address
                .parse::<Multiaddr>()?
                .with_p2p(peer)
                .map_err(|a| anyhow!("{a}"))?;
            self.dial.send(address).await?;
            let mut last = None;
            for _ in 0..50 {
                match self.control.open_stream(peer, PROTOCOL).await {
                    Ok(stream) => {
                        return Ok(Box::new(StreamLink::new(stream.compat())) as Box<dyn Link>);
                    }
                    Err(error) => last = Some(error),
                }
                time::sleep(Duration::from_millis(50)).await;
            }
            Err(anyhow!("no stream to {peer}: {last:?}"))
        })
    }

    fn accept(&mut self) -> LinkFuture<'_, Box<dyn Link>> {
        Box::pin(async move {
            let stream = self.incoming.recv().await.context("the swarm is running")?;
            Ok(Box::new(StreamLink::new(stream.compat())) as Box<dyn Link>)
        })
    }
}

/// The task that owns the swarm: dials on request and, if asked to, makes the traffic of a busy network:
/// five messages of 1 KiB and one random walk per second and node.
async fn drive(mut swarm: Swarm<Behaviour>, mut dials: mpsc::Receiver<Multiaddr>, chatter: bool) {
    let topic = gossipsub::IdentTopic::new("skein-bench");
    if let Some(gossip) = swarm.behaviour_mut().gossip.as_mut() {
        let _ = gossip.subscribe(&topic);
    }
    let mut publish = time::interval(Duration::from_millis(200));
    let mut walk = time::interval(Duration::from_secs(1));
    let mut serial = 0_u64;
    loop {
        tokio::select! {
            event = swarm.select_next_some() => on_event(&mut swarm, event),
            Some(address) = dials.recv() => {
                if let Err(error) = swarm.dial(address) {
                    report(&error);
                }
            }
            _ = publish.tick(), if chatter => {
                serial += 1;
                let mut data = vec![0; 1024];
                data[..8].copy_from_slice(&serial.to_le_bytes());
                if let Some(gossip) = swarm.behaviour_mut().gossip.as_mut() {
                    // Refused while nobody has joined the topic yet.
                    let _ = gossip.publish(topic.clone(), data);
                }
            }
            _ = walk.tick(), if chatter => {
                if let Some(kad) = swarm.behaviour_mut().kad.as_mut() {
                    kad.get_closest_peers(PeerId::random());
                }
            }
        }
    }
}

fn on_event(swarm: &mut Swarm<Behaviour>, event: SwarmEvent<BehaviourEvent>) {
    if let SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
        peer_id,
        info,
        ..
    })) = event
        && let Some(kad) = swarm.behaviour_mut().kad.as_mut()
    {
        for address in info.listen_addrs {
            kad.add_address(&peer_id, address);
        }
    }
}

fn report(error: &impl std::fmt::Display) {
    use io::Write;
    let _ = writeln!(io::stderr(), "dial: {error}");
}
