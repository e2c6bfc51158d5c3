//! Links over plain quinn: a connection per pair of nodes, one bidirectional stream in it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use quinn::{
    AckFrequencyConfig, ClientConfig, Connection, RecvStream, SendStream, ServerConfig,
    TransportConfig,
    congestion::CubicConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};

use crate::{
    keys,
    link::{Endpoint, Link, LinkFuture, StreamLink},
};

#[derive(Clone, Copy, Debug)]
pub enum Tuning {
    /// What quinn starts with.
    None,
    /// A first congestion window of 1 MiB instead of 12 kB.
    Window,
    /// A window beyond 4 GiB, which also turns the pacer off.
    NoPacing,
    /// No pacing, and acknowledgements within a millisecond or after sixteen packets.
    AckFrequency,
}

pub struct Quic {
    own: usize,
    endpoint: quinn::Endpoint,
    transport: Arc<TransportConfig>,
    /// A connection dropped is a connection closed.
    connections: Vec<Connection>,
}

fn transport_config(tuning: Tuning) -> TransportConfig {
    let mut config = TransportConfig::default();
    config.keep_alive_interval(Some(Duration::from_secs(5)));
    config.stream_receive_window(10_000_000_u32.into());
    let mut congestion = CubicConfig::default();
    match tuning {
        Tuning::None => {}
        Tuning::Window => {
            congestion.initial_window(1 << 20);
        }
        Tuning::NoPacing | Tuning::AckFrequency => {
            congestion.initial_window(1 << 33);
        }
    }
    config.congestion_controller_factory(Arc::new(congestion));
    if matches!(tuning, Tuning::AckFrequency) {
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(16_u32.into())
            .max_ack_delay(Some(Duration::from_millis(1)));
        config.ack_frequency_config(Some(acks));
    }
    config
}

impl Quic {
    pub fn bind(own: usize, tuning: Tuning) -> Result<Self> {
        let transport = Arc::new(transport_config(tuning));
        let crypto = QuicServerConfig::try_from(keys::server_config(own)?)?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server.transport_config(Arc::clone(&transport));
        let endpoint = quinn::Endpoint::server(server, ([127, 0, 0, 1], 0).into())?;
        Ok(Self {
            own,
            endpoint,
            transport,
            connections: Vec::new(),
        })
    }

    fn link(
        &mut self,
        connection: Connection,
        send: SendStream,
        recv: RecvStream,
    ) -> Box<dyn Link> {
        self.connections.push(connection);
        Box::new(StreamLink::new(tokio::io::join(recv, send)))
    }
}

impl Endpoint for Quic {
    fn address(&self) -> String {
        self.endpoint
            .local_addr()
            .map_or_else(|error| error.to_string(), |address| address.to_string())
    }

    fn connect<'a>(&'a mut self, peer: usize, address: &'a str) -> LinkFuture<'a, Box<dyn Link>> {
        Box::pin(async move {
            let crypto = QuicClientConfig::try_from(keys::client_config(self.own, peer)?)?;
            let mut config = ClientConfig::new(Arc::new(crypto));
            config.transport_config(Arc::clone(&self.transport));
            let connection = self
                .endpoint
                .connect_with(config, address.parse()?, "skein")?
                .await?;
            let (send, recv) = connection.open_bi().await?;
            Ok(self.link(connection, send, recv))
        })
    }

    fn accept(&mut self) -> LinkFuture<'_, Box<dyn Link>> {
        Box::pin(async move {
            let connection = self
                .endpoint
                .accept()
                .await
                .context("the endpoint is open")?
                .await?;
            let (send, recv) = connection.accept_bi().await?;
            Ok(self.link(connection, send, recv))
        })
    }
}
