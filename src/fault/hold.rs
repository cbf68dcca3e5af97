//! What all faults that last share: they hurt something, hold it for a while, and let it go.
//!
//! The [`Hurt`] is written to the journal before it is begun, and mends by itself if nobody is left to do it. Its effect is seen when what it hits looks
//! different from before; how, is evidence.

use tokio::time::{Instant, sleep};

use super::{Aim, Fault, FaultError, Scene, Undo};
use crate::{event::PodFacts, platform::Hurt};

/// How often what is hurt is looked at while its effect is waited for.
const LOOK_PERIOD: std::time::Duration = std::time::Duration::from_millis(100);

/// Aims at what is to be hurt, if this place can do that.
pub(super) fn aim(scene: &Scene<'_>, pod: PodFacts, what: String, node: Option<String>, hurt: Hurt) -> Result<Aim, FaultError> {
    let means = scene.platform.can(hurt.needs()).map_err(FaultError::NotPossible)?;
    let undo = vec![Undo::Mend { hurt: hurt.clone() }];
    Ok(Aim { node, hurt: Some(hurt), undo, ..Aim::at(what, means.mechanism, pod) })
}

/// Hurts it, for as long as the fault lasts at most.
pub(super) async fn begin(scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
    let hurt = aim.hurt.as_ref().expect("aiming has said what is hurt");
    scene.platform.begin(hurt, scene.lasting).await?;
    Ok(format!("begun: {hurt}"))
}

/// Waits until what the fault hits looks different from how it is when it is whole.
pub(super) async fn until_hurt(fault: &impl Fault, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
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
