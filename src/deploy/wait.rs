//! Waiting for what was put up, by watching it; and when it does not come, why.
//!
//! What is waited for is looked at whenever it changes, never by polling. A deadline that passes tells how things stood then, and what will
//! never come (an image that cannot be pulled, a container that ends again and again) is told at once.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ContainerState, Event, Pod},
};
use kube::{
    Api,
    api::{ListParams, LogParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;

use crate::{
    cluster::{Cluster, pod_facts},
    event::PodFacts,
    scenario::TargetShape,
};

/// How long the server keeps one watch request open. kube notices a dead connection only after that, so it is short.
const WATCH_SECONDS: u32 = 25;
/// A container that has ended so often will end again.
const HOPELESS_RESTARTS: i32 = 4;
/// How much of a log line or a message is told.
const TOLD: usize = 400;

/// How something looks that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look<T> {
    /// It is as it should be.
    Yes(T),
    /// Not yet, and how it stands.
    NotYet(String),
    /// It never will be, and why.
    Never(String),
}

/// Something did not come up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {}: {why}", .waited.map_or_else(|| "cannot come up".to_owned(), |waited| format!("is not up after {}", humantime::format_duration(waited))))]
pub struct NotUp {
    /// What was waited for.
    pub what: String,
    /// The deadline that passed; `None` if it was clear before that it never will be.
    pub waited: Option<Duration>,
    /// How it stands: the state of its pod, the last line of its log, the latest warning.
    pub why: String,
}

/// Watches these objects until they look right.
///
/// # Errors
/// How it looked at the deadline, or why it never will; the first is marked by `true`.
pub async fn until<K, T>(
    api: &Api<K>,
    which: watcher::Config,
    deadline: Duration,
    mut look: impl FnMut(&BTreeMap<String, K>) -> Look<T>,
) -> Result<T, (bool, String)>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let mut stands = "the cluster has told nothing yet".to_owned();
    let looking = async {
        let mut seen = BTreeMap::new();
        let mut listed = BTreeMap::new();
        let mut changes = watcher(api.clone(), which.timeout(WATCH_SECONDS)).default_backoff().boxed();
        let key = |object: &K| object.meta().uid.clone().unwrap_or_default();
        while let Some(change) = changes.next().await {
            match change {
                Ok(watcher::Event::Init) => {
                    listed.clear();
                    continue;
                }
                Ok(watcher::Event::InitApply(object)) => {
                    listed.insert(key(&object), object);
                    continue;
                }
                Ok(watcher::Event::InitDone) => seen = std::mem::take(&mut listed),
                Ok(watcher::Event::Apply(object)) => _ = seen.insert(key(&object), object),
                Ok(watcher::Event::Delete(object)) => _ = seen.remove(&key(&object)),
                Err(error) => {
                    stands = format!("the watch broke off: {error}");
                    continue;
                }
            }
            match look(&seen) {
                Look::Yes(found) => return Ok(found),
                Look::NotYet(how) => stands = how,
                Look::Never(why) => return Err(why),
            }
        }
        Err("the watch ended".to_owned())
    };
    match tokio::time::timeout(deadline, looking).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(why)) => Err((false, why)),
        Err(_) => Err((true, stands)),
    }
}

/// Waits until no pod matches.
pub(super) async fn gone(pods: &Api<Pod>, selector: &str, deadline: Duration) -> Result<(), String> {
    until(pods, watcher::Config::default().labels(selector), deadline, |pods| {
        if pods.is_empty() {
            return Look::Yes(());
        }
        let told = pods.values().map(still_there);
        Look::NotYet(told.collect::<Vec<_>>().join(", "))
    })
    .await
    .map_err(|(_, how)| how)
}

/// How a pod that should be gone looks.
fn still_there(pod: &Pod) -> String {
    let facts = pod_facts(pod, "");
    let leaving = if facts.terminating {
        "is being deleted, and that node has not said that it is gone (hint: if the node is down because of an earlier run, `comeback heal` brings \
         it back)"
    } else {
        "is not being deleted"
    };
    format!("pod `{}` on node `{}` {leaving}", facts.name, facts.node.as_deref().unwrap_or("none"))
}

/// Waits until the workload of this shape is as it was asked for last, and its one pod ready.
pub async fn until_up(cluster: &Cluster, shape: TargetShape, deadline: Duration) -> Result<PodFacts, NotUp> {
    let target = &cluster.target;
    let end = Instant::now() + deadline;
    let pods = cluster.namespaced::<Pod>();
    let which = || watcher::Config::default().labels(&target.selector);
    let rolled_out = rolled_out(cluster, shape, deadline);
    // A pod that is ready may still be the one before.
    let never = until::<Pod, ()>(&pods, which(), deadline, |pods| {
        let states = pods.values().map(|pod| state(pod, &target.container));
        let mut told = "it has no pod".to_owned();
        for state in states {
            match state {
                State::Hopeless(how) => return Look::Never(how),
                State::Waiting(how) | State::Ended(how) => told = how,
                State::Ready => "its pod is ready, and its workload is not settled".clone_into(&mut told),
            }
        }
        Look::NotYet(told)
    });
    let settled = tokio::select! {
        biased;
        Err(how) = never => Err(how),
        settled = rolled_out => settled,
    };
    let found = match settled {
        Ok(()) => {
            until(&pods, which(), end.saturating_duration_since(Instant::now()), |pods| {
                let mut pods = pods.values();
                match (pods.next(), pods.next()) {
                    (None, _) => Look::NotYet("it has no pod".to_owned()),
                    (Some(_), Some(_)) => Look::NotYet("it has several pods".to_owned()),
                    (Some(pod), None) => match state(pod, &target.container) {
                        State::Ready => Look::Yes(pod_facts(pod, &target.container)),
                        State::Waiting(how) | State::Ended(how) => Look::NotYet(how),
                        State::Hopeless(how) => Look::Never(how),
                    },
                }
            })
            .await
        }
        Err(how) => Err(how),
    };
    match found {
        Ok(facts) => Ok(facts),
        Err((in_vain, how)) => Err(NotUp {
            what: format!("the database `{}`", target.service),
            waited: in_vain.then_some(deadline),
            why: explained(cluster, &target.selector, &target.container, how).await,
        }),
    }
}

/// Waits until the controller of the workload has done what was asked for last.
async fn rolled_out(cluster: &Cluster, shape: TargetShape, deadline: Duration) -> Result<(), (bool, String)> {
    let name = super::shape::name(shape);
    let which = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let look = |settled: Option<bool>| match settled {
        None => Look::NotYet(format!("there is no workload `{name}`")),
        Some(false) => Look::NotYet(format!("`{name}` is not rolled out")),
        Some(true) => Look::Yes(()),
    };
    match shape {
        TargetShape::Deployment | TargetShape::Guide => {
            let api = cluster.namespaced();
            until(&api, which, deadline, |seen| look(seen.values().next().map(deployment_is_settled))).await
        }
        TargetShape::StatefulSet => {
            let api = cluster.namespaced();
            until(&api, which, deadline, |seen| look(seen.values().next().map(stateful_set_is_settled))).await
        }
    }
}

fn deployment_is_settled(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return false };
    status.observed_generation >= deployment.metadata.generation
        && (status.replicas, status.updated_replicas, status.available_replicas) == (Some(1), Some(1), Some(1))
}

fn stateful_set_is_settled(set: &StatefulSet) -> bool {
    let Some(status) = &set.status else { return false };
    status.observed_generation >= set.metadata.generation
        && (status.replicas, status.ready_replicas) == (1, Some(1))
        && status.current_revision == status.update_revision
}

/// How a pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its Ready condition holds.
    Ready,
    /// Not yet, and what it waits for.
    Waiting(String),
    /// It has finished, and how.
    Ended(String),
    /// It will not come up, and why.
    Hopeless(String),
}

/// How a pod stands, from what it says of itself.
#[must_use]
pub fn state(pod: &Pod, container: &str) -> State {
    let facts = pod_facts(pod, container);
    let name = &facts.name;
    let end = facts.last_end.as_deref().map(|end| format!(", its container ended: {end}")).unwrap_or_default();
    if facts.terminating {
        return State::Waiting(format!("pod `{name}` is being deleted"));
    }
    if ["Succeeded", "Failed"].contains(&facts.phase.as_str()) {
        return State::Ended(format!("pod `{name}` has ended ({}){end}", facts.phase));
    }
    if facts.ready {
        return State::Ready;
    }
    let status = pod.status.clone().unwrap_or_default();
    if let Some(unscheduled) =
        status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
    {
        return State::Waiting(format!("pod `{name}` has no node: {}", short(unscheduled.message.as_deref().unwrap_or_default())));
    }
    let statuses = status.container_statuses.iter().flatten();
    let waiting = statuses.filter(|one| one.name == container).find_map(|one| waits(one.state.as_ref()));
    let Some((reason, message)) = waiting else {
        return State::Waiting(format!("pod `{name}` on node `{}` is not ready{end}", facts.node.as_deref().unwrap_or("none")));
    };
    let told = format!("pod `{name}`: {reason}{}{end}", if message.is_empty() { String::new() } else { format!(": {message}") });
    match reason.as_str() {
        "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => State::Hopeless(told),
        "CrashLoopBackOff" if facts.restart_count >= HOPELESS_RESTARTS => State::Hopeless(told),
        _ => State::Waiting(told),
    }
}

fn waits(state: Option<&ContainerState>) -> Option<(String, String)> {
    let waiting = state?.waiting.as_ref()?;
    Some((waiting.reason.clone().unwrap_or_default(), short(waiting.message.as_deref().unwrap_or_default())))
}

/// How it stands, the last line of the log, and the latest warning about it.
pub(super) async fn explained(cluster: &Cluster, selector: &str, container: &str, how: String) -> String {
    let mut reasons = vec![how];
    let listed = cluster.call("list the pods", cluster.namespaced::<Pod>().list(&ListParams::default().labels(selector))).await;
    let pods = listed.map(|list| list.items).unwrap_or_default();
    for pod in pods.iter().filter_map(|pod| pod.metadata.name.as_deref()) {
        reasons.extend(last_line(cluster, pod, container).await.map(|line| format!("the last line of its log: {line}")));
    }
    reasons.extend(last_warning(cluster).await.map(|warning| format!("the latest warning: {warning}")));
    reasons.join("; ")
}

/// The last line that a container wrote, or the one before it if this life has said nothing yet.
pub(super) async fn last_line(cluster: &Cluster, pod: &str, container: &str) -> Option<String> {
    for previous in [false, true] {
        let params = LogParams { container: Some(container.to_owned()), tail_lines: Some(1), previous, ..LogParams::default() };
        if let Ok(log) = cluster.call("read the log", cluster.namespaced::<Pod>().logs(pod, &params)).await
            && let Some(line) = log.lines().last()
        {
            return Some(short(line));
        }
    }
    None
}

/// The latest warning that the cluster has in the target's namespace.
async fn last_warning(cluster: &Cluster) -> Option<String> {
    let warnings = ListParams::default().fields("type=Warning");
    let events = cluster.call("list the warnings", cluster.namespaced::<Event>().list(&warnings)).await.ok()?;
    let last = events.items.into_iter().max_by_key(when)?;
    let object = format!("{} `{}`", last.involved_object.kind.unwrap_or_default(), last.involved_object.name.unwrap_or_default());
    Some(format!("{object}: {}: {}", last.reason.unwrap_or_default(), short(&last.message.unwrap_or_default())))
}

/// When an event was seen last; its kinds keep that in different places, as text of one form.
fn when(event: &Event) -> Option<String> {
    let text = |value: serde_json::Result<serde_json::Value>| value.ok()?.as_str().map(ToOwned::to_owned);
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    series
        .and_then(|time| text(serde_json::to_value(time)))
        .or_else(|| event.last_timestamp.as_ref().and_then(|time| text(serde_json::to_value(time))))
        .or_else(|| event.event_time.as_ref().and_then(|time| text(serde_json::to_value(time))))
        .or_else(|| event.metadata.creation_timestamp.as_ref().and_then(|time| text(serde_json::to_value(time))))
}

/// One line, not too long.
pub(super) fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(TOLD) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": []}, "status": status})).unwrap()
    }

    #[test]
    fn a_pod_that_does_not_go_with_its_node_hints_at_heal() {
        let mut pod = pod(&json!({"phase": "Running"}));
        assert_eq!(still_there(&pod), "pod `p` on node `n` is not being deleted");
        pod.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert!(still_there(&pod).contains("`comeback heal`"), "{}", still_there(&pod));
    }

    fn waiting(reason: &str, restarts: i32) -> Value {
        json!({
            "phase": "Pending",
            "containerStatuses": [{
                "name": "mssql", "image": "i", "imageID": "", "ready": false, "restartCount": restarts,
                "state": {"waiting": {"reason": reason, "message": "because\nof it"}},
            }],
        })
    }

    #[rstest]
    #[case::a_pull_that_is_tried_for_the_first_time(waiting("ErrImagePull", 0), false)]
    #[case::a_pull_that_failed(waiting("ImagePullBackOff", 0), true)]
    #[case::a_first_crash(waiting("CrashLoopBackOff", 1), false)]
    #[case::crash_upon_crash(waiting("CrashLoopBackOff", 4), true)]
    #[case::a_container_that_is_made(waiting("ContainerCreating", 0), false)]
    fn what_will_never_come_is_told_at_once(#[case] status: Value, #[case] hopeless: bool) {
        match state(&pod(&status), "mssql") {
            State::Hopeless(how) => assert!(hopeless && how.contains("because of it"), "{how}"),
            State::Waiting(how) => assert!(!hopeless && how.contains("because of it"), "{how}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pod_without_a_node_tells_what_the_scheduler_says() {
        let conditions = json!([{"type": "PodScheduled", "status": "False", "message": "0/4 nodes are available: 1 Insufficient cpu."}]);
        let State::Waiting(how) = state(&pod(&json!({"phase": "Pending", "conditions": conditions})), "mssql") else { panic!() };
        assert!(how.contains("Insufficient cpu"), "{how}");
    }

    #[test]
    fn ready_is_ready_and_ended_is_ended() {
        let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(state(&pod(&ready), "mssql"), State::Ready);
        assert!(matches!(state(&pod(&json!({"phase": "Failed"})), "mssql"), State::Ended(_)));
    }

    #[test]
    fn the_latest_event_is_found_wherever_it_keeps_its_time() {
        let event = |fields: Value| {
            let mut event = json!({"metadata": {}, "involvedObject": {}});
            event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            serde_json::from_value::<Event>(event).unwrap()
        };
        let old = event(json!({"lastTimestamp": "2026-01-01T00:00:05Z"}));
        let new = event(json!({"eventTime": "2026-01-01T00:00:06.000000Z"}));
        let newest = event(json!({"eventTime": "2026-01-01T00:00:01.000000Z",
            "series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:07.000000Z"}}));
        assert!(when(&old) < when(&new) && when(&new) < when(&newest));
    }

    #[test]
    fn the_error_says_whether_it_waited() {
        let error = |waited| NotUp { what: "the database `mssql`".into(), waited, why: "it has no pod".into() }.to_string();
        assert_eq!(error(Some(Duration::from_mins(2))), "the database `mssql` is not up after 2m: it has no pod");
        assert_eq!(error(None), "the database `mssql` cannot come up: it has no pod");
    }
}
