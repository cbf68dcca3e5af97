//! The life of nodes: who is silent, and what follows from it.
//!
//! A kubelet shows that it is there by its lease, or by its status. Every five seconds this controller looks which have moved; a node of which neither did
//! for fifty seconds is not known to be there any more:
//! 1. its conditions become `Unknown`;
//! 2. it is tainted `unreachable:NoSchedule`, as soon as its conditions say so, and `unreachable:NoExecute`, one node in ten seconds, so that a control plane
//!    that lost sight of many does not empty them all at once; nor does it taint any while more than half of them are silent, or all;
//! 3. its pods are said not to be ready, so that nobody is sent there.
//!
//! What becomes of the pods is the affair of the [taints](super::taints). When the kubelet speaks again, both taints are taken off.
//!
//! All times are divided by the speed. A node that has power is never doubted here, however late its kubelet is on a busy machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::super::{
    Cluster,
    events::{Source, Tone, tell},
    kinds::Kind,
    object::{self, Look, condition, node},
    power::State,
    store::{Key, Part},
};

/// How often the nodes are looked at.
const MONITOR: Duration = Duration::from_secs(5);
/// A node that was silent for so long is not known to be there.
const GRACE: Duration = Duration::from_secs(50);
/// How soon after it was doubted a node is tainted `NoExecute`: the other taint has its chance to come first, as on a real cluster.
const TAINT_DELAY: Duration = Duration::from_millis(100);
/// Two nodes are not tainted `NoExecute` sooner after each other than this.
const BETWEEN_TAINTS: Duration = Duration::from_secs(10);
/// The conditions that only a kubelet that speaks can vouch for.
const VOUCHED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// The taint of a node that is not ready.
const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The taint of a node that is silent.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The taint of a node that was cordoned.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Which condition in which state is which taint.
const TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

fn source() -> Source<'static> {
    Source::controller("node-controller")
}

/// What was last seen of a node.
#[derive(Debug)]
struct Health {
    uid: String,
    /// The stamps by which its kubelet shows that it is there: of the status and of the lease.
    stamps: [String; 2],
    /// When they last moved.
    moved: Instant,
}

/// What the controller remembers.
#[derive(Debug, Default)]
struct Nodes {
    health: BTreeMap<String, Health>,
    /// Nodes that are to be tainted `NoExecute`.
    waiting: BTreeSet<String>,
    /// When the next of them may be.
    next_taint: Option<Instant>,
    /// Whether nodes that appear are new, and not those that the cluster began with.
    has_begun: bool,
}

/// Looks after the nodes until the sandbox stops.
pub(super) async fn run(cluster: Arc<Cluster>) {
    let mut changes = cluster.store.follow(&[Kind::Node]);
    let mut monitor = interval(cluster.speed.period(MONITOR));
    monitor.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut nodes = Nodes::default();
    loop {
        tokio::select! {
            biased;
            () = cluster.hurts.at_work(super::Part::Manager) => {}
            () = cluster.stopping.cancelled() => return,
        }
        let taint_at = nodes.next_taint.filter(|_| !nodes.waiting.is_empty());
        tokio::select! {
            biased;
            () = cluster.stopping.cancelled() => return,
            () = changes.changed() => {
                for node in cluster.store.list(Kind::Node, None) {
                    keep_no_schedule(&cluster, &node);
                }
            }
            _ = monitor.tick() => {
                let now = Instant::now();
                nodes.look(&cluster, now);
                nodes.next_taint = nodes.next_taint.max(Some(now + cluster.speed.period(TAINT_DELAY)));
            }
            () = sleep_until(taint_at.unwrap_or_else(Instant::now)), if taint_at.is_some() => nodes.taint(&cluster, Instant::now()),
        }
    }
}

impl Nodes {
    /// Looks at every node once.
    fn look(&mut self, cluster: &Cluster, now: Instant) {
        let nodes = cluster.store.list(Kind::Node, None);
        self.health.retain(|name, _| nodes.iter().any(|node| node.name() == name));
        self.waiting.retain(|name| nodes.iter().any(|node| node.name() == name));
        for one in &nodes {
            self.look_at(cluster, one, now);
        }
        self.has_begun = true;
    }

    fn look_at(&mut self, cluster: &Cluster, found: &Value, now: Instant) {
        let name = found.name();
        let lease = cluster.store.get(Kind::Lease, "kube-node-lease", name);
        let stamps = [
            condition(found, "Ready").map(|ready| ready.text("/lastHeartbeatTime").to_owned()).unwrap_or_default(),
            lease.map(|lease| lease.text("/spec/renewTime").to_owned()).unwrap_or_default(),
        ];
        let known = self.health.get(name).filter(|health| health.uid == found.uid());
        if known.is_none() && self.has_begun {
            let message = format!("Node {name} event: Registered Node {name} in Controller");
            tell(&cluster.store, source(), found, Tone::Normal, "RegisteredNode", &message);
        }
        let moved = known.filter(|health| health.stamps == stamps).map_or(now, |health| health.moved);
        self.health.insert(name.to_owned(), Health { uid: found.uid().to_owned(), stamps, moved });
        let was_ready = node::is_ready(found);
        let mut current = condition(found, "Ready").map(|ready| ready.text("/status").to_owned()).unwrap_or_default();
        // A kubelet that has power and is late was held up by this machine, which is no fault of the cluster's: at a high speed the grace is a moment.
        let has_power = cluster.power.state(name) == Some(State::On) && !cluster.hurts.is_silent(name);
        if now > moved + cluster.speed.of(GRACE) && !has_power && current != "Unknown" {
            let change = |node: &mut Value| {
                doubt(node);
                Ok(())
            };
            if cluster.store.update(&Key::of(Kind::Node, found), Part::Status, false, change).is_err() {
                return;
            }
            "Unknown".clone_into(&mut current);
        }
        if current == "True" {
            self.waiting.remove(name);
            swap_no_execute(cluster, name, None);
            return;
        }
        let wanted = if current == "Unknown" { UNREACHABLE } else { NOT_READY };
        let tainted = |key: &str| node::no_execute(found).any(|taint| taint.text("/key") == key);
        if !tainted(wanted) {
            if tainted(NOT_READY) || tainted(UNREACHABLE) {
                // One for the other, at once.
                swap_no_execute(cluster, name, Some(wanted));
            } else {
                self.waiting.insert(name.to_owned());
            }
        }
        if was_ready {
            let message = format!("Node {name} status is now: NodeNotReady");
            tell(&cluster.store, source(), found, Tone::Normal, "NodeNotReady", &message);
            mark_pods_not_ready(cluster, name);
        }
    }

    /// Taints what waits to be tainted, one at a time.
    fn taint(&mut self, cluster: &Cluster, now: Instant) {
        let nodes = cluster.store.list(Kind::Node, None);
        let silent = nodes.iter().filter(|one| !node::is_ready(one)).count();
        match disruption(silent, nodes.len()) {
            Disruption::None => {}
            Disruption::Partial => {
                // Asked again after the next look.
                self.next_taint = None;
                return;
            }
            Disruption::Full => {
                self.next_taint = None;
                for one in &nodes {
                    swap_no_execute(cluster, one.name(), None);
                }
                return;
            }
        }
        let Some(name) = self.waiting.pop_first() else { return };
        let Some(found) = cluster.store.get(Kind::Node, "", &name) else { return };
        let wanted = match condition(&found, "Ready").map(|ready| ready.text("/status")) {
            Some("True") => return,
            Some("False") => NOT_READY,
            _ => UNREACHABLE,
        };
        swap_no_execute(cluster, &name, Some(wanted));
        self.next_taint = Some(now + cluster.speed.of(BETWEEN_TAINTS));
    }
}

/// How many nodes are silent, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
enum Disruption {
    None,
    Partial,
    Full,
}

/// More than half silent, in a cluster as small as ours, and nobody is evicted; all of them silent, and it is rather us who are cut off.
fn disruption(silent: usize, all: usize) -> Disruption {
    if silent > 0 && silent == all {
        Disruption::Full
    } else if silent > 2 && silent * 100 >= all * 55 {
        Disruption::Partial
    } else {
        Disruption::None
    }
}

/// Writes into a node's status that nobody knows how it is.
fn doubt(node: &mut Value) {
    let now = object::now();
    let created = node.text("/metadata/creationTimestamp").to_owned();
    let conditions = object::list_mut(node, "/status/conditions");
    for kind in VOUCHED {
        let Some(found) = conditions.iter_mut().find(|condition| condition.text("/type") == kind) else {
            conditions.push(json!({
                "type": kind, "status": "Unknown", "reason": "NodeStatusNeverUpdated", "message": "Kubelet never posted node status.",
                "lastHeartbeatTime": created, "lastTransitionTime": now,
            }));
            continue;
        };
        if found.text("/status") != "Unknown" {
            for (field, text) in [
                ("/status", "Unknown"),
                ("/reason", "NodeStatusUnknown"),
                ("/message", "Kubelet stopped posting node status."),
                ("/lastTransitionTime", &now),
            ] {
                object::set(found, field, text);
            }
        }
    }
}

/// The pods of a node that is silent cannot be ready, whatever they said last.
fn mark_pods_not_ready(cluster: &Cluster, name: &str) {
    for pod in cluster.store.list(Kind::Pod, None).iter().filter(|pod| pod.text("/spec/nodeName") == name) {
        if !object::condition_holds(pod, "Ready") {
            continue;
        }
        let change = |pod: &mut Value| {
            for ready in object::list_mut(pod, "/status/conditions").iter_mut().filter(|condition| condition.text("/type") == "Ready") {
                object::set(ready, "/status", "False");
                object::set(ready, "/lastTransitionTime", object::now());
            }
            Ok(())
        };
        if cluster.store.update(&Key::of(Kind::Pod, pod), Part::Status, false, change).is_ok() {
            tell(&cluster.store, source(), pod, Tone::Warning, "NodeNotReady", "Node is not ready");
        }
    }
}

/// The taints `NoSchedule` that a node's conditions and its cordon ask for.
fn wanted_no_schedule(found: &Value) -> Vec<&'static str> {
    let mut wanted: Vec<_> = found
        .list("/status/conditions")
        .iter()
        .filter_map(|condition| {
            let is = |(kind, status, _): &&(&str, &str, &str)| *kind == condition.text("/type") && *status == condition.text("/status");
            TAINTS.iter().find(is).map(|(_, _, key)| *key)
        })
        .collect();
    if found.flag("/spec/unschedulable") {
        wanted.push(UNSCHEDULABLE);
    }
    wanted
}

/// Keeps the taints `NoSchedule` of a node as its conditions and its cordon ask: adds first, takes away afterwards.
fn keep_no_schedule(cluster: &Cluster, found: &Value) {
    let wanted = wanted_no_schedule(found);
    let is_ours = |key: &str| key == UNSCHEDULABLE || TAINTS.iter().any(|(_, _, ours)| *ours == key);
    let have: Vec<_> = found
        .list("/spec/taints")
        .iter()
        .filter(|taint| taint.text("/effect") == "NoSchedule" && is_ours(taint.text("/key")))
        .map(|taint| taint.text("/key").to_owned())
        .collect();
    let add: Vec<_> = wanted.iter().filter(|key| !have.iter().any(|have| have == *key)).copied().collect();
    let gone: Vec<_> = have.iter().filter(|have| !wanted.contains(&have.as_str())).map(String::as_str).collect();
    swap_taints(cluster, found.name(), "NoSchedule", &add, &gone);
}

/// Gives a node one of the two taints `NoExecute` of its readiness, or none, and takes the other away.
fn swap_no_execute(cluster: &Cluster, name: &str, wanted: Option<&str>) {
    let gone: Vec<_> = [NOT_READY, UNREACHABLE].into_iter().filter(|key| Some(*key) != wanted).collect();
    swap_taints(cluster, name, "NoExecute", wanted.as_slice(), &gone);
}

/// Adds taints and takes taints away: two changes, as the real controller makes them.
fn swap_taints(cluster: &Cluster, name: &str, effect: &str, add: &[&str], gone: &[&str]) {
    let key = Key::new(Kind::Node, "", name);
    let is = |taint: &Value, key: &str| taint.text("/key") == key && taint.text("/effect") == effect;
    let Some(found) = cluster.store.get(Kind::Node, "", name) else { return };
    let has = |key: &&&str| found.list("/spec/taints").iter().any(|taint| is(taint, key));
    if add.iter().any(|key| !has(&key)) {
        let change = |node: &mut Value| {
            let taints = object::list_mut(node, "/spec/taints");
            for key in add.iter().filter(|key| !taints.iter().any(|taint| is(taint, key))).collect::<Vec<_>>() {
                taints.push(json!({ "key": key, "effect": effect, "timeAdded": object::now() }));
            }
            Ok(())
        };
        cluster.store.update(&key, Part::Main, false, change).ok();
    }
    if gone.iter().any(|key| has(&key)) {
        let change = |node: &mut Value| {
            let taints = object::list_mut(node, "/spec/taints");
            taints.retain(|taint| !gone.iter().any(|key| is(taint, key)));
            if taints.is_empty() {
                object::remove(node, "/spec/taints");
            }
            Ok(())
        };
        cluster.store.update(&key, Part::Main, false, change).ok();
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn doubt_leaves_the_heartbeat_and_moves_the_transition() {
        let old = "2020-01-01T00:00:00Z";
        let condition_of =
            |kind: &str, status: &str| json!({ "type": kind, "status": status, "lastTransitionTime": old, "lastHeartbeatTime": old });
        let mut node = json!({ "metadata": { "creationTimestamp": old }, "status": { "conditions": [
            condition_of("MemoryPressure", "False"), condition_of("NetworkUnavailable", "False"), condition_of("Ready", "True"),
        ] } });
        doubt(&mut node);
        let of = |kind: &str| condition(&node, kind).unwrap();
        for kind in ["MemoryPressure", "Ready"] {
            assert_eq!((of(kind).text("/status"), of(kind).text("/reason")), ("Unknown", "NodeStatusUnknown"));
            assert_eq!(of(kind).text("/message"), "Kubelet stopped posting node status.");
            assert_eq!(of(kind).text("/lastHeartbeatTime"), old);
            assert_ne!(of(kind).text("/lastTransitionTime"), old);
        }
        assert_eq!(of("NetworkUnavailable").text("/status"), "False", "no kubelet vouches for that");
        assert_eq!(of("PIDPressure").text("/reason"), "NodeStatusNeverUpdated");
        let before = node.clone();
        doubt(&mut node);
        assert_eq!(node, before, "doubted once");
    }

    #[rstest]
    #[case::all_well(json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }), &[])]
    #[case::silent(json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } }), &[UNREACHABLE])]
    #[case::not_ready(json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } }), &[NOT_READY])]
    #[case::cordoned(json!({ "spec": { "unschedulable": true } }), &[UNSCHEDULABLE])]
    fn conditions_and_a_cordon_are_taints(#[case] node: Value, #[case] wanted: &[&str]) {
        assert_eq!(wanted_no_schedule(&node), wanted);
    }

    #[rstest]
    #[case::none(0, 4, Disruption::None)]
    #[case::two_of_four(2, 4, Disruption::None)]
    #[case::three_of_four(3, 4, Disruption::Partial)]
    #[case::two_of_two(2, 2, Disruption::Full)]
    #[case::four_of_four(4, 4, Disruption::Full)]
    fn too_many_silent_nodes_are_left_alone(#[case] silent: usize, #[case] all: usize, #[case] expected: Disruption) {
        assert_eq!(disruption(silent, all), expected);
    }
}
