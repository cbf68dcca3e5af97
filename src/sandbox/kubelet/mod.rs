//! The kubelets: one for each node, one [`worker`] for each pod on it.
//!
//! A pod's containers are real processes of our own binary, with real signals, ports and exit codes. Deaths are picked up on a relist tick, a second
//! divided by the speed, and not the moment they happen: that is how long a real kubelet takes to notice, and it is part of every recovery.

mod back_off;
mod container;
mod probe;
mod status;
mod volumes;
mod worker;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    Cluster,
    api::architecture,
    kinds::Kind,
    object::{self, Look},
    store::{Deletion, Key, Part},
};

/// The taint that keeps everything off the control plane.
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// The kubelet of one node.
#[derive(Debug)]
pub(super) struct Kubelet {
    cluster: Arc<Cluster>,
    node: String,
    /// How many pods here have each volume mounted.
    mounted: Mutex<BTreeMap<String, usize>>,
}

/// Where what a container says is kept: one file for each of its lives.
pub(super) fn log_file(dir: &Path, uid: &str, container: &str, life: i64) -> PathBuf {
    pod_directory(dir, uid).join(container).join(format!("{life}.log"))
}

/// Where all that is of one pod is kept, except for its persistent volumes.
fn pod_directory(dir: &Path, uid: &str) -> PathBuf {
    dir.join("pods").join(uid)
}

/// Makes the object of a node. The control plane is number 0.
pub(super) fn register(cluster: &Cluster, name: &str, number: u8) {
    let now = object::now();
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({ "type": kind, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": now, "lastTransitionTime": now });
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
    let node = json!({
        "metadata": { "name": name, "labels": labels },
        "spec": spec,
        "status": {
            "capacity": capacity, "allocatable": capacity,
            "addresses": [{ "type": "InternalIP", "address": address }, { "type": "Hostname", "address": name }],
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
            ],
            "nodeInfo": {
                "architecture": arch, "operatingSystem": "linux", "osImage": "comeback sandbox", "kernelVersion": machine("/proc/sys/kernel/osrelease"),
                "bootID": uuid::Uuid::new_v4().to_string(), "machineID": uuid::Uuid::new_v4().simple().to_string(),
                "systemUUID": uuid::Uuid::new_v4().to_string(), "containerRuntimeVersion": concat!("sandbox://", env!("CARGO_PKG_VERSION")),
                "kubeletVersion": "v1.33.0-comeback", "kubeProxyVersion": "",
            },
        },
    });
    // The store is new: the name is free.
    cluster.store.create(Kind::Node, node, false).expect("the sandbox's own nodes are valid");
}

/// Runs the pods of a node until the sandbox stops; returns when their processes are gone.
pub(super) async fn run(cluster: Arc<Cluster>, node: String) {
    let kubelet = Arc::new(Kubelet { cluster: cluster.clone(), node, mounted: Mutex::default() });
    let mut changes = cluster.store.follow(&[Kind::Pod]);
    let mut workers: JoinSet<(Key, String)> = JoinSet::new();
    let mut known = BTreeSet::new();
    // Pods without a worker whose directories are there: their logs can be asked for as long as the objects can.
    let mut left: Vec<(Key, String)> = Vec::new();
    loop {
        left.retain(|(key, uid)| {
            let stays = cluster.store.get(key.kind, &key.namespace, &key.name).is_some_and(|pod| pod.uid() == uid);
            if !stays {
                std::fs::remove_dir_all(pod_directory(&cluster.dir, uid)).ok();
            }
            stays
        });
        for pod in cluster.store.list(Kind::Pod, None) {
            if pod.text("/spec/nodeName") != kubelet.node {
                continue;
            }
            if object::pod::is_finished(&pod) {
                remove_finished(&cluster, &pod, &known);
                continue;
            }
            if known.insert(pod.uid().to_owned()) {
                let (kubelet, key, uid) = (kubelet.clone(), Key::of(Kind::Pod, &pod), pod.uid().to_owned());
                workers.spawn(async move {
                    worker::run(kubelet, pod).await;
                    (key, uid)
                });
            }
        }
        tokio::select! {
            biased;
            () = cluster.stopping.cancelled() => break,
            Some(done) = workers.join_next(), if !workers.is_empty() => {
                if let Ok((key, uid)) = done {
                    known.remove(&uid);
                    left.push((key, uid));
                }
            }
            () = changes.changed() => {}
        }
    }
    while workers.join_next().await.is_some() {}
}

/// Removes a pod that has ended but was given time to go by its deletion, unless its worker is still there to do so.
fn remove_finished(cluster: &Cluster, pod: &Value, known: &BTreeSet<String>) {
    if pod.int("/metadata/deletionGracePeriodSeconds").is_some_and(|grace| grace > 0) && !known.contains(pod.uid()) {
        let how = Deletion { grace: Some(0), uid: Some(pod.uid().to_owned()), ..Deletion::default() };
        // Somebody else may have removed it already.
        cluster.store.delete(&Key::of(Kind::Pod, pod), &how).ok();
    }
}

impl Kubelet {
    /// Says in the node's status that a volume is in use here, before it is touched, so that nobody detaches it.
    fn begin_use(&self, volume: &str) {
        *self.mounted.lock().expect("no holder of this lock panics").entry(volume.to_owned()).or_default() += 1;
        self.tell_volumes_in_use();
    }

    /// Says that one pod less uses the volume.
    fn end_use(&self, volume: &str) {
        {
            let mut mounted = self.mounted.lock().expect("no holder of this lock panics");
            if let Some(count) = mounted.get_mut(volume) {
                *count -= 1;
                if *count == 0 {
                    mounted.remove(volume);
                }
            }
        }
        self.tell_volumes_in_use();
    }

    fn tell_volumes_in_use(&self) {
        let change = |node: &mut Value| {
            // Read inside the store's lock, so that two pods that come and go at once leave the right list.
            let used: Vec<_> = self.mounted.lock().expect("no holder of this lock panics").keys().cloned().collect();
            object::set(node, "/status/volumesInUse", used);
            Ok(())
        };
        self.cluster.store.update(&Key::new(Kind::Node, "", &self.node), Part::Status, false, change).ok();
    }
}
