//! Any other cluster: what the Kubernetes API alone can do.

use std::time::Duration;

use super::{
    Container, Defaults, PlatformError, Signalled,
    signal::{self, Way},
};
use crate::{cluster::Cluster, scenario::Signal};

/// A cluster of which nothing is known but its API.
#[derive(Debug)]
pub struct ClusterPlatform {
    cluster: Cluster,
}

impl ClusterPlatform {
    /// Why a node cannot be switched off here.
    pub const NO_POWER: &'static str = "the power of a node is not part of the Kubernetes API; on kind it is docker's";

    /// Room for a cloud's disks to move: minutes, where kind takes seconds.
    pub const DEFAULTS: Defaults = Defaults {
        steady_for: Duration::from_secs(10),
        stable_for: Duration::from_secs(10),
        give_up_after: Duration::from_mins(20),
        heartbeat: Duration::from_secs(10),
        start_within: Duration::from_mins(10),
        // A few calls, each with its deadline.
        undo_within: Duration::from_mins(1),
    };

    /// The cluster behind this client.
    #[must_use]
    pub const fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    pub(super) async fn aim_signal(&self, at: &Container<'_>, process: &str) -> Result<Way, PlatformError> {
        signal::aim(&self.cluster, None, at, process).await
    }

    pub(super) async fn signal(
        &self,
        at: &Container<'_>,
        way: &Way,
        process: &str,
        signal: Signal,
    ) -> Result<Vec<Signalled>, PlatformError> {
        signal::send(&self.cluster, None, at, way, process, signal).await
    }
}
