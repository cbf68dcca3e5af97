//! The faults: what they do, and how it is put right again.
//!
//! What can be said about a fault in a file is in [`crate::scenario`]; what proves that it happened, in [`crate::check`], because that is judged
//! and not done. Here is what touches the cluster. The engine goes through the same steps for each:
//!
//! 1. [`aim`](Fault::aim) resolves the victim, now and not earlier: no match is an error;
//! 2. the undo that [`aim`](Fault::aim) returned is written to the [`Journal`];
//! 3. [`inject`](Fault::inject) hurts the cluster; cut short by an error or by Ctrl-C, it is still undone, because of 2;
//! 4. [`confirm`](Fault::confirm) waits until the effect is seen in the cluster;
//! 5. in the end the journal is undone, last in, first out, and each undo verified.
//!
//! To add a fault:
//! 1. describe it in `scenario/fault.rs`: a struct, a variant of [`FaultSpec`], its name;
//! 2. write `fault/<fault>.rs` with `impl Fault`; the compiler leads you to the `match` below;
//! 3. if it leaves something behind, give [`Undo`] a variant: it must be safe to repeat, and verify itself;
//! 4. say in `check/evidence.rs` what proves it, and in `check/judge.rs` what it cannot show;
//! 5. add a scenario, a test in which it does nothing, and a line in the README.

mod crash_node;
mod delete_pod;
mod drain_node;
mod journal;
mod kill_process;
mod undo;

use std::{future::Future, time::Duration};

use tokio_util::sync::CancellationToken;

pub use self::{
    journal::{Entry, Journal, JournalError},
    undo::Undo,
};
use crate::{
    cluster::{Cluster, ClusterError, watch::Watches},
    event::PodFacts,
    platform::Platform,
    scenario::FaultSpec,
};

/// The longest that is waited for the effect of a fault to be seen after its call returned.
pub const EFFECT_DEADLINE: Duration = Duration::from_mins(1);

/// What a fault acts on.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The cluster and the target in it.
    pub cluster: &'a Cluster,
    /// What this place can do beside.
    pub platform: &'a Platform,
    /// What is seen of it.
    pub watches: &'a Watches,
    /// Is cancelled when the user wants the run to stop: a fault that waits gives up then. A call that was sent is always waited for, so that
    /// what it does is done before its undo.
    pub stop: &'a CancellationToken,
}

/// A fault with its victim resolved.
#[derive(Clone, Debug)]
pub struct Aim {
    /// What it is aimed at, for people.
    pub what: String,
    /// By which mechanism.
    pub mechanism: String,
    /// The database's pod.
    pub pod: PodFacts,
    /// What will have to be undone, in the order in which it is done.
    pub undo: Vec<Undo>,
}

/// Why a fault could not be injected.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// A call to the cluster failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The user wanted the run to stop while the fault was waiting.
    #[error("interrupted")]
    Interrupted,
    /// The pod is not on a node yet.
    #[error("pod `{pod}` is not on any node")]
    NotScheduled {
        /// The pod.
        pod: String,
    },
    /// The node also runs what is not ours to break.
    #[error("node `{node}` also runs {}: draining it would hit them; move them away first", .bystanders.join(", "))]
    Bystanders {
        /// The node.
        node: String,
        /// The pods, with their namespaces.
        bystanders: Vec<String>,
    },
    /// This place cannot do it.
    #[error("{0}")]
    NotPossible(String),
    /// A disruption budget would not let the pod go.
    #[error("pod `{pod}` could not be evicted within {}: {refusal}", humantime::format_duration(*.deadline))]
    EvictionBlocked {
        /// The pod.
        pod: String,
        /// How long it was tried.
        deadline: Duration,
        /// What the API server said last.
        refusal: String,
    },
}

/// One way of hurting the cluster.
pub trait Fault {
    /// Resolves the victim, without touching anything.
    ///
    /// # Errors
    /// If there is none, or more than one.
    fn aim(&self, scene: &Scene<'_>) -> impl Future<Output = Result<Aim, FaultError>> + Send;

    /// Hurts the cluster and returns what the call reported. That is no evidence yet.
    /// It is run to its end, also after Ctrl-C: see [`Scene::stop`].
    fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> impl Future<Output = Result<String, FaultError>> + Send;

    /// Waits until the effect is seen in the cluster, and says what was seen; `None`: nothing was, within [`EFFECT_DEADLINE`]. Whether the
    /// fault happened is decided by the evidence, not here.
    fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> impl Future<Output = Option<String>> + Send;
}

impl Fault for FaultSpec {
    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        match self {
            Self::KillProcess(fault) => fault.aim(scene).await,
            Self::DeletePod(fault) => fault.aim(scene).await,
            Self::DrainNode(fault) => fault.aim(scene).await,
            Self::CrashNode(fault) => fault.aim(scene).await,
        }
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        match self {
            Self::KillProcess(fault) => fault.inject(scene, aim).await,
            Self::DeletePod(fault) => fault.inject(scene, aim).await,
            Self::DrainNode(fault) => fault.inject(scene, aim).await,
            Self::CrashNode(fault) => fault.inject(scene, aim).await,
        }
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        match self {
            Self::KillProcess(fault) => fault.confirm(scene, aim).await,
            Self::DeletePod(fault) => fault.confirm(scene, aim).await,
            Self::DrainNode(fault) => fault.confirm(scene, aim).await,
            Self::CrashNode(fault) => fault.confirm(scene, aim).await,
        }
    }
}

/// Waits until the pod is gone, or at least its container has ended.
async fn pod_ended(scene: &Scene<'_>, pod: &PodFacts) -> Option<String> {
    let seen = scene.watches.wait_until("the end of the old pod", EFFECT_DEADLINE, |view| match view.pods.get(&pod.uid) {
        Some(now) if !now.running => Some(format!("the container of pod `{}` has ended", pod.name)),
        None if view.gone.contains(&pod.uid) => Some(format!("pod `{}` is gone", pod.name)),
        Some(_) | None => None,
    });
    seen.await.ok()
}

/// A grace as Kubernetes takes it: whole seconds, rounded up.
fn whole_seconds(grace: Duration) -> u32 {
    u32::try_from(grace.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)
}
