//! `failAttach`: the database's volume can be neither attached nor mounted anew for a while.
//!
//! Breaks: nothing, as long as the pod stays where it is. A pod that has to start waits, and says why in its events. On kind
//! nothing attaches a volume, and its folder is put aside instead: whoever has mounted it keeps it, and no kubelet mounts it anew. Undone by letting it be
//! attached.

use super::{Aim, Fault, FaultError, Scene, hold};
use crate::{
    cluster::pod_facts,
    platform::{Capability, Hurt},
    scenario::FailAttach,
};

impl Fault for FailAttach {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::VolumeAttach]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod().await?;
        let volume = scene.cluster.volume(&pod).await?.volume;
        let pod = pod_facts(&pod, &scene.cluster.target.container);
        let what = format!("volume `{volume}` of pod `{}`", pod.name);
        hold::aim(scene, pod, what, None, Hurt::UnattachableVolume { volume })
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        hold::begin(scene, aim).await
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        hold::until_hurt(self, scene, aim).await
    }
}
