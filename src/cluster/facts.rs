//! What is known of a pod, taken from the object.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::event::PodFacts;

/// The facts of a pod; `container` is the one that runs the database.
#[must_use]
pub fn pod_facts(pod: &Pod, container: &str) -> PodFacts {
    let status = pod.status.clone().unwrap_or_default();
    let container = status.container_statuses.iter().flatten().find(|status| status.name == container);
    let ready = status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    PodFacts {
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        phase: status.phase.clone().unwrap_or_default(),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        ready,
        container_id: container.and_then(|status| status.container_id.clone()).filter(|id| !id.is_empty()),
        restart_count: container.map_or(0, |status| status.restart_count),
        running: container.is_some_and(|status| status.state.as_ref().is_some_and(|state| state.running.is_some())),
        last_end: container.and_then(last_end),
    }
}

fn last_end(status: &ContainerStatus) -> Option<String> {
    let ended = [&status.state, &status.last_state].into_iter().flatten().find_map(|state| state.terminated.as_ref())?;
    Some(format!("{}, exit code {}", ended.reason.as_deref().unwrap_or("ended"), ended.exit_code))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_restarted_container_is_told_with_its_last_end() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "mssql-1", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "worker-1", "containers": []},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [
                    {"name": "sidecar", "image": "", "imageID": "", "ready": true, "restartCount": 9, "containerID": "other"},
                    {"name": "mssql", "image": "", "imageID": "", "ready": false, "restartCount": 1, "containerID": "x://2",
                     "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                     "lastState": {"terminated": {"exitCode": 137, "reason": "Error"}}},
                ],
            },
        }))
        .unwrap();
        let facts = pod_facts(&pod, "mssql");
        assert_eq!((facts.restart_count, facts.container_id.as_deref()), (1, Some("x://2")));
        assert_eq!(facts.last_end.as_deref(), Some("Error, exit code 137"));
        assert!(facts.terminating && facts.running && !facts.ready);
    }

    #[test]
    fn a_pod_without_a_container_yet_has_no_id() {
        let facts = pod_facts(&Pod::default(), "mssql");
        assert_eq!((facts.container_id, facts.running, facts.node), (None, false, None));
    }
}
