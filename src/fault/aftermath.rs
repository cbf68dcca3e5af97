//! What goes on beside the recovery: the node that is started again, and the help that an operator would give.
//!
//! A pod on a dead node is marked for deletion and stays, because nobody confirms its end. What is done about it is the scenario's choice
//! ([`Assist`]); it is done when it is needed and not before: the node is seen to be lost, the pod has its deletion stamp and is still there.
//! All of it is for a node that is certainly off: two servers on one volume would be worse than none. So the power is asked again right
//! before.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use kube::api::{DeleteParams, Preconditions};

use super::{FaultError, Journal, Scene, Undo, undo::set_taints};
use crate::{
    cluster::View,
    event::{PodFacts, Settings},
    platform::Power,
    scenario::{After, Assist, CrashNode, FaultSpec, Injection},
};

/// The taint that tells Kubernetes that a node is off for certain.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
const OUT_OF_SERVICE_VALUE: &str = "nodeshutdown";
const NO_EXECUTE: &str = "NoExecute";

const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;

/// What goes on beside the recovery from a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aftermath {
    /// How long after the fault what it did is undone, whether or not the database is back.
    pub restore_after: Option<Duration>,
    /// The help that is given.
    pub assist: Assist,
}

impl FaultSpec {
    /// What goes on beside the recovery from it, on a platform of this name where a fault lasts so long unless it says otherwise; `None`: nothing.
    #[must_use]
    pub fn aftermath(&self, platform: &str, lasting: Duration) -> Option<Aftermath> {
        if let Self::CrashNode(CrashNode { restore_after, assist, .. }) = self {
            return Some(Aftermath { restore_after: restore_after.map(|after| after.0), assist: *assist });
        }
        let lasts = self.lasting(platform, lasting)?;
        Some(Aftermath { restore_after: Some(lasts), assist: Assist::None })
    }

    /// How long it may be, in a trial of these faults with these settings, until what it did is undone: from then on, and a little later, what it did may mend
    /// by itself.
    #[must_use]
    pub fn undone_within(&self, platform: &str, settings: &Settings, faults: &[Injection]) -> Duration {
        match self {
            Self::CrashNode(CrashNode { restore_after: Some(after), .. }) => after.0,
            // When the recovery is over. It, and that from each fault beside, is given up; and they may come late, and last.
            Self::CrashNode(_) | Self::RebootNode(_) => faults.iter().fold(settings.give_up_after, |sum, injection| {
                let late = match injection.after {
                    Some(After::Elapsed(time)) => time.0,
                    _ => Duration::ZERO,
                };
                let lasts = injection.fault.lasting(platform, settings.lasting).unwrap_or_default();
                sum.saturating_add(settings.give_up_after).saturating_add(late).saturating_add(lasts)
            }),
            _ => self.lasting(platform, settings.lasting).unwrap_or(settings.lasting),
        }
    }

    /// How long it lasts there, if it is one that does.
    #[must_use]
    pub fn lasting(&self, platform: &str, lasting: Duration) -> Option<Duration> {
        let lasts = self.lasts()?;
        Some(lasts.and_then(|limit| limit.on(platform)).unwrap_or(lasting))
    }
}

/// Whether the pod hangs on a dead node.
#[must_use]
pub fn hangs(view: &View, pod: &PodFacts) -> bool {
    let Some(node) = &pod.node else { return false };
    let lost = view.nodes.get(node).is_none_or(|node| !node.ready);
    lost && view.pods.get(&pod.uid).is_some_and(|pod| pod.terminating)
}

/// Helps a pod that hangs on a dead node, and says what was done. `None`: it was not needed any more. What has to be undone is written down as of this
/// fault of this trial.
pub async fn assist(
    scene: &Scene<'_>,
    journal: &Journal,
    (trial, fault): (u32, usize),
    pod: &PodFacts,
    assist: Assist,
) -> Result<Option<String>, FaultError> {
    let Some(node) = pod.node.as_deref() else { return Ok(None) };
    if assist == Assist::None || scene.platform.power(node).await? == Power::On {
        return Ok(None);
    }
    match assist {
        Assist::None => Ok(None),
        Assist::ForceDelete => force_delete(scene, pod).await,
        Assist::OutOfServiceTaint => {
            let undo = Undo::RemoveTaint { node: node.to_owned(), key: OUT_OF_SERVICE.to_owned(), effect: NO_EXECUTE.to_owned() };
            journal.begin(trial, fault, undo).await?;
            taint(scene, node).await.map(Some)
        }
        Assist::DeleteNode => delete_node(scene, node).await,
    }
}

async fn force_delete(scene: &Scene<'_>, pod: &PodFacts) -> Result<Option<String>, FaultError> {
    let name = &pod.name;
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: Some(pod.uid.clone()), resource_version: None }),
        ..DeleteParams::default()
    };
    match scene.cluster.call(format!("force the deletion of pod `{name}`"), scene.cluster.namespaced::<Pod>().delete(name, &params)).await {
        Ok(_) => Ok(Some(format!("pod `{name}` was deleted by force"))),
        // It is gone, or another one has its name.
        Err(error) if matches!(error.status(), Some(NOT_FOUND | CONFLICT)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn taint(scene: &Scene<'_>, node: &str) -> Result<String, FaultError> {
    let what = format!("taint node `{node}` as out of service");
    let done = format!("node `{node}` was tainted as out of service");
    loop {
        let object = scene.cluster.node(node).await?;
        let mut taints = object.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        if taints.iter().any(|taint| taint.key == OUT_OF_SERVICE && taint.effect == NO_EXECUTE) {
            return Ok(done);
        }
        taints.push(Taint {
            key: OUT_OF_SERVICE.to_owned(),
            value: Some(OUT_OF_SERVICE_VALUE.to_owned()),
            effect: NO_EXECUTE.to_owned(),
            time_added: None,
        });
        match set_taints(scene.cluster, &what, &object, &taints).await {
            Ok(()) => return Ok(done),
            // Somebody changed the node in between: it is read anew.
            Err(error) if error.status() == Some(CONFLICT) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn delete_node(scene: &Scene<'_>, node: &str) -> Result<Option<String>, FaultError> {
    let object = match scene.cluster.node(node).await {
        Ok(object) => object,
        Err(error) if error.status() == Some(NOT_FOUND) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let preconditions = Preconditions { uid: object.metadata.uid, resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match scene.cluster.call(format!("delete node `{node}`"), scene.cluster.all::<Node>().delete(node, &params)).await {
        Ok(_) => Ok(Some(format!("the object of node `{node}` was deleted"))),
        Err(error) if matches!(error.status(), Some(NOT_FOUND | CONFLICT)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::watch::NodeView;

    fn facts(terminating: bool) -> PodFacts {
        PodFacts {
            name: "mssql-0".into(),
            uid: "u".into(),
            node: Some("w1".into()),
            phase: "Running".into(),
            terminating,
            ready: false,
            container_id: None,
            restart_count: 0,
            running: true,
            last_end: None,
        }
    }

    fn view(ready: Option<bool>, pod: Option<PodFacts>) -> View {
        let mut view = View::default();
        if let Some(ready) = ready {
            view.nodes.insert("w1".into(), NodeView { uid: "n".into(), ready, unschedulable: false });
        }
        view.pods.extend(pod.map(|pod| (pod.uid.clone(), pod)));
        view
    }

    #[test]
    fn help_is_needed_when_the_node_is_lost_and_the_marked_pod_is_still_there() {
        let pod = facts(false);
        assert!(hangs(&view(Some(false), Some(facts(true))), &pod));
        assert!(hangs(&view(None, Some(facts(true))), &pod), "the node's object is gone");
        assert!(!hangs(&view(Some(true), Some(facts(true))), &pod), "the node lives and will confirm the end");
        assert!(!hangs(&view(Some(false), Some(facts(false))), &pod), "it is not marked for deletion");
        assert!(!hangs(&view(Some(false), None), &pod), "it is gone");
    }
}
