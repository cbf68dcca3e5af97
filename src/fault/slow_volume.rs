//! `slowVolume`: flushes to the database's volume take longer for a while.
//!
//! Breaks: every commit waits for its flush, so writes take longer, and one after the other. On the sandbox each is late by the
//! delay. On kind, whose kernel may have nothing that holds back a disk, the file system is frozen for two and a half times the delay at a time, with a
//! moment between: a flush that comes at any time waits for at least the delay as often as not. Undone by taking the brake away.

use super::{Aim, Fault, FaultError, Scene, hold};
use crate::{
    platform::{Capability, Hurt},
    scenario::SlowVolume,
};

impl Fault for SlowVolume {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::VolumeSpeed]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        hold::aim_at_volume(scene, |volume| Hurt::SlowVolume { volume, ms: u64::try_from(self.delay.0.as_millis()).unwrap_or(u64::MAX) })
            .await
    }
}
