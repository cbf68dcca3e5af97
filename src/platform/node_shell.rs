//! Our scripts on a node: through docker, where the nodes are containers of it, else by the [node helper](super::helper).

use std::time::Duration;

use tokio::time::sleep;

use super::{Docker, PlatformError, helper};
use crate::cluster::Cluster;

/// How long connections are answered with a reset: long enough for every writer to send something.
const RESET_FOR: Duration = Duration::from_secs(2);
/// After how long a node stops that by itself, in seconds.
const RESET_AT_MOST: &str = "30";

/// What is run on a node, as root, by bash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeScript {
    /// Hurts the node, mends it, or tells how it is.
    Hurt,
    /// Lists the processes of a container, and sends a signal to those that are meant.
    Signal,
}

impl NodeScript {
    /// Every script.
    pub const ALL: [Self; 2] = [Self::Hurt, Self::Signal];

    /// Its name, by which the node helper knows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hurt => "hurt",
            Self::Signal => "signal",
        }
    }

    /// What is before its own words when bash runs it: `bash -c TEXT NAME WORD...`.
    #[must_use]
    pub const fn command(self) -> [&'static str; 3] {
        match self {
            Self::Hurt => ["-c", include_str!("node.bash"), "comeback-node"],
            Self::Signal => ["-c", super::processes::SCRIPT, "comeback-signal"],
        }
    }
}

/// Who runs it there.
#[derive(Clone, Copy, Debug)]
pub(super) enum NodeShell<'a> {
    /// Docker, of which the nodes are containers.
    Docker(&'a Docker),
    /// A pod of this image, which is our own.
    Helper(&'a Cluster, &'a str),
}

impl NodeShell<'_> {
    /// What it is called in the record.
    pub(super) const fn mechanism(self) -> &'static str {
        match self {
            Self::Docker(_) => "docker exec",
            Self::Helper(..) => "node helper",
        }
    }

    /// Runs a script with these words, and returns what it printed.
    pub(super) async fn run(self, node: &str, script: NodeScript, words: &[&str]) -> Result<String, PlatformError> {
        match self {
            Self::Docker(docker) => {
                let command: Vec<&str> = ["bash"].into_iter().chain(script.command()).chain(words.iter().copied()).collect();
                Ok(docker.exec(node, &command).await?)
            }
            Self::Helper(cluster, image) => helper::run(cluster, image, node, script, words).await,
        }
    }

    /// Runs a script that has nothing to tell, on a node that may be out of reach a moment later.
    pub(super) async fn order(self, node: &str, script: NodeScript, words: &[&str]) -> Result<(), PlatformError> {
        match self {
            Self::Docker(_) => self.run(node, script, words).await.map(drop),
            Self::Helper(cluster, image) => helper::order(cluster, image, node, script, words).await,
        }
    }

    /// Whether the kernel of the node can hold packets back. Asked in a network that goes with the question.
    pub(super) async fn can_delay(self, node: &str) -> Result<bool, PlatformError> {
        Ok(self.run(node, NodeScript::Hurt, &["look", "-", "netem"]).await?.contains("yes"))
    }

    /// For a moment, answers whatever comes to this address with a reset, and says what was done.
    pub(super) async fn reset_connections(self, node: &str, address: &str) -> Result<String, PlatformError> {
        let run = async |verb: &str, seconds: &str| self.run(node, NodeScript::Hurt, &[verb, seconds, "reset-pod", address]).await;
        run("begin", RESET_AT_MOST).await?;
        sleep(RESET_FOR).await;
        let told = run("look", "-").await;
        run("end", "-").await?;
        let told: Vec<String> = super::hurt::facts_of(&told?).iter().map(|fact| format!("{}: {}", fact.what, fact.value)).collect();
        Ok(format!("for {}, {}", humantime::format_duration(RESET_FOR), told.join(", ")))
    }
}
