//! Links over one TCP connection each: bare, with TLS 1.3, with Noise.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use rustls::pki_types::ServerName;
use snow::{
    Builder, TransportState,
    params::{DHChoice, NoiseParams},
    resolvers::{
        BoxedCryptoResolver, CryptoResolver, DefaultResolver, FallbackResolver, RingResolver,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    keys,
    link::{Endpoint, FRAME_MAX, Inbox, Link, LinkFuture, StreamLink},
};

#[derive(Clone, Copy, Debug)]
pub enum Security {
    None,
    Tls,
    /// TLS with reads from the socket of up to 64 KiB instead of what rustls asks for.
    TlsBuffered,
    /// The name of the Noise protocol.
    Noise(&'static str),
}

pub struct Tcp {
    own: usize,
    security: Security,
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Tcp {
    pub async fn bind(own: usize, security: Security) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let acceptor = TlsAcceptor::from(Arc::new(keys::server_config(own)?));
        Ok(Self {
            own,
            security,
            listener,
            acceptor,
        })
    }
}

impl Endpoint for Tcp {
    fn address(&self) -> String {
        self.listener
            .local_addr()
            .map_or_else(|error| error.to_string(), |address| address.to_string())
    }

    fn connect<'a>(&'a mut self, peer: usize, address: &'a str) -> LinkFuture<'a, Box<dyn Link>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let connector = TlsConnector::from(Arc::new(keys::client_config(self.own, peer)?));
            let name = ServerName::try_from("skein")?;
            Ok(match self.security {
                Security::None => Box::new(StreamLink::new(stream)) as Box<dyn Link>,
                Security::Tls => Box::new(StreamLink::new(connector.connect(name, stream).await?)),
                Security::TlsBuffered => {
                    let stream = BufReader::with_capacity(65536, stream);
                    Box::new(StreamLink::new(connector.connect(name, stream).await?))
                }
                Security::Noise(protocol) => {
                    Box::new(NoiseLink::handshake(stream, protocol, self.own, Some(peer)).await?)
                }
            })
        })
    }

    fn accept(&mut self) -> LinkFuture<'_, Box<dyn Link>> {
        Box::pin(async move {
            let (stream, _) = self.listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(match self.security {
                Security::None => Box::new(StreamLink::new(stream)) as Box<dyn Link>,
                Security::Tls => Box::new(StreamLink::new(self.acceptor.accept(stream).await?)),
                Security::TlsBuffered => {
                    let stream = BufReader::with_capacity(65536, stream);
                    Box::new(StreamLink::new(self.acceptor.accept(stream).await?))
                }
                Security::Noise(protocol) => {
                    Box::new(NoiseLink::handshake(stream, protocol, self.own, None).await?)
                }
            })
        })
    }
}

/// One frame is one Noise message behind a two-byte length.
struct NoiseLink {
    stream: TcpStream,
    noise: TransportState,
    inbox: Inbox,
    outbox: Vec<u8>,
}

fn resolver() -> BoxedCryptoResolver {
    Box::new(FallbackResolver::new(
        Box::new(RingResolver),
        Box::new(DefaultResolver),
    ))
}

/// The static key of a node. A product would sign it with the ed25519 identity, as libp2p does; here both
/// ends derive it from the seed, which costs the same per frame.
fn static_key(index: usize) -> Result<(Vec<u8>, Vec<u8>)> {
    let private = keys::seed(index + 100);
    let mut dh = DefaultResolver
        .resolve_dh(&DHChoice::Curve25519)
        .context("X25519 is built in")?;
    dh.set(&private);
    Ok((private.to_vec(), dh.pubkey().to_vec()))
}

impl NoiseLink {
    /// The XX pattern, dialled when `peer` is given.
    async fn handshake(
        mut stream: TcpStream,
        protocol: &str,
        own: usize,
        peer: Option<usize>,
    ) -> Result<Self> {
        let params: NoiseParams = protocol
            .parse()
            .map_err(|error| anyhow!("{protocol}: {error:?}"))?;
        let (private, _) = static_key(own)?;
        let builder = Builder::with_resolver(params, resolver()).local_private_key(&private)?;
        let (mut state, mut sends) = match peer {
            Some(_) => (builder.build_initiator()?, true),
            None => (builder.build_responder()?, false),
        };
        let (mut message, mut plain) = ([0; 256], [0; 256]);
        while !state.is_handshake_finished() {
            if sends {
                let len = state.write_message(&[], &mut message)?;
                stream.write_u16(u16::try_from(len)?).await?;
                stream.write_all(&message[..len]).await?;
            } else {
                let len = usize::from(stream.read_u16().await?);
                ensure!(len <= message.len(), "a handshake message of {len} bytes");
                stream.read_exact(&mut message[..len]).await?;
                state.read_message(&message[..len], &mut plain)?;
            }
            sends = !sends;
        }
        let noise = state.into_transport_mode()?;
        let remote = noise
            .get_remote_static()
            .context("XX transmits the static keys")?;
        let mut known = peer.map_or(0..keys::NODES, |peer| peer..peer + 1);
        ensure!(
            known.any(|index| static_key(index).is_ok_and(|(_, key)| key == remote)),
            "unknown key"
        );
        Ok(Self {
            stream,
            noise,
            inbox: Inbox::default(),
            outbox: Vec::new(),
        })
    }
}

impl Link for NoiseLink {
    fn send<'a>(&'a mut self, frame: &'a [u8]) -> LinkFuture<'a, ()> {
        Box::pin(async move {
            self.outbox.resize(2 + frame.len() + 16, 0);
            let len = self.noise.write_message(frame, &mut self.outbox[2..])?;
            self.outbox[..2].copy_from_slice(&u16::try_from(len)?.to_le_bytes());
            self.stream.write_all(&self.outbox[..2 + len]).await?;
            Ok(())
        })
    }

    fn recv<'a>(&'a mut self, frame: &'a mut Vec<u8>) -> LinkFuture<'a, ()> {
        Box::pin(async move {
            let header = self.inbox.peek(&mut self.stream, 2).await?.try_into()?;
            let len = usize::from(u16::from_le_bytes(header));
            ensure!(len <= FRAME_MAX + 16, "a message of {len} bytes");
            let bytes = self.inbox.peek(&mut self.stream, 2 + len).await?;
            frame.resize(len, 0);
            let plain = self.noise.read_message(&bytes[2..], frame)?;
            frame.truncate(plain);
            self.inbox.take(2 + len);
            Ok(())
        })
    }
}
