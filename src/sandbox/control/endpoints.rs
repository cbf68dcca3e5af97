//! Endpoint slices: which pods are behind a service, and which of them may take traffic.
//!
//! A pod may while it is ready and nobody has asked it to go: a terminating pod is out of service from the moment of its deletion.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{
    Cluster,
    kinds::Kind,
    object::{self, Look, condition_holds},
    selector::Labels,
    store::{Key, Part, random_suffix},
};

/// The label that says whose slice it is.
const OF_SERVICE: &str = "kubernetes.io/service-name";
/// Who keeps the slices.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";

/// Brings the slice of every service up to date.
pub(super) fn reconcile(cluster: &Cluster) {
    let slices = cluster.store.list(Kind::EndpointSlice, None);
    for service in cluster.store.list(Kind::Service, None) {
        let selector = Labels::of_map(&service["spec"]["selector"]);
        // Without a selector, whoever made the service keeps its endpoints.
        if selector.is_empty() || service.is_terminating() {
            continue;
        }
        let pods = cluster.store.list(Kind::Pod, Some(service.namespace()));
        let behind: Vec<_> = pods
            .iter()
            .filter(|pod| selector.matches(pod) && !object::pod::is_finished(pod) && !pod.text("/status/podIP").is_empty())
            .collect();
        let endpoints: Vec<_> = behind.iter().map(|pod| endpoint(&service, pod)).collect();
        let ports: Vec<_> = service.list("/spec/ports").iter().filter_map(|port| slice_port(port, &behind)).collect();
        // By uid: a slice of a service of the same name that was deleted is not ours.
        let known = slices.iter().find(|slice| object::is_controlled_by(slice, service.uid()));
        if let Some(known) = known {
            let change = |slice: &mut Value| {
                slice["endpoints"] = endpoints.into();
                slice["ports"] = ports.into();
                Ok(())
            };
            cluster.store.update(&Key::of(Kind::EndpointSlice, known), Part::Whole, false, change).ok();
            continue;
        }
        let mut labels = service.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
        labels[OF_SERVICE] = service.name().into();
        labels[MANAGED_BY] = CONTROLLER.into();
        let slice = json!({
            "metadata": {
                "name": format!("{}-{}", service.name(), random_suffix(5)), "generateName": format!("{}-", service.name()),
                "namespace": service.namespace(), "labels": labels, "ownerReferences": [object::controller_reference(&service)],
            },
            "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
        });
        cluster.store.create(Kind::EndpointSlice, slice, false).ok();
    }
}

fn endpoint(service: &Value, pod: &Value) -> Value {
    let serving = condition_holds(pod, "Ready");
    let ready = object::pod::is_ready(pod) || service.flag("/spec/publishNotReadyAddresses");
    json!({
        "addresses": [pod.text("/status/podIP")],
        "conditions": { "ready": ready, "serving": serving, "terminating": pod.is_terminating() },
        "nodeName": pod.text("/spec/nodeName"),
        "targetRef": { "kind": "Pod", "namespace": pod.namespace(), "name": pod.name(), "uid": pod.uid() },
    })
}

/// The port of the pods that a port of the service leads to. A named one is looked up in the first pod that has it.
fn slice_port(port: &Value, pods: &[&Arc<Value>]) -> Option<Value> {
    let target = &port["targetPort"];
    let number = target.as_i64().or_else(|| {
        let name = target.as_str()?;
        let ports = pods.iter().flat_map(|pod| pod.list("/spec/containers")).flat_map(|container| container.list("/ports"));
        ports.filter(|port| port.text("/name") == name).find_map(|port| port.int("/containerPort"))
    })?;
    Some(json!({ "name": port.text("/name"), "port": number, "protocol": port.text("/protocol") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_was_asked_to_go_serves_but_is_not_ready() {
        let mut pod = json!({ "status": { "podIP": "127.1.1.70" } });
        object::set_condition(&mut pod, "Ready", true, "", "");
        assert_eq!(endpoint(&json!({}), &pod)["conditions"], json!({ "ready": true, "serving": true, "terminating": false }));
        object::set(&mut pod, "/metadata/deletionTimestamp", "2026-01-01T00:00:00Z");
        assert_eq!(endpoint(&json!({}), &pod)["conditions"], json!({ "ready": false, "serving": true, "terminating": true }));
    }

    #[test]
    fn a_named_target_port_is_looked_up_in_the_pods() {
        let pod = Arc::new(json!({ "spec": { "containers": [{ "ports": [{ "name": "tds", "containerPort": 1433 }] }] } }));
        let port = json!({ "port": 1, "targetPort": "tds", "protocol": "TCP" });
        assert_eq!(slice_port(&port, &[&pod]).unwrap()["port"], 1433);
        assert_eq!(slice_port(&port, &[]), None);
    }
}
