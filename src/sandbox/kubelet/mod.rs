//! The kubelets: one for each node, one [`worker`] for each pod on it.
//!
//! A kubelet runs while its node has [`power`](super::power). When that is cut, its workers are dropped where they are, so that nothing more is written, and every
//! process of the node is killed. When it returns, the kubelet begins anew with what the API says.
//!
//! A pod's containers are real processes of our own binary, with real signals, ports and exit codes. Deaths are picked up on a relist tick, a second
//! divided by the speed, and not the moment they happen: that is how long a real kubelet takes to notice, and it is part of every recovery.

mod back_off;
mod container;
mod lives;
mod node;
mod probe;
mod status;
mod volumes;
mod worker;

pub(super) use self::{node::register, volumes::Mounts};

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use self::container::Setting;
use super::{
    Cluster,
    containers::Contained,
    kinds::Kind,
    object::{self, Look},
    power::{self, State},
    store::{Deletion, Key, Part},
};

/// After SIGKILL a process is gone within this, or it is stuck in the kernel: then that is told, and a sandbox that stops leaves it.
const DIES_WITHIN: Duration = Duration::from_secs(5);

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

/// A command that is to be run in a container that runs, or the runtime's word for why it cannot.
pub(super) fn exec(cluster: &Cluster, contained: &Contained, command: &[String]) -> Result<Command, String> {
    let Contained { pod, spec, address, mounts, .. } = contained;
    Setting { cluster, pod, container: spec, address: *address, mounts }.exec(command)
}

/// How a kubelet's run ended.
enum End {
    /// The sandbox stops, and all processes are gone.
    Stop,
    /// Power was cut; these pods have something on the node's disk.
    PowerCut(Vec<(Key, String)>),
}

/// Runs the kubelet of a machine whenever that has power, until the sandbox stops; returns when its processes are gone.
pub(super) async fn run(cluster: Arc<Cluster>, node: String, number: u8) {
    let mut switch = cluster.power.follow(&node);
    let mut is_first = true;
    let mut on_disk = Vec::new();
    loop {
        let setting = *switch.borrow_and_update();
        if setting.state == State::On {
            // Whoever starts on this node from now on gets a new address.
            for address in cluster.power.take_addresses(&node) {
                cluster.network.give_back(address.into());
            }
            if !std::mem::take(&mut is_first) {
                node::come_back(&cluster, &node, number);
            }
            node::renew_lease(&cluster, &node);
            cluster.power.tell(&node, setting);
            match live(&cluster, &node, &mut switch, on_disk).await {
                End::Stop => return,
                End::PowerCut(left) => {
                    kill_everything(&cluster, &node).await;
                    on_disk = left;
                }
            }
        } else {
            cluster.power.tell(&node, setting);
            tokio::select! {
                biased;
                () = cluster.stopping.cancelled() => return,
                _ = switch.changed() => {}
            }
        }
    }
}

/// Kills whatever runs on a node, and returns when it is dead.
async fn kill_everything(cluster: &Cluster, node: &str) {
    // A command that is about to start is known in a moment, and none starts after it: the switch is set.
    cluster.containers.all_known().await;
    let doomed = cluster.containers.on_node(node);
    let killed = doomed.clone();
    // Reading all of `/proc` takes its time, and all of them are to go at once.
    tokio::task::spawn_blocking(move || killed.iter().for_each(|process| process.kill_all())).await.ok();
    for process in doomed {
        // One that is stuck in the kernel is not dead, and then the switch is not in force: whoever waits for it is told.
        tokio::select! {
            biased;
            _ = process.ended() => cluster.containers.remove(&process),
            () = async {
                cluster.stopping.cancelled().await;
                tokio::time::sleep(DIES_WITHIN).await;
            } => {}
        }
    }
}

/// Runs the pods of a node until the sandbox stops or power is cut. `left` are pods without a worker whose directories are there: what they said can be asked
/// for as long as the objects are.
async fn live(cluster: &Arc<Cluster>, node: &str, switch: &mut watch::Receiver<power::Setting>, mut left: Vec<(Key, String)>) -> End {
    let kubelet = Arc::new(Kubelet { cluster: cluster.clone(), node: node.to_owned(), mounted: Mutex::default() });
    kubelet.tell_volumes_in_use();
    let mut changes = cluster.store.follow(&[Kind::Pod]);
    let mut workers: JoinSet<(Key, String)> = JoinSet::new();
    // Where each worker's pod is to be found: what is left when power is cut.
    let mut at_work: BTreeMap<String, Key> = BTreeMap::new();
    let mut heartbeat = interval(cluster.speed.period(node::RENEW));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.tick().await;
    let mut beats = 0_u64;
    loop {
        left.retain(|(key, uid)| {
            let is_there = cluster.store.get(key.kind, &key.namespace, &key.name).is_some_and(|pod| pod.uid() == uid);
            let stays = is_there || at_work.contains_key(uid);
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
                remove_finished(cluster, &pod, at_work.contains_key(pod.uid()));
                continue;
            }
            if !at_work.contains_key(pod.uid()) {
                let (kubelet, key, uid) = (kubelet.clone(), Key::of(Kind::Pod, &pod), pod.uid().to_owned());
                at_work.insert(uid.clone(), key.clone());
                workers.spawn(async move {
                    worker::run(kubelet, pod).await;
                    (key, uid)
                });
            }
        }
        tokio::select! {
            biased;
            () = cluster.stopping.cancelled() => break,
            _ = switch.changed() => {
                // Waits until the last of them has let go of what it was doing: none of them writes after this.
                workers.shutdown().await;
                left.extend(at_work.into_iter().map(|(uid, key)| (key, uid)));
                return End::PowerCut(left);
            }
            Some(done) = workers.join_next(), if !workers.is_empty() => {
                if let Ok((key, uid)) = done {
                    at_work.remove(&uid);
                    left.push((key, uid));
                }
            }
            () = changes.changed() => {}
            _ = heartbeat.tick() => {
                // One that is stopped, or cut off, says nothing; it is known by that it was to say something.
                if cluster.hurts.is_silent(node) {
                    tokio::select! {
                        biased;
                        () = cluster.stopping.cancelled() => {}
                        _ = switch.changed() => switch.mark_changed(),
                        () = cluster.hurts.awake(node) => node::renew_lease(cluster, node),
                    }
                    continue;
                }
                node::renew_lease(cluster, node);
                beats += 1;
                if beats.is_multiple_of(node::REPORT_EVERY) {
                    node::report_status(cluster, node);
                }
            }
        }
    }
    while workers.join_next().await.is_some() {}
    End::Stop
}

/// Removes a pod that has ended but was given time to go by its deletion, unless its worker is still there to do so.
fn remove_finished(cluster: &Cluster, pod: &Value, has_worker: bool) {
    if pod.int("/metadata/deletionGracePeriodSeconds").is_some_and(|grace| grace > 0) && !has_worker {
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
