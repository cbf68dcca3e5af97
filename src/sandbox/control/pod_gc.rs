//! Pods that no kubelet will ever finish.
//!
//! - A pod that is being deleted on a node that is not ready and was declared out of service (`node.kubernetes.io/out-of-service`) is removed.
//! - A pod on a node that does not exist any more is removed once that has been so for forty seconds.
//!
//! Every twenty seconds, as on a real cluster, but only while there is something to look at. All times are divided by the speed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::super::{
    Cluster,
    kinds::Kind,
    object::{self, Look, node},
    store::{Deletion, Key, Part},
};

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(20);
/// For how long a node must have been missing.
const QUARANTINE: Duration = Duration::from_secs(40);

/// Since when each node that pods are on is missing.
type Missing = BTreeMap<String, Instant>;

/// Collects until the sandbox stops.
pub(super) async fn run(cluster: Arc<Cluster>) {
    let mut changes = cluster.store.follow(&[Kind::Node, Kind::Pod]);
    let (began, period) = (Instant::now(), cluster.speed.period(PERIOD));
    let mut missing = Missing::new();
    loop {
        let next = has_work(&cluster).then(|| next_look(began, period, Instant::now()));
        tokio::select! {
            biased;
            () = cluster.stopping.cancelled() => return,
            () = sleep_until(next.unwrap_or(began)), if next.is_some() => collect(&cluster, &mut missing, Instant::now()),
            () = changes.changed() => {}
        }
        if next.is_none() {
            missing.clear();
        }
    }
}

/// The looks are so many periods after the beginning, whether there was something to see or not.
fn next_look(began: Instant, period: Duration, now: Instant) -> Instant {
    let past = now.saturating_duration_since(began).as_nanos() / period.as_nanos().max(1);
    began + period.saturating_mul(u32::try_from(past).unwrap_or(u32::MAX).saturating_add(1))
}

fn has_work(cluster: &Cluster) -> bool {
    let nodes = cluster.store.list(Kind::Node, None);
    cluster.store.list(Kind::Pod, None).iter().any(|pod| is_orphan(pod, &nodes) || is_out_of_service(pod, &nodes))
}

fn is_orphan(pod: &Value, nodes: &[Arc<Value>]) -> bool {
    let name = pod.text("/spec/nodeName");
    !name.is_empty() && !nodes.iter().any(|node| node.name() == name)
}

fn is_out_of_service(pod: &Value, nodes: &[Arc<Value>]) -> bool {
    let on = nodes.iter().find(|node| node.name() == pod.text("/spec/nodeName"));
    pod.is_terminating() && on.is_some_and(|on| !node::is_ready(on) && node::is_out_of_service(on))
}

fn collect(cluster: &Cluster, missing: &mut Missing, now: Instant) {
    let nodes = cluster.store.list(Kind::Node, None);
    let pods = cluster.store.list(Kind::Pod, None);
    for pod in pods.iter().filter(|pod| is_out_of_service(pod, &nodes)) {
        remove(cluster, pod, None);
    }
    missing.retain(|name, _| !nodes.iter().any(|node| node.name() == name));
    for pod in pods.iter().filter(|pod| is_orphan(pod, &nodes)) {
        let since = *missing.entry(pod.text("/spec/nodeName").to_owned()).or_insert(now);
        if now >= since + cluster.speed.of(QUARANTINE) {
            remove(cluster, pod, Some("PodGC: node no longer exists"));
        }
    }
}

/// Says of a pod that it failed, since there is no kubelet to say so, and removes its object.
fn remove(cluster: &Cluster, pod: &Value, why: Option<&str>) {
    let key = Key::of(Kind::Pod, pod);
    if !object::pod::is_finished(pod) {
        let change = |pod: &mut Value| {
            object::set(pod, "/status/phase", "Failed");
            if let Some(why) = why {
                object::pod::set_disrupted(pod, "DeletionByPodGC", why);
            }
            Ok(())
        };
        cluster.store.update(&key, Part::Status, false, change).ok();
    }
    let how = Deletion { grace: Some(0), uid: Some(pod.uid().to_owned()), ..Deletion::default() };
    cluster.store.delete(&key, &how).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_keep_their_rhythm() {
        let (began, period) = (Instant::now(), Duration::from_secs(2));
        for (after, expected) in [(0, 2), (1, 2), (2, 4), (3, 4), (7, 8)] {
            let now = began + Duration::from_secs(after);
            assert_eq!(next_look(began, period, now) - began, Duration::from_secs(expected));
        }
    }
}
