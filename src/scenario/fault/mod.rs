//! What can be said about a fault in a scenario file. What it does is in [`crate::fault`].
//!
//! - [`Injection`]: a fault of the list, and when it comes.
//! - [`FaultSpec`]: which fault, with its parameters: those of processes and containers in `process`, then `pod`, `node`, `network`, `storage` and
//!   `control_plane`.
//! - `common`: what several of them take: which node, how long.

mod common;
mod control_plane;
mod injection;
mod network;
mod node;
mod pod;
mod process;
mod storage;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(super) use self::{
    common::MAX_LABEL,
    injection::{AFTER, DURING, REPEAT},
    process::MAX_PROCESS,
};
pub use self::{
    common::NodeChoice,
    control_plane::{BreakEndpoints, Controller, StopApiServer, StopController},
    injection::{After, Cue, Injection},
    network::{DelayNetwork, IsolatePod, LossyNetwork, Percent, ResetConnections},
    node::{Assist, CordonNode, CrashNode, DrainNode, FreezeNode, IsolateNode, RebootNode, StopKubelet, TaintEffect, TaintNode},
    pod::{DeletePod, EvictPod, RestartWorkload, ScaleToZero},
    process::{ExhaustMemory, FreezeProcess, KillContainer, KillProcess, Signal},
    storage::{FailAttach, FillVolume, SlowVolume},
};
use super::Limit;

/// One fault of a scenario: in the file a map with one key.
///
/// The name alone (`- deletePod`, or `- deletePod:` with nothing after it) is the fault with its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = allow_the_name_alone)]
pub enum FaultSpec {
    /// A process in the database's container gets a signal.
    KillProcess(KillProcess),
    /// A process in the database's container stands still for a while.
    FreezeProcess(FreezeProcess),
    /// The database's container is killed from outside: its first process, and so all of it.
    KillContainer(KillContainer),
    /// The database's container runs out of memory, and the kernel kills it.
    ExhaustMemory(ExhaustMemory),
    /// The database's pod is deleted.
    DeletePod(DeletePod),
    /// The database's pod is evicted, which asks disruption budgets first.
    EvictPod(EvictPod),
    /// The workload is rolled out anew, as `kubectl rollout restart` does it.
    RestartWorkload(RestartWorkload),
    /// The workload is scaled to nothing for a while.
    ScaleToZero(ScaleToZero),
    /// A node is cordoned and emptied, as for maintenance.
    DrainNode(DrainNode),
    /// A node takes no new pods for a while.
    CordonNode(CordonNode),
    /// A node loses its power.
    CrashNode(CrashNode),
    /// A node loses its power and has it back at once.
    RebootNode(RebootNode),
    /// A node stands still for a while, with all that runs on it.
    FreezeNode(FreezeNode),
    /// A node's kubelet is stopped for a while; what runs there goes on.
    StopKubelet(StopKubelet),
    /// A node is cut off from the network for a while.
    IsolateNode(IsolateNode),
    /// A node has a taint for a while.
    TaintNode(TaintNode),
    /// The database's pod is cut off from the network for a while.
    IsolatePod(IsolatePod),
    /// What goes to the database's pod takes longer for a while.
    DelayNetwork(DelayNetwork),
    /// A part of what goes to the database's pod is lost for a while.
    LossyNetwork(LossyNetwork),
    /// The connections to the database are reset.
    ResetConnections(ResetConnections),
    /// The database's volume is full for a while.
    FillVolume(FillVolume),
    /// The database's volume is slow for a while.
    SlowVolume(SlowVolume),
    /// The database's volume cannot be attached or mounted anew for a while.
    FailAttach(FailAttach),
    /// The API server is stopped for a while.
    StopApiServer(StopApiServer),
    /// A controller of the control plane is stopped for a while.
    StopController(StopController),
    /// The service in front of the database matches no pod for a while.
    BreakEndpoints(BreakEndpoints),
}

/// Calls a macro with every variant, in the order of the levels.
macro_rules! for_every_fault {
    ($with:ident) => {
        $with! {
            KillProcess, FreezeProcess, KillContainer, ExhaustMemory, DeletePod, EvictPod, RestartWorkload, ScaleToZero, DrainNode,
            CordonNode, CrashNode, RebootNode, FreezeNode, StopKubelet, IsolateNode, TaintNode, IsolatePod, DelayNetwork, LossyNetwork,
            ResetConnections, FillVolume, SlowVolume, FailAttach, StopApiServer, StopController, BreakEndpoints
        }
    };
}
pub(crate) use for_every_fault;

/// What a fault hurts, from the inside out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// A process in the container.
    Process,
    /// The container.
    Container,
    /// The pod, or the workload that it belongs to.
    Pod,
    /// A node.
    Node,
    /// The way to the database.
    Network,
    /// Its volume.
    Storage,
    /// What looks after all of them.
    ControlPlane,
}

impl Level {
    /// The word in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Container => "container",
            Self::Pod => "pod",
            Self::Node => "node",
            Self::Network => "network",
            Self::Storage => "storage",
            Self::ControlPlane => "control plane",
        }
    }
}

/// What a fault does to the life of the server that it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Toll {
    /// The same server must be there afterwards.
    Spares,
    /// The same one, or another: it depends on how long it lasts, and on where it hits.
    May,
    /// It must be another one afterwards.
    Ends,
}

impl FaultSpec {
    /// Every fault there is, with its defaults.
    #[must_use]
    pub fn all() -> Vec<Self> {
        macro_rules! defaults {
            ($($fault:ident),*) => { vec![$(Self::$fault($fault::default())),*] };
        }
        for_every_fault!(defaults)
    }

    /// The name as it is written in a scenario file.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::KillProcess(_) => "killProcess",
            Self::FreezeProcess(_) => "freezeProcess",
            Self::KillContainer(_) => "killContainer",
            Self::ExhaustMemory(_) => "exhaustMemory",
            Self::DeletePod(_) => "deletePod",
            Self::EvictPod(_) => "evictPod",
            Self::RestartWorkload(_) => "restartWorkload",
            Self::ScaleToZero(_) => "scaleToZero",
            Self::DrainNode(_) => "drainNode",
            Self::CordonNode(_) => "cordonNode",
            Self::CrashNode(_) => "crashNode",
            Self::RebootNode(_) => "rebootNode",
            Self::FreezeNode(_) => "freezeNode",
            Self::StopKubelet(_) => "stopKubelet",
            Self::IsolateNode(_) => "isolateNode",
            Self::TaintNode(_) => "taintNode",
            Self::IsolatePod(_) => "isolatePod",
            Self::DelayNetwork(_) => "delayNetwork",
            Self::LossyNetwork(_) => "lossyNetwork",
            Self::ResetConnections(_) => "resetConnections",
            Self::FillVolume(_) => "fillVolume",
            Self::SlowVolume(_) => "slowVolume",
            Self::FailAttach(_) => "failAttach",
            Self::StopApiServer(_) => "stopApiServer",
            Self::StopController(_) => "stopController",
            Self::BreakEndpoints(_) => "breakEndpoints",
        }
    }

    /// What it hurts.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::KillProcess(_) | Self::FreezeProcess(_) => Level::Process,
            Self::KillContainer(_) | Self::ExhaustMemory(_) => Level::Container,
            Self::DeletePod(_) | Self::EvictPod(_) | Self::RestartWorkload(_) | Self::ScaleToZero(_) => Level::Pod,
            Self::DrainNode(_)
            | Self::CordonNode(_)
            | Self::CrashNode(_)
            | Self::RebootNode(_)
            | Self::FreezeNode(_)
            | Self::StopKubelet(_)
            | Self::IsolateNode(_)
            | Self::TaintNode(_) => Level::Node,
            Self::IsolatePod(_) | Self::DelayNetwork(_) | Self::LossyNetwork(_) | Self::ResetConnections(_) => Level::Network,
            Self::FillVolume(_) | Self::SlowVolume(_) | Self::FailAttach(_) => Level::Storage,
            Self::StopApiServer(_) | Self::StopController(_) | Self::BreakEndpoints(_) => Level::ControlPlane,
        }
    }

    /// What it does, in a line: what the schema says of it.
    #[must_use]
    pub fn about(&self) -> String {
        let schema = super::schema();
        let forms = schema.pointer("/definitions/FaultSpec/oneOf").and_then(Value::as_array);
        let found = forms.into_iter().flatten().find(|form| form["properties"].get(self.name()).is_some());
        found.and_then(|form| form["description"].as_str()).unwrap_or_default().to_owned()
    }

    /// The node that it hits, for a fault of a node.
    #[must_use]
    pub const fn node(&self) -> Option<&NodeChoice> {
        match self {
            Self::DrainNode(DrainNode { node, .. })
            | Self::CordonNode(CordonNode { node, .. })
            | Self::CrashNode(CrashNode { node, .. })
            | Self::RebootNode(RebootNode { node })
            | Self::FreezeNode(FreezeNode { node, .. })
            | Self::StopKubelet(StopKubelet { node, .. })
            | Self::IsolateNode(IsolateNode { node, .. })
            | Self::TaintNode(TaintNode { node, .. }) => Some(node),
            Self::KillProcess(_)
            | Self::FreezeProcess(_)
            | Self::KillContainer(_)
            | Self::ExhaustMemory(_)
            | Self::DeletePod(_)
            | Self::EvictPod(_)
            | Self::RestartWorkload(_)
            | Self::ScaleToZero(_)
            | Self::IsolatePod(_)
            | Self::DelayNetwork(_)
            | Self::LossyNetwork(_)
            | Self::ResetConnections(_)
            | Self::FillVolume(_)
            | Self::SlowVolume(_)
            | Self::FailAttach(_)
            | Self::StopApiServer(_)
            | Self::StopController(_)
            | Self::BreakEndpoints(_) => None,
        }
    }

    /// What it does to the life of the server.
    #[must_use]
    pub fn toll(&self) -> Toll {
        let of_its_node = |toll| match self.node() {
            Some(NodeChoice::Other) => Toll::Spares,
            Some(NodeChoice::Name(_) | NodeChoice::Label(_)) => Toll::May,
            Some(NodeChoice::Target) | None => toll,
        };
        match self {
            Self::KillProcess(_)
            | Self::KillContainer(_)
            | Self::ExhaustMemory(_)
            | Self::DeletePod(_)
            | Self::EvictPod(_)
            | Self::RestartWorkload(_)
            | Self::ScaleToZero(_) => Toll::Ends,
            Self::DrainNode(_)
            | Self::CrashNode(_)
            | Self::RebootNode(_)
            | Self::TaintNode(TaintNode { effect: TaintEffect::NoExecute, .. }) => of_its_node(Toll::Ends),
            Self::FreezeNode(_) | Self::StopKubelet(_) | Self::IsolateNode(_) => of_its_node(Toll::May),
            Self::FreezeProcess(_)
            | Self::CordonNode(_)
            | Self::TaintNode(TaintNode { effect: TaintEffect::NoSchedule, .. })
            | Self::IsolatePod(_)
            | Self::DelayNetwork(_)
            | Self::LossyNetwork(_)
            | Self::ResetConnections(_)
            | Self::FillVolume(_)
            | Self::SlowVolume(_)
            | Self::FailAttach(_)
            | Self::StopApiServer(_)
            | Self::StopController(_)
            | Self::BreakEndpoints(_) => Toll::Spares,
        }
    }

    /// Whether what it hits can be looked at, and must look different while it is in force.
    #[must_use]
    pub const fn is_witnessed(&self) -> bool {
        match self {
            Self::FreezeProcess(_)
            | Self::RestartWorkload(_)
            | Self::ScaleToZero(_)
            | Self::RebootNode(_)
            | Self::FreezeNode(_)
            | Self::StopKubelet(_)
            | Self::IsolateNode(_)
            | Self::TaintNode(_)
            | Self::IsolatePod(_)
            | Self::DelayNetwork(_)
            | Self::LossyNetwork(_)
            | Self::FillVolume(_)
            | Self::SlowVolume(_)
            | Self::FailAttach(_)
            | Self::StopApiServer(_)
            | Self::StopController(_)
            | Self::BreakEndpoints(_) => true,
            Self::KillProcess(_)
            | Self::KillContainer(_)
            | Self::ExhaustMemory(_)
            | Self::DeletePod(_)
            | Self::EvictPod(_)
            | Self::DrainNode(_)
            | Self::CordonNode(_)
            | Self::CrashNode(_)
            | Self::ResetConnections(_) => false,
        }
    }

    /// How long it lasts, for a fault that does: then what it did is undone while the recovery is watched. `Some(None)`: as long as the platform says.
    #[must_use]
    pub const fn lasts(&self) -> Option<Option<&Limit>> {
        match self {
            Self::FreezeProcess(FreezeProcess { lasts, .. })
            | Self::ScaleToZero(ScaleToZero { lasts })
            | Self::CordonNode(CordonNode { lasts, .. })
            | Self::FreezeNode(FreezeNode { lasts, .. })
            | Self::StopKubelet(StopKubelet { lasts, .. })
            | Self::IsolateNode(IsolateNode { lasts, .. })
            | Self::TaintNode(TaintNode { lasts, .. })
            | Self::IsolatePod(IsolatePod { lasts })
            | Self::DelayNetwork(DelayNetwork { lasts, .. })
            | Self::LossyNetwork(LossyNetwork { lasts, .. })
            | Self::FillVolume(FillVolume { lasts })
            | Self::SlowVolume(SlowVolume { lasts, .. })
            | Self::FailAttach(FailAttach { lasts })
            | Self::StopApiServer(StopApiServer { lasts })
            | Self::StopController(StopController { lasts, .. })
            | Self::BreakEndpoints(BreakEndpoints { lasts }) => Some(lasts.as_ref()),
            Self::KillProcess(_)
            | Self::KillContainer(_)
            | Self::ExhaustMemory(_)
            | Self::DeletePod(_)
            | Self::EvictPod(_)
            | Self::RestartWorkload(_)
            | Self::DrainNode(_)
            | Self::CrashNode(_)
            | Self::RebootNode(_)
            | Self::ResetConnections(_) => None,
        }
    }
}

/// Adds the short forms to the schema that is derived: serde never reads them, the walker turns them into the long one.
fn allow_the_name_alone(schema: &mut Schema) {
    let names: Vec<_> = FaultSpec::all().iter().map(FaultSpec::name).collect();
    let Some(Value::Array(forms)) = schema.get_mut("oneOf") else { return };
    for form in &mut *forms {
        for fault in form["properties"].as_object_mut().into_iter().flat_map(|properties| properties.values_mut()) {
            *fault = json!({ "anyOf": [fault.take(), { "type": "null" }] });
        }
    }
    forms.push(json!({ "description": "The fault with its defaults.", "type": "string", "enum": names }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own_and_says_what_it_does() {
        let all = FaultSpec::all();
        let names: std::collections::BTreeSet<_> = all.iter().map(FaultSpec::name).collect();
        assert_eq!(names.len(), all.len());
        for fault in all {
            assert_eq!(serde_json::to_value(&fault).unwrap().as_object().unwrap().keys().next().unwrap(), fault.name());
            assert!(!fault.about().is_empty(), "{} is not described", fault.name());
        }
    }

    #[test]
    fn what_hits_another_node_spares_the_server() {
        let crash = |node| FaultSpec::CrashNode(CrashNode { node, ..CrashNode::default() }).toll();
        assert_eq!(crash(NodeChoice::Target), Toll::Ends);
        assert_eq!(crash(NodeChoice::Other), Toll::Spares);
        assert_eq!(crash(NodeChoice::Name("w".into())), Toll::May);
    }
}
