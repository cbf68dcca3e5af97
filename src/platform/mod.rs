//! What each place can do that the Kubernetes API cannot, and what a scenario may leave to it.
//!
//! The place is chosen once, when the run is planned. After that nobody asks "is this the sandbox?", only what it can do.

mod sandbox;

use std::time::Duration;

pub use self::sandbox::SandboxPlatform;
use crate::{cluster::ClusterError, scenario::Signal};

/// Where a run takes place.
#[derive(Debug)]
pub enum Platform {
    /// The embedded cluster.
    Sandbox(SandboxPlatform),
}

/// What a scenario leaves to the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `steadyFor`.
    pub steady_for: Duration,
    /// `stableFor`.
    pub stable_for: Duration,
    /// `giveUpAfter`, unless the scenario's limit is longer.
    pub give_up_after: Duration,
    /// The longest period of the cluster's own clockwork (leases, probes). Faults are delayed by a random part of it, so that trials
    /// do not all hit the same phase.
    pub heartbeat: Duration,
    /// How long the workload may take from its creation to the first answer.
    pub start_within: Duration,
}

/// A process that got a signal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Signalled {
    /// Its number on the node.
    pub pid: i32,
    /// The kernel's name for it.
    pub comm: String,
}

impl Platform {
    /// What a scenario leaves to it.
    #[must_use]
    pub const fn defaults(&self) -> Defaults {
        match self {
            Self::Sandbox(_) => SandboxPlatform::DEFAULTS,
        }
    }

    /// How it reaches a process in a container, for the record.
    #[must_use]
    pub const fn signal_mechanism(&self) -> &'static str {
        match self {
            Self::Sandbox(_) => "sandbox: signal from the node",
        }
    }

    /// Sends a signal to the processes of a container that match, and returns which did. From the node, so that it also reaches the
    /// container's first process, which ignores what comes from within.
    ///
    /// # Errors
    /// If none matches: the message lists what runs there.
    pub async fn signal(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        process: &str,
        signal: Signal,
    ) -> Result<Vec<Signalled>, ClusterError> {
        match self {
            Self::Sandbox(sandbox) => sandbox.signal(namespace, pod, container, process, signal).await,
        }
    }
}
