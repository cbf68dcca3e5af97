//! `fillVolume`: the database's volume is full for a while.
//!
//! Breaks: writes are refused with the server's error for a full disk (1105, 9002); reads go on. Only a volume with a size of its own is filled: a
//! folder of a machine's disk never is. On kind that is a file system in a file, and what fills it is only set aside in it, so that it takes nothing from
//! the disk below. Undone by taking away what filled it.

use super::{Aim, Fault, FaultError, Scene, hold};
use crate::{
    platform::{Capability, Hurt},
    scenario::FillVolume,
};

impl Fault for FillVolume {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::VolumeSize]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        hold::aim_at_volume(scene, |volume| Hurt::FullVolume { volume }).await
    }
}
