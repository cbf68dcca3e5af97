//! `killProcess`: a process in the database's container gets a signal.
//!
//! Breaks: the engine (or its watchdog, or any process by name) ends without a word. Clients see a reset connection, then refused ones. The
//! kubelet starts the container anew in the same pod. There is nothing to undo: that it is started again is what is tested.

use super::{Aim, Fault, FaultError, Scene, container, container_ended};
use crate::{cluster::ClusterError, platform::Capability, scenario::KillProcess};

impl Fault for KillProcess {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::SignalProcess]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        if pod.container_id.is_none() {
            return Err(ClusterError::Incomplete { what: format!("pod `{}`", pod.name), missing: "running container" }.into());
        }
        let way = scene.platform.aim_signal(&container(scene, &pod), &self.process).await?;
        let what = format!("process `{}` in pod `{}`", self.process, pod.name);
        let mechanism = format!("{}, {}", way.mechanism(), self.signal.name());
        Ok(Aim { way: Some(way), ..Aim::at(what, mechanism, pod) })
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        let way = aim.way.as_ref().expect("aiming has found the way");
        let signalled = scene.platform.signal(&container(scene, &aim.pod), way, &self.process, self.signal).await?;
        if signalled.is_empty() {
            return Ok(format!("{} was called for, and the container ended before it was told who got it", self.signal.name()));
        }
        let all: Vec<String> = signalled.iter().map(|process| format!("{} (pid {})", process.comm, process.pid)).collect();
        Ok(format!("{} sent to {}", self.signal.name(), all.join(", ")))
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        container_ended(scene, &aim.pod).await
    }
}
