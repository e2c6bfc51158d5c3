//! The list of what is compared.

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    link::Endpoint,
    p2p::{self, P2p},
    quic::{Quic, Tuning},
    tcp::{Security, Tcp},
};

const NOISE_CHACHA: &str = "Noise_XX_25519_ChaChaPoly_BLAKE2s";
const NOISE_AES: &str = "Noise_XX_25519_AESGCM_BLAKE2s";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// TCP without encryption: the floor.
    Tcp,
    /// TCP and TLS 1.3 by rustls, raw public keys on both sides.
    Tls,
    /// The same with a read buffer below TLS.
    TlsBuf,
    /// TCP and Noise XX, ChaCha20-Poly1305.
    NoiseChacha,
    /// TCP and Noise XX, AES-256-GCM.
    NoiseAes,
    /// quinn as it comes.
    Quic,
    /// quinn with a large first congestion window.
    QuicWindow,
    /// quinn without pacing.
    QuicNopace,
    /// quinn without pacing and with rarer, earlier acknowledgements.
    QuicAckfreq,
    /// libp2p-stream over QUIC.
    P2pQuic,
    /// libp2p-stream over TCP, Noise and Yamux.
    P2pTcp,
    /// libp2p-stream over QUIC beside Kademlia and gossipsub.
    P2pQuicChatter,
    /// libp2p-stream over TCP, Noise and Yamux beside Kademlia and gossipsub.
    P2pTcpChatter,
}

impl Transport {
    pub async fn bind(self, own: usize) -> Result<Box<dyn Endpoint>> {
        Ok(match self {
            Self::Tcp => Box::new(Tcp::bind(own, Security::None).await?),
            Self::Tls => Box::new(Tcp::bind(own, Security::Tls).await?),
            Self::TlsBuf => Box::new(Tcp::bind(own, Security::TlsBuffered).await?),
            Self::NoiseChacha => Box::new(Tcp::bind(own, Security::Noise(NOISE_CHACHA)).await?),
            Self::NoiseAes => Box::new(Tcp::bind(own, Security::Noise(NOISE_AES)).await?),
            Self::Quic => Box::new(Quic::bind(own, Tuning::None)?),
            Self::QuicWindow => Box::new(Quic::bind(own, Tuning::Window)?),
            Self::QuicNopace => Box::new(Quic::bind(own, Tuning::NoPacing)?),
            Self::QuicAckfreq => Box::new(Quic::bind(own, Tuning::AckFrequency)?),
            Self::P2pQuic => Box::new(
                P2p::bind(
                    own,
                    p2p::Options {
                        quic: true,
                        chatter: false,
                    },
                )
                .await?,
            ),
            Self::P2pTcp => Box::new(
                P2p::bind(
                    own,
                    p2p::Options {
                        quic: false,
                        chatter: false,
                    },
                )
                .await?,
            ),
            Self::P2pQuicChatter => Box::new(
                P2p::bind(
                    own,
                    p2p::Options {
                        quic: true,
                        chatter: true,
                    },
                )
                .await?,
            ),
            Self::P2pTcpChatter => Box::new(
                P2p::bind(
                    own,
                    p2p::Options {
                        quic: false,
                        chatter: true,
                    },
                )
                .await?,
            ),
        })
    }
}
