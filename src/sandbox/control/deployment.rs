//! Deployments: a `ReplicaSet` for each template that was ever asked for, and the way from one to the next.
//!
//! `Recreate` waits until the last pod of the old template is gone before it makes the first of the new. `RollingUpdate` keeps the number of pods
//! between `maxUnavailable` below and `maxSurge` above what is asked for.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use serde_json::{Value, json};

use super::super::{
    Cluster,
    events::{Source, Tone, tell},
    kinds::Kind,
    object::{self, Look, pod, set_condition, share_of},
    store::{Deletion, Key, Part},
};

/// The label by which the pods of one template are told from those of another.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Which template this is, counted from 1.
const REVISION: &str = "/metadata/annotations/deployment.kubernetes.io~1revision";

/// Why a Deployment whose new pods have all been available once is progressing.
const ROLLED_OUT: &str = "NewReplicaSetAvailable";

/// Brings every Deployment one step further.
pub(super) fn reconcile(cluster: &Cluster) {
    for deployment in cluster.store.list(Kind::Deployment, None) {
        if deployment.is_terminating() {
            continue;
        }
        let sets = sets_of(cluster, &deployment);
        let (new, old): (Vec<_>, Vec<_>) = sets.into_iter().partition(|set| has_template_of(set, &deployment));
        let new = new.into_iter().next();
        if let Some(new) = &new {
            make_latest(cluster, new, &old);
        }
        if !deployment.flag("/spec/paused") {
            if deployment.text("/spec/strategy/type") == "Recreate" {
                recreate(cluster, &deployment, new.as_deref(), &old);
            } else {
                roll(cluster, &deployment, new.as_deref(), &old);
            }
            forget_history(cluster, &deployment, &old);
        } else if let Some(new) = &new {
            scale(cluster, &deployment, new, replicas(&deployment));
        }
        tell_status(cluster, &deployment);
    }
}

fn sets_of(cluster: &Cluster, deployment: &Value) -> Vec<Arc<Value>> {
    let mut sets = cluster.store.list(Kind::ReplicaSet, Some(deployment.namespace()));
    sets.retain(|set| object::is_controlled_by(set, deployment.uid()) && !set.is_terminating());
    sets.sort_by_key(|set| revision(set));
    sets
}

/// A template that is asked for again gets the next revision, as if it were new.
fn make_latest(cluster: &Cluster, new: &Value, old: &[Arc<Value>]) {
    let latest = old.iter().map(|set| revision(set)).max().unwrap_or_default();
    if revision(new) < latest {
        let change = |set: &mut Value| {
            object::set(set, REVISION, (latest + 1).to_string());
            Ok(())
        };
        cluster.store.update(&Key::of(Kind::ReplicaSet, new), Part::Main, false, change).ok();
    }
}

fn replicas(object: &Value) -> i64 {
    object.int("/spec/replicas").unwrap_or(1)
}

fn available(set: &Value) -> i64 {
    set.int("/status/availableReplicas").unwrap_or_default()
}

fn revision(set: &Value) -> i64 {
    set.text(REVISION).parse().unwrap_or_default()
}

fn has_template_of(set: &Value, deployment: &Value) -> bool {
    let mut template = set["spec"]["template"].clone();
    object::remove(&mut template, &format!("/metadata/labels/{TEMPLATE_HASH}"));
    template == deployment["spec"]["template"]
}

fn recreate(cluster: &Cluster, deployment: &Value, new: Option<&Value>, old: &[Arc<Value>]) {
    let mut is_scaling = false;
    for set in old.iter().filter(|set| replicas(set) > 0) {
        scale(cluster, deployment, set, 0);
        is_scaling = true;
    }
    // A pod that is on its way out still runs.
    let pods = cluster.store.list(Kind::Pod, Some(deployment.namespace()));
    let runs = |set: &Arc<Value>| pods.iter().any(|one| object::is_controlled_by(one, set.uid()) && !pod::is_finished(one));
    if is_scaling || old.iter().any(runs) {
        return;
    }
    match new {
        Some(new) => scale(cluster, deployment, new, replicas(deployment)),
        None => make_set(cluster, deployment, replicas(deployment)),
    }
}

fn roll(cluster: &Cluster, deployment: &Value, new: Option<&Value>, old: &[Arc<Value>]) {
    let wanted = replicas(deployment);
    let (surge, unavailable) = bounds(deployment);
    let total = |new: i64| new + old.iter().map(|set| replicas(set)).sum::<i64>();
    let Some(new) = new else {
        let room = (wanted + surge - total(0)).max(0);
        return make_set(cluster, deployment, room.min(wanted));
    };
    let have = replicas(new);
    if old.iter().all(|set| replicas(set) == 0) || have > wanted {
        return scale(cluster, deployment, new, wanted);
    }
    let room = wanted + surge - total(have);
    if have < wanted && room > 0 {
        // The next change, that of the new set, brings us here again.
        return scale(cluster, deployment, new, (have + room).min(wanted));
    }
    // As many old ones may go as leaves enough that are available, counting those of the new that are not yet.
    let mut spare = total(have) - (wanted - unavailable) - (have - available(new)).max(0);
    let mut left: Vec<i64> = old.iter().map(|set| replicas(set)).collect();
    for (set, left) in old.iter().zip(&mut left) {
        let down = (*left - available(set)).clamp(0, spare.max(0));
        *left -= down;
        spare -= down;
    }
    let all_available = available(new) + old.iter().map(|set| available(set)).sum::<i64>();
    let mut spare = spare.min(all_available - (wanted - unavailable));
    for left in &mut left {
        let down = (*left).clamp(0, spare.max(0));
        *left -= down;
        spare -= down;
    }
    for (set, left) in old.iter().zip(left) {
        scale(cluster, deployment, set, left);
    }
}

/// `maxSurge` and `maxUnavailable` as numbers. Both zero would never move, so then one may be unavailable.
fn bounds(deployment: &Value) -> (i64, i64) {
    let wanted = replicas(deployment);
    let resolve = |field: &str, round_up: bool| share_of(&deployment["spec"]["strategy"]["rollingUpdate"][field], wanted, round_up);
    match (resolve("maxSurge", true), resolve("maxUnavailable", false)) {
        (0, 0) => (0, 1),
        bounds => bounds,
    }
}

fn make_set(cluster: &Cluster, deployment: &Value, replicas: i64) {
    let template = &deployment["spec"]["template"];
    let latest = sets_of(cluster, deployment).iter().map(|set| revision(set)).max().unwrap_or_default();
    // The name is that of the template; should two templates have one name, the next is tried.
    for collision in 0_u32.. {
        let hash = template_hash(template, collision);
        let mut set = json!({
            "metadata": {
                "name": format!("{}-{hash}", deployment.name()), "namespace": deployment.namespace(),
                "labels": template["metadata"]["labels"], "ownerReferences": [object::controller_reference(deployment)],
            },
            "spec": { "replicas": replicas, "selector": deployment["spec"]["selector"], "template": template },
        });
        object::set(&mut set, REVISION, (latest + 1).to_string());
        for at in ["/metadata/labels", "/spec/selector/matchLabels", "/spec/template/metadata/labels"] {
            object::set(&mut set, &format!("{at}/{TEMPLATE_HASH}"), hash.as_str());
        }
        match cluster.store.create(Kind::ReplicaSet, set, false) {
            Ok(set) => {
                if replicas > 0 {
                    tell_scaling(cluster, deployment, &set, 0, replicas);
                }
                return;
            }
            Err(refusal) if refusal.reason == "AlreadyExists" => {}
            Err(refusal) => {
                let source = Source::controller("deployment-controller");
                tell(&cluster.store, source, deployment, Tone::Warning, "ReplicaSetCreateError", &refusal.message);
                return;
            }
        }
    }
}

/// A short name for a template. Should two templates have the same, the next `collision` gives another.
pub(super) fn template_hash(template: &Value, collision: u32) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hasher = DefaultHasher::new();
    (template.to_string(), collision).hash(&mut hasher);
    let mut rest = hasher.finish();
    std::iter::repeat_with(|| {
        let letter = LETTERS[usize::try_from(rest % LETTERS.len() as u64).expect("smaller than the alphabet")];
        rest /= LETTERS.len() as u64;
        char::from(letter)
    })
    .take(10)
    .collect()
}

fn scale(cluster: &Cluster, deployment: &Value, set: &Value, to: i64) {
    let from = replicas(set);
    if from == to {
        return;
    }
    let change = |set: &mut Value| {
        object::set(set, "/spec/replicas", to);
        Ok(())
    };
    if cluster.store.update(&Key::of(Kind::ReplicaSet, set), Part::Main, false, change).is_ok() {
        tell_scaling(cluster, deployment, set, from, to);
    }
}

fn tell_scaling(cluster: &Cluster, deployment: &Value, set: &Value, from: i64, to: i64) {
    let way = if to > from { "up" } else { "down" };
    let message = format!("Scaled {way} replica set {} from {from} to {to}", set.name());
    tell(&cluster.store, Source::controller("deployment-controller"), deployment, Tone::Normal, "ScalingReplicaSet", &message);
}

fn forget_history(cluster: &Cluster, deployment: &Value, old: &[Arc<Value>]) {
    let limit = usize::try_from(deployment.int("/spec/revisionHistoryLimit").unwrap_or(10)).unwrap_or_default();
    let idle: Vec<_> = old.iter().filter(|set| replicas(set) == 0 && set.int("/status/replicas").unwrap_or_default() == 0).collect();
    for set in idle.iter().take(idle.len().saturating_sub(limit)) {
        cluster.store.delete(&Key::of(Kind::ReplicaSet, set), &Deletion::default()).ok();
    }
}

fn condition_reason<'a>(object: &'a Value, kind: &str) -> &'a str {
    object
        .list("/status/conditions")
        .iter()
        .find(|condition| condition.text("/type") == kind)
        .map_or("", |condition| condition.text("/reason"))
}

fn tell_status(cluster: &Cluster, deployment: &Value) {
    let sets = sets_of(cluster, deployment);
    let new = sets.iter().find(|set| has_template_of(set, deployment));
    let sum = |field: &str| sets.iter().map(|set| set.int(field).unwrap_or_default()).sum::<i64>();
    let asked: i64 = sets.iter().map(|set| replicas(set)).sum();
    let (total, ready, usable) = (sum("/status/replicas"), sum("/status/readyReplicas"), sum("/status/availableReplicas"));
    let leaving = sum("/status/terminatingReplicas");
    let updated = new.and_then(|set| set.int("/status/replicas")).unwrap_or_default();
    let wanted = replicas(deployment);
    let (_, unavailable) = if deployment.text("/spec/strategy/type") == "Recreate" { (0, 0) } else { bounds(deployment) };
    let is_complete = new.is_some() && updated == wanted && total == wanted && usable == wanted;
    let (generation, set) = (deployment.int("/metadata/generation").unwrap_or(1), new.map(|set| set.name().to_owned()).unwrap_or_default());
    let current = new.map(|set| revision(set)).unwrap_or_default();
    let change = |object: &mut Value| {
        for (field, number) in [
            ("replicas", total),
            ("updatedReplicas", updated),
            ("readyReplicas", ready),
            ("availableReplicas", usable),
            ("unavailableReplicas", (asked - usable).max(0)),
            ("terminatingReplicas", leaving),
        ] {
            object::set(object, &format!("/status/{field}"), number);
        }
        object::set(object, "/status/observedGeneration", generation);
        if usable >= wanted - unavailable {
            set_condition(object, "Available", true, "MinimumReplicasAvailable", "Deployment has minimum availability.");
        } else {
            set_condition(object, "Available", false, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.");
        }
        if is_complete {
            let message = format!("ReplicaSet \"{set}\" has successfully progressed.");
            set_condition(object, "Progressing", true, ROLLED_OUT, &message);
        } else if total != updated || condition_reason(object, "Progressing") != ROLLED_OUT {
            // Once rolled out it stays so, whatever becomes of its pods, until there is another template.
            set_condition(object, "Progressing", true, "ReplicaSetUpdated", &format!("ReplicaSet \"{set}\" is progressing."));
        }
        Ok(())
    };
    let key = Key::of(Kind::Deployment, deployment);
    cluster.store.update(&key, Part::Status, false, change).ok();
    if current > 0 {
        let change = |object: &mut Value| {
            object::set(object, REVISION, current.to_string());
            Ok(())
        };
        cluster.store.update(&key, Part::Main, false, change).ok();
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::percent_of_one(1, json!("25%"), json!("25%"), (1, 0))]
    #[case::percent_of_four(4, json!("25%"), json!("25%"), (1, 1))]
    #[case::numbers(3, json!(2), json!(1), (2, 1))]
    #[case::both_zero(3, json!(0), json!(0), (0, 1))]
    fn surge_rounds_up_and_unavailable_down(
        #[case] replicas: i64,
        #[case] surge: Value,
        #[case] unavailable: Value,
        #[case] expected: (i64, i64),
    ) {
        let rolling = json!({ "maxSurge": surge, "maxUnavailable": unavailable });
        assert_eq!(bounds(&json!({ "spec": { "replicas": replicas, "strategy": { "rollingUpdate": rolling } } })), expected);
    }

    #[test]
    fn the_hash_label_does_not_make_another_template() {
        let deployment = json!({ "spec": { "template": { "metadata": { "labels": { "a": "b" } } } } });
        let set = json!({ "spec": { "template": { "metadata": { "labels": { "a": "b", TEMPLATE_HASH: "x" } } } } });
        assert!(has_template_of(&set, &deployment));
        assert_ne!(template_hash(&deployment, 0), template_hash(&deployment, 1));
        assert_eq!(template_hash(&deployment, 0), template_hash(&deployment, 0));
    }
}
