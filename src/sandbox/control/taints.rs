//! Pods on nodes with a taint `NoExecute`: deleted at once if they do not tolerate it, after their `tolerationSeconds` if they tolerate it for a while.
//!
//! Every pod has two tolerations of 300 seconds, for nodes that are silent and nodes that are not ready, unless it brings its own
//! ([`admission`](super::super::admission)). The time counts from when the taint was seen; taken off in time, nothing happens.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::super::{
    Cluster,
    events::{Source, Tone, tell},
    kinds::Kind,
    object::{self, Look, node},
    store::{Deletion, Key, Part},
};

/// How long a pod may stay on a tainted node.
#[derive(Debug, PartialEq, Eq)]
enum Stay {
    /// Not at all.
    No,
    /// So many seconds.
    For(i64),
    /// As long as it likes.
    Forever,
}

/// When each pod is to be deleted, by its uid.
type Due = BTreeMap<String, (Key, Instant)>;

/// Looks after the pods of tainted nodes until the sandbox stops.
pub(super) async fn run(cluster: Arc<Cluster>) {
    let mut changes = cluster.store.follow(&[Kind::Node, Kind::Pod]);
    let mut due = Due::new();
    loop {
        tokio::select! {
            biased;
            () = cluster.hurts.at_work(super::Part::Manager) => {}
            () = cluster.stopping.cancelled() => return,
        }
        reconcile(&cluster, &mut due, Instant::now());
        let next = due.values().map(|(_, at)| *at).min();
        tokio::select! {
            biased;
            () = cluster.stopping.cancelled() => return,
            () = changes.changed() => {}
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

fn reconcile(cluster: &Cluster, due: &mut Due, now: Instant) {
    let nodes = cluster.store.list(Kind::Node, None);
    let pods = cluster.store.list(Kind::Pod, None);
    due.retain(|uid, _| pods.iter().any(|pod| pod.uid() == uid));
    for pod in pods.iter().filter(|pod| !pod.is_terminating() && !object::pod::is_finished(pod)) {
        let taints: Vec<_> =
            nodes.iter().filter(|node| node.name() == pod.text("/spec/nodeName")).flat_map(|node| node::no_execute(node)).collect();
        let stay = if taints.is_empty() { Stay::Forever } else { stay(pod, &taints) };
        match stay {
            Stay::Forever => {
                if due.remove(pod.uid()).is_some() {
                    let message = format!("Cancelling deletion of Pod {}/{}", pod.namespace(), pod.name());
                    tell(&cluster.store, source(), pod, Tone::Normal, "TaintManagerEviction", &message);
                }
            }
            Stay::No => {
                due.insert(pod.uid().to_owned(), (Key::of(Kind::Pod, pod), now));
            }
            Stay::For(seconds) => {
                due.entry(pod.uid().to_owned()).or_insert_with(|| (Key::of(Kind::Pod, pod), now + cluster.speed.seconds(seconds)));
            }
        }
    }
    let ripe: Vec<_> = due.iter().filter(|(_, (_, at))| *at <= now).map(|(uid, (key, _))| (uid.clone(), key.clone())).collect();
    for (uid, key) in ripe {
        due.remove(&uid);
        if let Some(pod) = pods.iter().find(|pod| pod.uid() == uid && !pod.is_terminating()) {
            evict(cluster, &key, pod);
        }
    }
}

fn source() -> Source<'static> {
    Source::controller("taint-eviction-controller")
}

fn evict(cluster: &Cluster, key: &Key, pod: &Value) {
    let message = format!("Marking for deletion Pod {}/{}", pod.namespace(), pod.name());
    tell(&cluster.store, source(), pod, Tone::Normal, "TaintManagerEviction", &message);
    let change = |pod: &mut Value| {
        let why = "Taint manager: deleting due to NoExecute taint";
        object::pod::set_disrupted(pod, "DeletionByTaintManager", why);
        Ok(())
    };
    cluster.store.update(key, Part::Status, false, change).ok();
    let how = Deletion { uid: Some(pod.uid().to_owned()), ..Deletion::default() };
    cluster.store.delete(key, &how).ok();
}

/// How long a pod tolerates all of these taints: of several tolerations that are limited, the shortest counts.
fn stay(pod: &Value, taints: &[&Value]) -> Stay {
    let tolerations = pod.list("/spec/tolerations");
    let mut shortest = None;
    for taint in taints {
        let Some(toleration) = tolerations.iter().find(|toleration| node::tolerates(toleration, taint)) else { return Stay::No };
        if let Some(seconds) = toleration.int("/tolerationSeconds") {
            shortest = Some(shortest.map_or(seconds, |shortest: i64| shortest.min(seconds)));
        }
    }
    match shortest {
        None => Stay::Forever,
        Some(seconds) if seconds <= 0 => Stay::No,
        Some(seconds) => Stay::For(seconds),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn tolerating(key: &str, seconds: Option<i64>) -> Value {
        let mut toleration = json!({ "key": key, "operator": "Exists", "effect": "NoExecute" });
        if let Some(seconds) = seconds {
            toleration["tolerationSeconds"] = seconds.into();
        }
        toleration
    }

    #[rstest]
    #[case::nothing(vec![], Stay::No)]
    #[case::one_of_two(vec![tolerating("a", None)], Stay::No)]
    #[case::both(vec![tolerating("a", None), tolerating("b", None)], Stay::Forever)]
    #[case::one_for_a_while(vec![tolerating("a", Some(300)), tolerating("b", None)], Stay::For(300))]
    #[case::both_for_a_while(vec![tolerating("a", Some(300)), tolerating("b", Some(5))], Stay::For(5))]
    #[case::for_no_time(vec![tolerating("a", Some(0)), tolerating("b", None)], Stay::No)]
    fn a_pod_stays_as_long_as_it_tolerates_all(#[case] tolerations: Vec<Value>, #[case] expected: Stay) {
        let taint = |key: &str| json!({ "key": key, "effect": "NoExecute" });
        let (a, b) = (taint("a"), taint("b"));
        assert_eq!(stay(&json!({ "spec": { "tolerations": tolerations } }), &[&a, &b]), expected);
    }
}
