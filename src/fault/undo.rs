//! What puts the cluster right again: data, so that a later process can do it from the journal alone.

use std::{fmt, time::Duration};

use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, ClusterError, chain};

/// How long an undo is tried.
const UNDO_DEADLINE: Duration = Duration::from_secs(10);
const RETRY_PERIOD: Duration = Duration::from_millis(500);

/// One thing that puts the cluster right again. Doing it twice, or when there is nothing to put right, is not an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "undo")]
pub enum Undo {
    /// Lets pods be scheduled to the node again.
    Uncordon {
        /// The node.
        node: String,
    },
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uncordon { node } => write!(f, "uncordon node `{node}`"),
        }
    }
}

impl Undo {
    /// How a person does it by hand.
    #[must_use]
    pub fn by_hand(&self) -> String {
        match self {
            Self::Uncordon { node } => format!("node `{node}` is cordoned: `kubectl uncordon {node}`"),
        }
    }

    /// Does it, and looks whether it is done; tries again for ten seconds.
    ///
    /// # Errors
    /// In words, what the last try met: a call that failed, or a cluster that is not as it should be afterwards.
    pub async fn perform(&self, cluster: &Cluster) -> Result<(), String> {
        let end = Instant::now() + UNDO_DEADLINE;
        loop {
            let result = self.try_once(cluster).await;
            if result.is_ok() || Instant::now() + RETRY_PERIOD > end {
                return result;
            }
            sleep(RETRY_PERIOD).await;
        }
    }

    async fn try_once(&self, cluster: &Cluster) -> Result<(), String> {
        match self {
            Self::Uncordon { node } => uncordon(cluster, node).await.map_err(|error| chain(&error))?,
        }
        if self.is_done(cluster).await.map_err(|error| chain(&error))? {
            Ok(())
        } else {
            Err("the API server took it, but it is not so".to_owned())
        }
    }

    async fn is_done(&self, cluster: &Cluster) -> Result<bool, ClusterError> {
        match self {
            Self::Uncordon { node } => Ok(cluster.node(node).await?.spec.and_then(|spec| spec.unschedulable) != Some(true)),
        }
    }
}

async fn uncordon(cluster: &Cluster, node: &str) -> Result<(), ClusterError> {
    // `null` takes the field away, as `kubectl uncordon` leaves it.
    let patch = json!({"spec": {"unschedulable": null}});
    let (nodes, params) = (cluster.all::<Node>(), PatchParams::default());
    cluster.call(format!("uncordon node `{node}`"), nodes.patch(node, &params, &Patch::Strategic(&patch))).await.map(drop)
}
