//! Any other cluster: what the Kubernetes API alone can do, and what the [node helper](super::helper) can, which it starts.

use std::{sync::OnceLock, time::Duration};

use super::{
    Container, DEAD_MAN, Defaults, Hurt, PlatformError, Signalled,
    hurt::facts_of,
    memory,
    node_shell::{NodeScript, NodeShell},
    signal::{self, Sent, Way},
};
use crate::{
    cluster::{Cluster, chain},
    event::Fact,
};

/// What is said of the lease of a node that lives.
pub(super) const RENEWED: &str = "renewed";

/// A cluster of which nothing is known but its API.
#[derive(Debug)]
pub struct ClusterPlatform {
    pub(super) cluster: Cluster,
    /// Our own image, as the cluster knows it.
    image: Option<String>,
    /// Whether the kernel of the nodes can hold packets back, once it was asked.
    delay: OnceLock<Result<(), String>>,
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
        lasting: Duration::from_secs(30),
    };

    /// The cluster behind this client; `image` is our own, for the node helper.
    #[must_use]
    pub const fn new(cluster: Cluster, image: Option<String>) -> Self {
        Self { cluster, image, delay: OnceLock::new() }
    }

    /// Whether packets can be held back here, as far as is known.
    pub(super) fn can_delay(&self) -> Result<(), String> {
        self.delay.get().cloned().unwrap_or(Ok(()))
    }

    /// Asks the node that runs the database whether its kernel can hold packets back.
    pub(super) async fn ask_for_delay(&self) {
        let asked = async {
            let pod = self.cluster.pod_facts().await.map_err(|error| chain(&error))?;
            let node = pod.node.ok_or_else(|| format!("pod `{}` is on no node", pod.name))?;
            let can = self.helper()?.can_delay(&node).await.map_err(|error| chain(&error))?;
            Ok::<_, String>((node, can))
        };
        let found = match asked.await {
            Ok((_, true)) => Ok(()),
            Ok((node, _)) => Err(format!("the kernel of node `{node}` has no `sch_netem`, which holds packets back")),
            Err(why) => Err(format!("whether the kernel of the nodes can hold packets back is not known: {why}")),
        };
        // Whoever asked first has told.
        let _ = self.delay.set(found);
    }

    /// Our own image.
    ///
    /// # Errors
    /// That it is not known.
    pub(super) fn image(&self) -> Result<&str, String> {
        self.image.as_deref().ok_or_else(|| "the node helper is our own image, and nobody said what that is called here".to_owned())
    }

    pub(super) async fn aim_signal(&self, at: &Container<'_>, process: &str) -> Result<Way, PlatformError> {
        signal::aim(&self.cluster, self.helper().ok(), at, process).await
    }

    pub(super) async fn signal(&self, at: &Container<'_>, way: &Way, process: &str, signal: Sent) -> Result<Vec<Signalled>, PlatformError> {
        signal::send(&self.cluster, self.helper().ok(), at, way, process, signal).await
    }

    /// What cuts the node off begins when the helper is gone, which it would cut off too, and is ended by the node itself when its time is over: nobody else
    /// reaches it then.
    pub(super) async fn begin(&self, hurt: &Hurt, lasts: Duration) -> Result<(), PlatformError> {
        if hurt.cuts_off() {
            return self.on_node(hurt, "begin-later", &lasts.as_secs().max(1).to_string()).await.map(drop);
        }
        let at_most = lasts + DEAD_MAN;
        if let Hurt::FrozenProcess { container, process } = hurt {
            return signal::freeze(&self.cluster, self.helper().ok(), container, process, at_most).await;
        }
        self.on_node(hurt, "begin", &at_most.as_secs().max(1).to_string()).await.map(drop)
    }

    pub(super) async fn end(&self, hurt: &Hurt) -> Result<(), PlatformError> {
        if let Hurt::FrozenProcess { container, process } = hurt {
            return signal::thaw(&self.cluster, self.helper().ok(), container, process).await;
        }
        if let Some(node) = hurt.node()
            && hurt.cuts_off()
            && self.sign_of_life(node).await? != RENEWED
        {
            return Err(PlatformError::CutOff { node: node.to_owned() });
        }
        self.on_node(hurt, "end", "-").await.map(drop)
    }

    pub(super) async fn look(&self, hurt: &Hurt) -> Result<Vec<Fact>, PlatformError> {
        if let Hurt::FrozenProcess { container, process } = hurt {
            return signal::state(&self.cluster, self.helper().ok(), container, process).await;
        }
        if let Some(node) = hurt.node()
            && hurt.cuts_off()
        {
            let value = self.sign_of_life(node).await?.to_owned();
            return Ok(vec![Fact { what: format!("lease of node `{node}`"), value }]);
        }
        Ok(facts_of(&self.on_node(hurt, "look", "-").await?))
    }

    pub(super) async fn reset_connections(&self, node: &str, address: &str) -> Result<String, PlatformError> {
        self.helper().map_err(PlatformError::NotPossible)?.reset_connections(node, address).await
    }

    pub(super) async fn exhaust_memory(&self, at: &Container<'_>) -> Result<String, PlatformError> {
        memory::exhaust(&self.cluster, at).await
    }

    async fn on_node(&self, hurt: &Hurt, verb: &str, seconds: &str) -> Result<String, PlatformError> {
        let (Some(node), Some(words)) = (hurt.node(), hurt.words()) else {
            return Err(PlatformError::NotPossible(format!("{hurt}: no helper can do that")));
        };
        let words: Vec<&str> = [verb, seconds].into_iter().chain(words.iter().map(String::as_str)).collect();
        self.helper().map_err(PlatformError::NotPossible)?.run(node, NodeScript::Hurt, &words).await
    }

    /// What can be seen from outside of a node that is cut off.
    async fn sign_of_life(&self, node: &str) -> Result<&'static str, PlatformError> {
        let overdue = self.cluster.heartbeat(node).await?.map(|heartbeat| heartbeat.is_overdue());
        Ok(match overdue {
            Some(Some(false)) => RENEWED,
            Some(Some(true)) => "not renewed",
            None => "none",
            Some(None) => {
                return Err(PlatformError::NotPossible(
                    "the API server does not tell the time, so nobody knows how old the lease is".to_owned(),
                ));
            }
        })
    }

    /// What reaches a node here.
    fn helper(&self) -> Result<NodeShell<'_>, String> {
        Ok(NodeShell::Helper(&self.cluster, self.image()?))
    }
}
