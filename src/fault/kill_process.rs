//! `killProcess`: a process in the database's container gets a signal.
//!
//! Breaks: the engine (or its watchdog, or any process by name) ends without a word. Clients see a reset connection, then refused ones. The
//! kubelet starts the container anew in the same pod. There is nothing to undo: that it is started again is what is tested.

use super::{Aim, EFFECT_DEADLINE, Fault, FaultError, Scene};
use crate::{
    cluster::ClusterError,
    event::PodFacts,
    platform::{Capability, Container},
    scenario::KillProcess,
};

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
        Ok(Aim { what, mechanism, pod, way: Some(way), undo: Vec::new() })
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
        let old = &aim.pod;
        let seen = scene.watches.wait_until("the end of the container", EFFECT_DEADLINE, |view| match view.pods.get(&old.uid) {
            None if view.gone.contains(&old.uid) => Some(format!("pod `{}` is gone", old.name)),
            Some(now) if now.restart_count > old.restart_count || now.container_id != old.container_id => Some(format!(
                "container restarted, count {}, last end: {}",
                now.restart_count,
                now.last_end.as_deref().unwrap_or("unknown")
            )),
            Some(now) if !now.running => Some(format!("container ended: {}", now.last_end.as_deref().unwrap_or("unknown"))),
            Some(_) | None => None,
        });
        seen.await.ok()
    }
}

/// The database's container by all its names.
fn container<'a>(scene: &'a Scene<'_>, pod: &'a PodFacts) -> Container<'a> {
    let target = &scene.cluster.target;
    Container {
        namespace: &target.namespace,
        pod: &pod.name,
        container: &target.container,
        id: pod.container_id.as_deref(),
        node: pod.node.as_deref(),
    }
}
