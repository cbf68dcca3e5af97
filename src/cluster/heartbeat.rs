//! The sign of life of a node: its lease, which its kubelet renews every quarter of the time for which it holds.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use super::{Cluster, ClusterError};

/// Where the nodes' leases are.
const NAMESPACE: &str = "kube-node-lease";
/// How long a lease holds that does not say it: Kubernetes' default.
const HOLDS: Duration = Duration::from_secs(40);

/// What a node's lease tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// When the node renewed it, by its own clock, as it stands there: to be compared with another look, and with no other clock.
    pub renewed: String,
    /// How long it holds.
    pub holds: Duration,
}

impl Cluster {
    /// When a node last said that it lives; `None`: it never did, or its lease went with its object.
    pub async fn heartbeat(&self, node: &str) -> Result<Option<Heartbeat>, ClusterError> {
        let leases: Api<Lease> = Api::namespaced(self.client(), NAMESPACE);
        let lease = self.call(format!("read the lease of node `{node}`"), leases.get_opt(node)).await?;
        Ok(lease.and_then(|lease| lease.spec).and_then(|spec| {
            let holds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(HOLDS, Duration::from_secs);
            Some(Heartbeat { renewed: spec.renew_time?.0.to_string(), holds })
        }))
    }
}
