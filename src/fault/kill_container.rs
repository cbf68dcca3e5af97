//! `killContainer`: the first process of the database's container is killed from outside, and so all of the container.
//!
//! Breaks: everything in the container ends at once, without a word: no watchdog is left to notice. The kubelet starts the container anew in the
//! same pod. From inside it cannot be done: the kernel drops what the first process of a container gets from its own kind, and says that all is well.
//! There is nothing to undo: that it is started again is what is tested.

use super::{Aim, Fault, FaultError, Scene, container, container_ended};
use crate::{
    cluster::ClusterError,
    platform::{Capability, processes::FIRST_NAME},
    scenario::{KillContainer, Signal},
};

impl Fault for KillContainer {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::KillContainer]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        if pod.container_id.is_none() {
            return Err(ClusterError::Incomplete { what: format!("pod `{}`", pod.name), missing: "running container" }.into());
        }
        let way = scene.platform.aim_signal(&container(scene, &pod), FIRST_NAME).await?;
        let mechanism = format!("{}, SIGKILL to the container's first process", way.mechanism());
        let what = format!("container `{}` of pod `{}`", scene.cluster.target.container, pod.name);
        Ok(Aim { way: Some(way), ..Aim::at(what, mechanism, pod) })
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        let way = aim.way.as_ref().expect("aiming has found the way");
        let killed = scene.platform.signal(&container(scene, &aim.pod), way, FIRST_NAME, Signal::Sigkill).await?;
        let all: Vec<String> = killed.iter().map(|process| format!("{} (pid {} on the node)", process.comm, process.pid)).collect();
        Ok(format!("SIGKILL sent to {}", all.join(", ")))
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        container_ended(scene, &aim.pod).await
    }
}
