//! Settings about other nodes: who they are, where, and what they hold.

use std::net::SocketAddr;
use std::ops::Range;

use skein_base::NodeId;
use skein_routing::Mode;

use super::setting::{Setting, list_setting, text_setting};

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Serves the API.
    Gateway,
    /// Serves a slice to gateways.
    Stage,
}

/// Layers, written with both ends: `0-5`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers(
    /// The first, and the one after the last.
    pub Range<u32>,
);

impl Layers {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        let end = last.checked_add(1).filter(|end| first < *end)?;
        Some(Self(first..end))
    }

    fn text(&self) -> String {
        format!("{}-{}", self.0.start, self.0.end - 1)
    }
}

/// A stage of the network: its layers, its node, and where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageAt {
    /// Its layers.
    pub layers: Layers,
    /// Its node.
    pub node: NodeId,
    /// Its address.
    pub address: SocketAddr,
}

impl StageAt {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('@');
        let stage = Self {
            layers: Layers::parse(parts.next()?)?,
            node: parts.next()?.parse().ok()?,
            address: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(stage)
    }

    fn text(&self) -> String {
        format!("{}@{}@{}", self.layers.text(), self.node, self.address)
    }
}

text_setting!(
    Role,
    "role",
    "\"gateway\" or \"stage\"",
    |text| match text {
        "gateway" => Some(Role::Gateway),
        "stage" => Some(Role::Stage),
        _ => None,
    },
    |role| {
        match role {
            Role::Gateway => "gateway",
            Role::Stage => "stage",
        }
        .to_owned()
    }
);
text_setting!(
    Layers,
    "layers",
    "the first and the last layer, counted from 0, such as \"0-5\"",
    Layers::parse,
    Layers::text
);
text_setting!(
    NodeId,
    "node",
    "a node's id: 64 hexadecimal digits, as `skein node` prints it",
    |text| text.parse().ok(),
    ToString::to_string
);
text_setting!(
    StageAt,
    "stage",
    "LAYERS@NODE@ADDRESS, such as \"0-5@1f0c...9a@10.0.0.7:4001\"",
    StageAt::parse,
    StageAt::text
);
text_setting!(
    Mode,
    "mode",
    "\"chain\" or \"driven\"",
    |text| match text {
        "chain" => Some(Mode::Chain),
        "driven" => Some(Mode::Driven),
        _ => None,
    },
    |mode| {
        match mode {
            Mode::Chain => "chain",
            Mode::Driven => "driven",
        }
        .to_owned()
    }
);
list_setting!(Role, "list of roles");
list_setting!(NodeId, "list of nodes");
list_setting!(StageAt, "list of stages");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_written_as_they_are_read() {
        let text = format!("3-5@{}@127.0.0.1:4001", "ab".repeat(32));
        let stage = StageAt::from_text(&text).expect("a stage");
        assert_eq!(stage.layers.0, 3..6);
        assert_eq!(stage.text(), text);
        let node = "ab".repeat(32);
        let wrong = [
            String::new(),
            "3-5".to_owned(),
            format!("5-3@{node}@127.0.0.1:1"),
            format!("0-4294967295@{node}@127.0.0.1:1"),
            format!("0-1@{node}@127.0.0.1"),
            format!("0-1@{node}@127.0.0.1:1@more"),
            "0-1@abc@127.0.0.1:1".to_owned(),
        ];
        for text in wrong {
            let error = StageAt::from_text(&text).expect_err("refused");
            assert!(error.contains("LAYERS@NODE@ADDRESS"), "{error}");
        }
    }
}
