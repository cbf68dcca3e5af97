//! What all faults that last share: they hurt something, hold it for a while, and let it go.
//!
//! The [`Hurt`] is written to the journal before it is begun, and mends by itself if nobody is left to do it. Its effect is seen when what it hits looks
//! different from before; how, is evidence.

use tokio::time::{Instant, sleep};

use super::{
    Aim, Fault, FaultError, Scene, Undo,
    nodes::{Harm, address, one_victim, with_pod},
};
use crate::{cluster::pod_facts, event::PodFacts, platform::Hurt, scenario::NodeChoice};

/// How often what is hurt is looked at while its effect is waited for.
const LOOK_PERIOD: std::time::Duration = std::time::Duration::from_millis(100);

/// Aims at what is to be hurt, if this place can do that, and for so long.
pub(super) fn aim(scene: &Scene<'_>, pod: PodFacts, what: String, node: Option<String>, hurt: Hurt) -> Result<Aim, FaultError> {
    let means = scene.platform.can(hurt.needs()).map_err(FaultError::NotPossible)?;
    scene.platform.can_last(&hurt, scene.lasting).map_err(FaultError::NotPossible)?;
    let undo = vec![Undo::Mend { hurt: hurt.clone() }];
    Ok(Aim { node, hurt: Some(hurt), undo, ..Aim::at(what, means.mechanism, pod) })
}

/// Aims at the network of the database's pod, on its node.
pub(super) async fn aim_at_pod(scene: &Scene<'_>, hurt: impl FnOnce(String, String) -> Hurt) -> Result<Aim, FaultError> {
    let pod = scene.cluster.pod_facts().await?;
    let (node, address) = address(scene, &pod).await?;
    let what = format!("pod `{}` at {address} on node `{node}`", pod.name);
    aim(scene, pod, what, None, hurt(node, address))
}

/// Aims at the node that is meant.
pub(super) async fn aim_at_node(scene: &Scene<'_>, node: &NodeChoice, hurt: impl FnOnce(String) -> Hurt) -> Result<Aim, FaultError> {
    let pod = scene.cluster.pod_facts().await?;
    let node = one_victim(scene, node, &pod, Harm::Stops).await?;
    let what = format!("node `{node}`{}", with_pod(&node, &pod));
    aim(scene, pod, what, Some(node.clone()), hurt(node))
}

/// Aims at the database's volume.
pub(super) async fn aim_at_volume(scene: &Scene<'_>, hurt: impl FnOnce(String) -> Hurt) -> Result<Aim, FaultError> {
    let pod = scene.cluster.pod().await?;
    let volume = scene.cluster.volume(&pod).await?.volume;
    let pod = pod_facts(&pod, &scene.cluster.target.container);
    let what = format!("volume `{volume}` of pod `{}`", pod.name);
    aim(scene, pod, what, None, hurt(volume))
}

/// Hurts it, for as long as the fault lasts at most.
pub(super) async fn begin(scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
    let hurt =
        aim.hurt.as_ref().ok_or_else(|| FaultError::NotPossible("nobody has said what it hurts: a defect of comeback".to_owned()))?;
    scene.platform.begin(hurt, scene.lasting).await?;
    Ok(format!("begun: {hurt}"))
}

/// Waits until what the fault hits looks different from how it is when it is whole.
pub(super) async fn until_hurt(fault: &(impl Fault + ?Sized), scene: &Scene<'_>, aim: &Aim) -> Option<String> {
    let hurt = aim.hurt.as_ref()?;
    let end = Instant::now() + scene.patience;
    loop {
        match fault.witness(scene, aim).await {
            // That it is set is enough to go on; what it did is asked again before it is undone, and all of that is evidence.
            Ok(facts) if facts.iter().any(|fact| !hurt.is_whole(&fact.value)) => {
                let all: Vec<String> = facts.iter().map(|fact| format!("{}: {}", fact.what, fact.value)).collect();
                return Some(all.join(", "));
            }
            Ok(_) | Err(_) if Instant::now() > end || scene.stop.is_cancelled() => return None,
            Ok(_) | Err(_) => {}
        }
        sleep(LOOK_PERIOD).await;
    }
}
