//! Replica sets: as many pods as asked for. A pod that is being deleted does not count, so its replacement is made at once, beside it.
//!
//! `minReadySeconds` is taken as 0, and pods that nobody owns are not adopted.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{
    Cluster,
    events::{Source, Tone, tell},
    kinds::Kind,
    object::{self, Look, pod},
    store::{Deletion, Key, Part, random_suffix},
};

/// Makes and deletes pods until there are as many as asked for, and says how many there are.
pub(super) fn reconcile(cluster: &Cluster) {
    for set in cluster.store.list(Kind::ReplicaSet, None) {
        let pods = cluster.store.list(Kind::Pod, Some(set.namespace()));
        let owned = || pods.iter().filter(|pod| object::is_controlled_by(pod, set.uid()));
        let mut active: Vec<_> = owned().filter(|one| pod::is_active(one)).collect();
        let wanted = usize::try_from(set.int("/spec/replicas").unwrap_or(1)).unwrap_or_default();
        if !set.is_terminating() {
            for _ in active.len()..wanted {
                make_pod(cluster, &set);
            }
            if active.len() > wanted {
                // Those that serve least go first: without a node, then not ready, then the newest.
                active.sort_by_key(|one| {
                    (one.text("/spec/nodeName").is_empty(), !pod::is_ready(one), one.text("/metadata/creationTimestamp").to_owned())
                });
                for one in active.split_off(wanted) {
                    delete_pod(cluster, &set, one);
                }
            }
        }
        // As it was before: the pods that were made just now are counted when they are seen, the next time.
        tell_status(cluster, &set, &pods);
    }
}

fn make_pod(cluster: &Cluster, set: &Value) {
    let template = &set["spec"]["template"];
    let mut metadata = json!({
        "name": format!("{}-{}", set.name(), random_suffix(5)), "generateName": format!("{}-", set.name()), "namespace": set.namespace(),
        "ownerReferences": [object::controller_reference(set)],
    });
    for field in ["labels", "annotations"] {
        if let Some(value) = template["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let pod = json!({ "metadata": metadata, "spec": template["spec"] });
    let source = Source::controller("replicaset-controller");
    match cluster.store.create(Kind::Pod, pod, false) {
        Ok(pod) => tell(&cluster.store, source, set, Tone::Normal, "SuccessfulCreate", &format!("Created pod: {}", pod.name())),
        Err(refusal) => tell(&cluster.store, source, set, Tone::Warning, "FailedCreate", &format!("Error creating: {refusal}")),
    }
}

fn delete_pod(cluster: &Cluster, set: &Value, pod: &Value) {
    let how = Deletion { uid: Some(pod.uid().to_owned()), ..Deletion::default() };
    if cluster.store.delete(&Key::of(Kind::Pod, pod), &how).is_ok() {
        let message = format!("Deleted pod: {}", pod.name());
        tell(&cluster.store, Source::controller("replicaset-controller"), set, Tone::Normal, "SuccessfulDelete", &message);
    }
}

fn tell_status(cluster: &Cluster, set: &Value, pods: &[Arc<Value>]) {
    let owned = || pods.iter().filter(|one| object::is_controlled_by(one, set.uid()));
    let active: Vec<&Arc<Value>> = owned().filter(|one| pod::is_active(one)).collect();
    let leaving = owned().filter(|one| one.is_terminating() && !pod::is_finished(one)).count();
    let ready = active.iter().filter(|one| pod::is_ready(one)).count();
    let (count, generation) = (active.len(), set.int("/metadata/generation").unwrap_or(1));
    let change = |object: &mut Value| {
        for (field, number) in [
            ("replicas", count),
            ("fullyLabeledReplicas", count),
            ("readyReplicas", ready),
            ("availableReplicas", ready),
            ("terminatingReplicas", leaving),
        ] {
            object::set(object, &format!("/status/{field}"), number);
        }
        object::set(object, "/status/observedGeneration", generation);
        Ok(())
    };
    cluster.store.update(&Key::of(Kind::ReplicaSet, set), Part::Status, false, change).ok();
}
