//! `exhaustMemory`: the database's container takes more memory than it may have.
//!
//! Breaks: the kernel kills processes of the container until there is room, and the container ends with the reason `OOMKilled`. The kubelet starts
//! it anew in the same pod. Only a container with a limit is ever filled: without one the node would run out of memory, and with it everybody on it.
//! There is nothing to undo: what took the memory was killed with it.

use k8s_openapi::api::core::v1::Pod;

use super::{Aim, Fault, FaultError, Scene, container, container_ended};
use crate::{cluster::pod_facts, platform::Capability, scenario::ExhaustMemory};

impl Fault for ExhaustMemory {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::Memory]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let means = scene.platform.can(Capability::Memory).map_err(FaultError::NotPossible)?;
        let object = scene.cluster.pod().await?;
        let name = &scene.cluster.target.container;
        let Some(limit) = limit(&object, name) else {
            return Err(FaultError::NotPossible(format!(
                "container `{name}` has no memory limit: its node would run out of memory instead"
            )));
        };
        let pod = pod_facts(&object, name);
        let what = format!("container `{name}` of pod `{}`, which may have {limit} of memory", pod.name);
        Ok(Aim::at(what, means.mechanism, pod))
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        Ok(scene.platform.exhaust_memory(&container(scene, &aim.pod)).await?)
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        container_ended(scene, &aim.pod).await
    }
}

fn limit(pod: &Pod, container: &str) -> Option<String> {
    let container = pod.spec.as_ref()?.containers.iter().find(|one| one.name == container)?;
    Some(container.resources.as_ref()?.limits.as_ref()?.get("memory")?.0.clone())
}
