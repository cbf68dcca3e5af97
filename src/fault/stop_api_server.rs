//! `stopApiServer`: the API server is stopped for a while.
//!
//! Breaks: nothing can be asked of the cluster, and nothing is changed in it: a pod that ends meanwhile is not replaced. What serves goes on serving, and
//! clients notice nothing. Undone by starting it, which does not go through it.

use super::{Aim, Fault, FaultError, Scene, consent::control_plane, hold};
use crate::{
    platform::{Capability, Hurt},
    scenario::StopApiServer,
};

impl Fault for StopApiServer {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::ApiServer]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let node = control_plane(scene).await?;
        hold::aim(scene, pod, "the API server".to_owned(), None, Hurt::StoppedApiServer { node })
    }
}
