//! The faults: what they do, and how it is put right again.
//!
//! What can be said about a fault in a file is in [`crate::scenario`]; what proves that it happened, in [`crate::check`], because that is judged
//! and not done. Here is what touches the cluster. The engine goes through the same steps for each:
//!
//! 1. [`aim`](Fault::aim) resolves the victim, now and not earlier: no match is an error;
//! 2. the undo that [`aim`](Fault::aim) returned is written to the [`Journal`];
//! 3. [`inject`](Fault::inject) hurts the cluster; cut short by an error or by Ctrl-C, it is still undone, because of 2;
//! 4. [`confirm`](Fault::confirm) waits until the effect is seen, and [`witness`](Fault::witness) looks at the victim before, while and after;
//! 5. beside the recovery goes on what an operator would do, and what lasts is ended when its time has come ([`aftermath`]);
//! 6. in the end the journal is undone, last in, first out, and each undo verified; what a run could not, [`heal`] does.
//!
//! To add a fault:
//! 1. describe it in the file of its level in `scenario/fault/`: a struct, a variant of [`FaultSpec`] (also in `for_every_fault!`), its name, level and toll;
//!    `scenario/read_fault.rs` reads its parameters;
//! 2. write `fault/<fault>.rs` with `impl Fault`; one that lasts has most of it in `hold`;
//! 3. what lasts is a [`Hurt`], which every [`platform`](crate::platform) begins, ends and looks at, or refuses; what else it leaves behind is a variant of
//!    [`Undo`]: safe to repeat, and verifying itself;
//! 4. say in `check/evidence.rs` what proves it, and in `check/judge.rs` what it cannot show;
//! 5. add a scenario, its name to the test in which it does nothing, and a line in the README. That it is put right after a killed run is tested for all.

pub mod aftermath;
mod break_endpoints;
mod consent;
mod cordon_node;
mod crash_node;
mod delay_network;
mod delete_pod;
mod drain_node;
mod evict;
mod evict_pod;
mod exhaust_memory;
mod fail_attach;
mod fill_volume;
mod freeze_node;
mod freeze_process;
pub mod heal;
mod hold;
mod isolate_node;
mod isolate_pod;
mod journal;
mod kill_container;
mod kill_process;
mod lossy_network;
mod nodes;
mod reboot_node;
mod reset_connections;
mod restart_workload;
pub mod rights;
mod scale_to_zero;
mod slow_volume;
mod stop_api_server;
mod stop_controller;
mod stop_kubelet;
mod taint_node;
mod undo;
mod workload;

use std::{future::Future, time::Duration};

use tokio_util::sync::CancellationToken;

pub use self::{
    consent::{CONTROL_PLANE_LABEL, Consent},
    journal::{Entry, JOURNAL_LABEL, Journal, JournalError, Mirror, RUN_LABEL},
    undo::{TaintText, Undo},
};
use crate::{
    cluster::{
        Cluster, ClusterError,
        watch::{View, Watches},
    },
    event::{Fact, PodFacts},
    platform::{Capability, Container, ContainerName, Hurt, Platform, PlatformError, Way},
    scenario::{FaultSpec, for_every_fault},
};

/// The longest that is waited for the effect of a fault to be seen after its call returned, unless the recovery itself is given up earlier, or a fault says that
/// its own takes longer.
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
    /// What the user lets be broken.
    pub consent: &'a Consent,
    /// How long a fault lasts that does, unless it is ended earlier.
    pub lasting: Duration,
    /// How long its effect is waited for: at most [`EFFECT_DEADLINE`]. A fault whose effect takes longer to be seen says so itself.
    pub patience: Duration,
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
    /// The node that it hits, for a fault of a node.
    pub node: Option<String>,
    /// The way to the process, for a fault that signals one.
    pub way: Option<Way>,
    /// What is hurt, for a fault that lasts.
    pub hurt: Option<Hurt>,
    /// Which boot of the node it was, for a fault that starts one anew.
    pub boot: Option<String>,
    /// What will have to be undone, in the order in which it is done.
    pub undo: Vec<Undo>,
}

/// Why a fault could not be injected.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// A call to the cluster failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The place could not do it.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// What will have to be undone could not be written down.
    #[error(transparent)]
    Journal(#[from] JournalError),
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
    #[error("node `{node}` also runs {}, which would be hit too; move them away first", .bystanders.join(", "))]
    Bystanders {
        /// The node.
        node: String,
        /// The pods, with their namespaces.
        bystanders: Vec<String>,
    },
    /// The node runs the control plane.
    #[error("node `{node}` runs the control plane, which is never a victim")]
    ControlPlane {
        /// The node.
        node: String,
    },
    /// The node is not there.
    #[error("there is no node `{node}`; the nodes are {}", .known.join(", "))]
    NoNode {
        /// The node that was named.
        node: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// No node fits, or more than one does.
    #[error("{choice} is to be hit, and {found}")]
    NotOneNode {
        /// What was asked for.
        choice: String,
        /// What there is.
        found: String,
    },
    /// More nodes would be hurt at once than may be.
    #[error("{} would be hurt at once, and `--max-nodes` is {max}", .nodes.join(", "))]
    TooManyNodes {
        /// Which.
        nodes: Vec<String>,
        /// How many may be.
        max: usize,
    },
    /// The control plane may not be broken.
    #[error(
        "namespace `{namespace}` does not say that the control plane may be broken (hint: `kubectl label namespace {namespace} {CONTROL_PLANE_LABEL}=allowed`)"
    )]
    NoConsent {
        /// The target's namespace.
        namespace: String,
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
    /// What it needs beside the Kubernetes API: asked when the run is planned, before anything is touched.
    fn needs(&self) -> &'static [Capability] {
        &[]
    }

    /// Resolves the victim, without touching anything.
    ///
    /// # Errors
    /// If there is none, or more than one.
    fn aim(&self, scene: &Scene<'_>) -> impl Future<Output = Result<Aim, FaultError>> + Send;

    /// Hurts the cluster and returns what the call reported. That is no evidence yet.
    /// It is run to its end, also after Ctrl-C: see [`Scene::stop`]. Unless it says otherwise, it begins the hurt that it was aimed at.
    fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> impl Future<Output = Result<String, FaultError>> + Send {
        hold::begin(scene, aim)
    }

    /// Looks at what it hits: what differs between before and during the fault is evidence. Nothing, for a fault that the watches show.
    fn witness(&self, scene: &Scene<'_>, aim: &Aim) -> impl Future<Output = Result<Vec<Fact>, FaultError>> + Send {
        let hurt = aim.hurt.clone();
        async move {
            match hurt {
                Some(hurt) => Ok(scene.platform.look(&hurt).await?),
                None => Ok(Vec::new()),
            }
        }
    }

    /// Waits until the effect is seen in the cluster, and says what was seen; `None`: nothing was, in its time. Whether the
    /// fault happened is decided by the evidence, not here. Unless it says otherwise, until what it hits looks different.
    fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> impl Future<Output = Option<String>> + Send
    where
        Self: Sync,
    {
        hold::until_hurt(self, scene, aim)
    }

    /// When the recovery is over, waits until what it hits can tell what became of it, if that may be later; whether it is to be looked at again. Unless it says
    /// otherwise, it is not.
    fn settle(&self, _scene: &Scene<'_>, _aim: &Aim) -> impl Future<Output = bool> + Send {
        std::future::ready(false)
    }
}

macro_rules! call_its_own {
    ($($fault:ident),*) => {
        impl Fault for FaultSpec {
            fn needs(&self) -> &'static [Capability] {
                match self {
                    $(Self::$fault(fault) => fault.needs(),)*
                }
            }

            async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
                match self {
                    // On the heap: the futures of calls to the cluster are large, and there is one for each fault.
                    $(Self::$fault(fault) => Box::pin(fault.aim(scene)).await,)*
                }
            }

            async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
                match self {
                    $(Self::$fault(fault) => Box::pin(fault.inject(scene, aim)).await,)*
                }
            }

            async fn witness(&self, scene: &Scene<'_>, aim: &Aim) -> Result<Vec<Fact>, FaultError> {
                match self {
                    $(Self::$fault(fault) => Box::pin(fault.witness(scene, aim)).await,)*
                }
            }

            async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
                match self {
                    $(Self::$fault(fault) => Box::pin(fault.confirm(scene, aim)).await,)*
                }
            }

            async fn settle(&self, scene: &Scene<'_>, aim: &Aim) -> bool {
                match self {
                    $(Self::$fault(fault) => Box::pin(fault.settle(scene, aim)).await,)*
                }
            }
        }
    };
}
for_every_fault! { call_its_own }

impl Aim {
    /// What is aimed at this pod, with nothing to undo.
    fn at(what: String, mechanism: impl Into<String>, pod: PodFacts) -> Self {
        Self { what, mechanism: mechanism.into(), pod, node: None, way: None, hurt: None, boot: None, undo: Vec::new() }
    }
}

/// The database's container by all its names.
fn container<'a>(scene: &'a Scene<'_>, pod: &'a PodFacts) -> Container<'a> {
    let target = &scene.cluster.target;
    Container {
        namespace: &target.namespace,
        pod: &pod.name,
        container: &target.container,
        id: pod.container_id.as_deref(),
        node: pod.node.as_deref(),
    }
}

/// The same, to be written down.
fn container_name(scene: &Scene<'_>, pod: &PodFacts) -> Result<ContainerName, FaultError> {
    let what = || format!("pod `{}`", pod.name);
    let id = pod.container_id.clone().ok_or_else(|| ClusterError::Incomplete { what: what(), missing: "running container" })?;
    let node = pod.node.clone().ok_or_else(|| FaultError::NotScheduled { pod: pod.name.clone() })?;
    let target = &scene.cluster.target;
    Ok(ContainerName { namespace: target.namespace.clone(), pod: pod.name.clone(), container: target.container.clone(), id, node })
}

/// Waits until the database's container has ended or was started anew.
async fn container_ended(scene: &Scene<'_>, old: &PodFacts) -> Option<String> {
    scene.watches.wait_until("the end of the container", scene.patience, |view| ended(view, old)).await.ok()
}

/// What is seen of the end of the container.
fn ended(view: &View, old: &PodFacts) -> Option<String> {
    match view.pods.get(&old.uid) {
        None if view.gone.contains(&old.uid) => Some(format!("pod `{}` is gone", old.name)),
        Some(now) if now.restart_count > old.restart_count || now.container_id != old.container_id => {
            Some(format!("container restarted, count {}, last end: {}", now.restart_count, now.last_end.as_deref().unwrap_or("unknown")))
        }
        Some(now) if !now.running => Some(format!("container ended: {}", now.last_end.as_deref().unwrap_or("unknown"))),
        Some(_) | None => None,
    }
}

/// Waits until the pod is gone, or at least its container has ended.
async fn pod_ended(scene: &Scene<'_>, pod: &PodFacts) -> Option<String> {
    let seen = scene.watches.wait_until("the end of the old pod", scene.patience, |view| match view.pods.get(&pod.uid) {
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
