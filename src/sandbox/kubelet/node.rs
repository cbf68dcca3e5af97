//! What a kubelet says of its node: the object, its status, its lease.
//!
//! The lease is renewed every ten seconds, the status every five minutes or when something changed, both divided by the speed. By the lease the control plane
//! knows that the kubelet is there ([`nodes`](super::super::control)).

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    super::{
        Cluster,
        api::{VERSION, architecture},
        events::{Source, Tone, tell},
        kinds::Kind,
        object::{self, Look},
        store::{Key, Part},
    },
    CONTROL_PLANE,
};

/// How often a lease is renewed.
pub(super) const RENEW: Duration = Duration::from_secs(10);
/// How many renewals there are between two reports of an unchanged status: five minutes.
pub(super) const REPORT_EVERY: u64 = 30;
/// How long a lease is good for, in seconds, as its object says.
const LEASE_SECONDS: i64 = 40;
/// The namespace of the nodes' leases.
const LEASES: &str = "kube-node-lease";

/// What a healthy kubelet says of its node: type, status, reason, message.
const HEALTHY: [[&str; 4]; 4] = [
    ["MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"],
    ["DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
    ["PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"],
    ["Ready", "True", "KubeletReady", "kubelet is posting ready status"],
];

/// Makes the object of a node, unless it is there. The control plane is number 0.
pub(in super::super) fn register(cluster: &Cluster, name: &str, number: u8, boot: &str) {
    let address = cluster.network.node(number).map(|address| address.to_string()).unwrap_or_default();
    let arch = architecture();
    let mut labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": arch,
        "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": arch,
    });
    let mut spec =
        json!({ "podCIDR": cluster.network.range(), "podCIDRs": [cluster.network.range()], "providerID": format!("sandbox://{name}") });
    if number == 0 {
        labels[CONTROL_PLANE] = "".into();
        spec["taints"] = json!([{ "key": CONTROL_PLANE, "effect": "NoSchedule" }]);
    }
    let machine = |file: &str| std::fs::read_to_string(file).map(|text| text.trim().to_owned()).unwrap_or_default();
    let capacity = json!({ "cpu": "4", "memory": "8Gi", "pods": "110", "ephemeral-storage": "64Gi" });
    let mut node = json!({
        "metadata": { "name": name, "labels": labels },
        "spec": spec,
        "status": {
            "capacity": capacity, "allocatable": capacity,
            "addresses": [{ "type": "InternalIP", "address": address }, { "type": "Hostname", "address": name }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": 10250 } },
            "nodeInfo": {
                "architecture": arch, "operatingSystem": "linux", "osImage": "comeback sandbox", "kernelVersion": machine("/proc/sys/kernel/osrelease"),
                "bootID": boot, "machineID": uuid::Uuid::new_v4().simple().to_string(),
                "systemUUID": uuid::Uuid::new_v4().to_string(), "containerRuntimeVersion": concat!("sandbox://", env!("CARGO_PKG_VERSION")),
                "kubeletVersion": VERSION, "kubeProxyVersion": "",
            },
        },
    });
    report(&mut node);
    // There already: the kubelet reports to the object that it finds.
    cluster.store.create(Kind::Node, node, false).ok();
}

/// Writes into a node's status that all is well with it.
fn report(node: &mut Value) {
    let now = object::now();
    let conditions = object::list_mut(node, "/status/conditions");
    for [kind, status, reason, message] in HEALTHY {
        let at = conditions.iter().position(|condition| condition.text("/type") == kind).unwrap_or_else(|| {
            conditions.push(json!({ "type": kind }));
            conditions.len() - 1
        });
        let condition = &mut conditions[at];
        if condition.text("/status") != status {
            object::set(condition, "/lastTransitionTime", now.as_str());
        }
        for (field, text) in [("/status", status), ("/reason", reason), ("/message", message), ("/lastHeartbeatTime", &now)] {
            object::set(condition, field, text);
        }
    }
}

/// Reports the node's status.
pub(super) fn report_status(cluster: &Cluster, name: &str) {
    let change = |node: &mut Value| {
        report(node);
        Ok(())
    };
    // A node whose object was deleted has nobody to report to until its kubelet starts again, as a real one.
    cluster.store.update(&Key::new(Kind::Node, "", name), Part::Status, false, change).ok();
}

/// What a kubelet does first when its machine has power again: its node is registered if it is not known any more, and says that it was booted.
pub(super) fn come_back(cluster: &Cluster, name: &str, number: u8) {
    let boot = uuid::Uuid::new_v4().to_string();
    register(cluster, name, number, &boot);
    let change = |node: &mut Value| {
        report(node);
        object::set(node, "/status/nodeInfo/bootID", boot.as_str());
        Ok(())
    };
    let Ok(node) = cluster.store.update(&Key::new(Kind::Node, "", name), Part::Status, false, change) else { return };
    let say = |tone, reason: &str, message: &str| tell(&cluster.store, Source::kubelet(name), &node, tone, reason, message);
    say(Tone::Normal, "Starting", "Starting kubelet.");
    for reason in ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"] {
        say(Tone::Normal, reason, &format!("Node {name} status is now: {reason}"));
    }
    say(Tone::Warning, "Rebooted", &format!("Node {name} has been rebooted, boot id: {boot}"));
    say(Tone::Normal, "NodeReady", &format!("Node {name} status is now: NodeReady"));
}

/// Renews the node's lease, or makes it.
pub(super) fn renew_lease(cluster: &Cluster, name: &str) {
    let Some(node) = cluster.store.get(Kind::Node, "", name) else { return };
    let key = Key::new(Kind::Lease, LEASES, name);
    let renew = |lease: &mut Value| {
        object::set(lease, "/spec/holderIdentity", name);
        object::set(lease, "/spec/leaseDurationSeconds", LEASE_SECONDS);
        object::set(lease, "/spec/renewTime", object::now_micro());
        Ok(())
    };
    if cluster.store.update(&key, Part::Main, false, renew).is_ok() {
        return;
    }
    let owner = json!({ "apiVersion": "v1", "kind": "Node", "name": name, "uid": node.uid() });
    let lease = json!({
        "metadata": { "name": name, "namespace": LEASES, "ownerReferences": [owner] },
        "spec": { "holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": object::now_micro() },
    });
    cluster.store.create(Kind::Lease, lease, false).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_ends_what_the_control_plane_thought_and_moves_the_stamps_of_what_changed() {
        let old = "2020-01-01T00:00:00Z";
        let condition =
            |kind: &str, status: &str| json!({ "type": kind, "status": status, "lastTransitionTime": old, "lastHeartbeatTime": old });
        let mut node = json!({ "status": { "conditions": [condition("MemoryPressure", "False"), condition("Ready", "Unknown")] } });
        report(&mut node);
        let of = |kind: &str| object::condition(&node, kind).unwrap();
        assert_eq!(of("MemoryPressure").text("/lastTransitionTime"), old);
        assert_ne!(of("Ready").text("/lastTransitionTime"), old);
        assert_eq!((of("Ready").text("/status"), of("Ready").text("/reason")), ("True", "KubeletReady"));
        assert_ne!(of("MemoryPressure").text("/lastHeartbeatTime"), old);
        assert_eq!(node.list("/status/conditions").len(), 4);
    }
}
