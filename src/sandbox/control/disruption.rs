//! Disruption budgets: how many of the pods that somebody cares about may be evicted now.
//!
//! The number is kept in the budget's status, and the API [counts it down](super::super::api) with each eviction. A pod that was evicted and is not being
//! deleted two minutes later (divided by the speed) counts as there again.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use tokio::time::sleep;

use super::super::{
    Cluster,
    events::{Source, Tone, tell},
    kinds::Kind,
    object::{self, Look, share_of},
    selector::Labels,
    store::{Key, Part},
};

/// How long an evicted pod is believed to go.
const BELIEVED: Duration = Duration::from_mins(2);

/// Keeps the budgets until the sandbox stops.
pub(super) async fn run(cluster: Arc<Cluster>) {
    let mut changes = cluster.store.follow(&[Kind::PodDisruptionBudget, Kind::Pod, Kind::ReplicaSet, Kind::Deployment, Kind::StatefulSet]);
    loop {
        let again = reconcile(&cluster, Utc::now());
        tokio::select! {
            biased;
            () = cluster.stopping.cancelled() => return,
            () = changes.changed() => {}
            () = sleep(again.unwrap_or_default()), if again.is_some() => {}
        }
    }
}

/// Brings the status of every budget up to date; says how long until one of them has to be looked at again, if nothing changes before.
fn reconcile(cluster: &Cluster, now: DateTime<Utc>) -> Option<Duration> {
    let mut again: Option<Duration> = None;
    for budget in cluster.store.list(Kind::PodDisruptionBudget, None).iter().filter(|budget| !budget.is_terminating()) {
        let pods = selected(cluster, budget);
        if pods.is_empty() {
            tell(&cluster.store, Source::controller("controllermanager"), budget, Tone::Normal, "NoPods", "No matching pods found");
        }
        let (believed, left) = still_going(budget, &pods, now, cluster.speed.of(BELIEVED));
        again = again.into_iter().chain(left).min();
        let healthy = pods.iter().filter(|pod| object::pod::is_ready(pod) && !believed.contains_key(pod.name())).count();
        let (expected, desired) = demand(budget, i64::try_from(pods.len()).unwrap_or(i64::MAX), || scale(cluster, &pods));
        let healthy = i64::try_from(healthy).unwrap_or(i64::MAX);
        let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
        let generation = budget.int("/metadata/generation").unwrap_or(1);
        let change = |budget: &mut Value| {
            for (field, number) in [
                ("observedGeneration", generation),
                ("currentHealthy", healthy),
                ("desiredHealthy", desired),
                ("expectedPods", expected),
                ("disruptionsAllowed", allowed),
            ] {
                object::set(budget, &format!("/status/{field}"), number);
            }
            if believed.is_empty() {
                object::remove(budget, "/status/disruptedPods");
            } else {
                object::set(budget, "/status/disruptedPods", believed);
            }
            tell_allowed(budget);
            Ok(())
        };
        cluster.store.update(&Key::of(Kind::PodDisruptionBudget, budget), Part::Status, false, change).ok();
    }
    again
}

/// Says in a budget's conditions whether anything may be evicted.
pub(in super::super) fn tell_allowed(budget: &mut Value) {
    let allowed = budget.int("/status/disruptionsAllowed").unwrap_or_default() > 0;
    let reason = if allowed { "SufficientPods" } else { "InsufficientPods" };
    object::set_condition(budget, "DisruptionAllowed", allowed, reason, "");
    let generation = budget.int("/status/observedGeneration").unwrap_or_default();
    for condition in object::list_mut(budget, "/status/conditions") {
        object::set(condition, "/observedGeneration", generation);
        object::default(condition, "/message", "");
    }
}

/// The pods that a budget is about.
fn selected(cluster: &Cluster, budget: &Value) -> Vec<Arc<Value>> {
    let mut pods = cluster.store.list(Kind::Pod, Some(budget.namespace()));
    pods.retain(|pod| protects(budget, pod));
    pods
}

/// Whether a budget is about a pod. An empty selector is about all of them, none at all about none.
pub(in super::super) fn protects(budget: &Value, pod: &Value) -> bool {
    budget.has("/spec/selector") && budget.namespace() == pod.namespace() && Labels::of_object(&budget["spec"]["selector"]).matches(pod)
}

/// Which of the evicted pods are believed to be going, and for how long the first of them still is.
fn still_going(budget: &Value, pods: &[Arc<Value>], now: DateTime<Utc>, believed: Duration) -> (Map<String, Value>, Option<Duration>) {
    let mut going = Map::new();
    let mut first: Option<Duration> = None;
    for (name, since) in budget.pointer("/status/disruptedPods").and_then(Value::as_object).into_iter().flatten() {
        let is_there = pods.iter().any(|pod| pod.name() == name && !pod.is_terminating());
        let Ok(since) = since.as_str().unwrap_or_default().parse::<DateTime<Utc>>() else { continue };
        let age = (now - since).to_std().unwrap_or_default();
        if let Some(left) = believed.checked_sub(age).filter(|left| is_there && !left.is_zero()) {
            going.insert(name.clone(), object::stamp(since).into());
            first = first.into_iter().chain([left]).min();
        }
    }
    (going, first)
}

/// How many pods there should be, and how many of them have to be healthy.
fn demand(budget: &Value, count: i64, scale: impl FnOnce() -> i64) -> (i64, i64) {
    if let Some(most) = budget.pointer("/spec/maxUnavailable") {
        let expected = scale();
        return (expected, (expected - share_of(most, expected, true)).max(0));
    }
    match budget.pointer("/spec/minAvailable") {
        Some(least) if least.is_string() => {
            let expected = scale();
            (expected, share_of(least, expected, true))
        }
        Some(least) => (count, least.as_i64().unwrap_or_default()),
        None => (count, 0),
    }
}

/// How many pods the controllers of these pods want in all.
fn scale(cluster: &Cluster, pods: &[Arc<Value>]) -> i64 {
    let mut counted: Vec<String> = Vec::new();
    let mut sum = 0;
    for pod in pods {
        let Some(mut owner) = owner(cluster, pod) else { continue };
        // The replica set of a Deployment has what the Deployment gives it.
        while let Some(above) = self::owner(cluster, &owner) {
            owner = above;
        }
        if !counted.iter().any(|uid| uid == owner.uid()) {
            counted.push(owner.uid().to_owned());
            sum += owner.int("/spec/replicas").unwrap_or(1);
        }
    }
    sum
}

fn owner(cluster: &Cluster, object: &Value) -> Option<Arc<Value>> {
    let reference = object::controller_of(object)?;
    let kind = Kind::of_object(reference)?;
    let found = cluster.store.get(kind, object.namespace(), reference.text("/name"))?;
    (found.uid() == reference.text("/uid") && found.has("/spec/replicas")).then_some(found)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::one_of_one_must_be_there(json!({ "minAvailable": 1 }), (1, 1))]
    #[case::none_need_be(json!({ "minAvailable": 0 }), (1, 0))]
    #[case::half_of_three_rounded_up(json!({ "minAvailable": "50%" }), (3, 2))]
    #[case::one_may_be_missing(json!({ "maxUnavailable": 1 }), (3, 2))]
    #[case::a_third_may_be_missing(json!({ "maxUnavailable": "34%" }), (3, 1))]
    #[case::more_may_be_missing_than_there_are(json!({ "maxUnavailable": 9 }), (3, 0))]
    fn a_budget_demands(#[case] spec: Value, #[case] expected: (i64, i64)) {
        assert_eq!(demand(&json!({ "spec": spec }), 1, || 3), expected);
    }

    #[test]
    fn an_evicted_pod_that_stays_is_believed_to_go_for_a_while() {
        let now = Utc::now();
        let stamp = |ago: i64| object::stamp(now - chrono::Duration::seconds(ago));
        let budget = json!({ "status": { "disruptedPods": { "a": stamp(10), "b": stamp(200), "gone": stamp(1) } } });
        let pods = ["a", "b"].map(|name| Arc::new(json!({ "metadata": { "name": name } })));
        let (going, left) = still_going(&budget, &pods, now, BELIEVED);
        assert_eq!(going.keys().collect::<Vec<_>>(), ["a"]);
        assert!(left.is_some_and(|left| left > Duration::from_secs(100) && left < Duration::from_secs(112)), "{left:?}");
    }
}
