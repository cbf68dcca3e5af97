//! The eviction of a pod, as `drainNode` and `evictPod` do it: through the eviction API, which asks disruption budgets first.

use std::time::Duration;

use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::Eviction},
    apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions, Status},
};
use kube::api::{ObjectMeta, PostParams};
use tokio::time::Instant;

use super::{FaultError, Scene};
use crate::{cluster::chain, event::PodFacts, scenario::HumanDuration};

/// How long a blocked eviction is tried again, and how often, as `kubectl drain` does.
const EVICTION_DEADLINE: Duration = Duration::from_mins(2);
const EVICTION_PERIOD: Duration = Duration::from_secs(5);

/// What the API server answers while a budget blocks an eviction.
const BUDGET_BLOCKS: u16 = 429;
const NOT_FOUND: u16 = 404;

/// Evicts the pod, asking again while a budget blocks it.
pub(super) async fn evict(scene: &Scene<'_>, pod: &PodFacts, grace: Option<HumanDuration>) -> Result<(), FaultError> {
    // Not `Api::evict`: that one drops the options (it spells them `delete_options`).
    let eviction = Eviction {
        metadata: ObjectMeta {
            name: Some(pod.name.clone()),
            namespace: Some(scene.cluster.target.namespace.clone()),
            ..ObjectMeta::default()
        },
        delete_options: Some(DeleteOptions {
            grace_period_seconds: grace.map(|grace| i64::from(super::whole_seconds(grace.0))),
            preconditions: Some(Preconditions { uid: Some(pod.uid.clone()), resource_version: None }),
            ..DeleteOptions::default()
        }),
    };
    let pods = scene.cluster.namespaced::<Pod>();
    let params = PostParams::default();
    let deadline = Instant::now() + EVICTION_DEADLINE;
    loop {
        let call = pods.create_subresource::<Eviction, Status>("eviction", &pod.name, &params, &eviction);
        match scene.cluster.call(format!("evict pod `{}`", pod.name), call).await {
            Ok(_) => return Ok(()),
            Err(error) if error.status() == Some(NOT_FOUND) => return Ok(()),
            Err(error) if error.status() == Some(BUDGET_BLOCKS) => {
                if Instant::now() + EVICTION_PERIOD > deadline {
                    let refusal = chain(&error);
                    return Err(FaultError::EvictionBlocked { pod: pod.name.clone(), deadline: EVICTION_DEADLINE, refusal });
                }
                if scene.stop.run_until_cancelled(tokio::time::sleep(EVICTION_PERIOD)).await.is_none() {
                    return Err(FaultError::Interrupted);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}
