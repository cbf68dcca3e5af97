//! `failAttach`: the database's volume can be neither attached nor mounted anew for a while.
//!
//! Breaks: nothing, as long as the pod stays where it is. A pod that has to start waits, and says why in its events. On kind
//! nothing attaches a volume, and its folder is put aside instead: whoever has mounted it keeps it, and no kubelet mounts it anew. Undone by letting it be
//! attached.

use super::{Aim, Fault, FaultError, Scene, hold};
use crate::{
    platform::{Capability, Hurt},
    scenario::FailAttach,
};

impl Fault for FailAttach {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::VolumeAttach]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        hold::aim_at_volume(scene, |volume| Hurt::UnattachableVolume { volume }).await
    }
}
