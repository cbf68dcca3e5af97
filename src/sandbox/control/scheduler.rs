//! The scheduler: which node a pod goes to.
//!
//! A node is fit if it is not cordoned, its taints are tolerated, it has the labels that the pod asks for and those that the pod's volumes ask for, and
//! no required anti-affinity is against it. Of the fit ones the one with the fewest pods is taken, then the first by name. Room (CPU, memory) is not
//! counted: every node has as much as this machine.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::super::{
    Cluster,
    events::{Source, Tone, tell},
    kinds::Kind,
    object::{self, Look, pod, set_condition},
    selector::Labels,
    store::{Key, Part},
};
use super::volumes::SELECTED_NODE;

/// What was last told of each pod that fits nowhere, by uid.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<String, String>);

/// Finds a node for every pod that has none.
pub(super) fn reconcile(cluster: &Cluster, told: &mut Told) {
    let pods = cluster.store.list(Kind::Pod, None);
    told.0.retain(|uid, _| pods.iter().any(|pod| pod.uid() == uid));
    let waits = |pod: &&Arc<Value>| {
        pod.text("/spec/nodeName").is_empty() && pod::is_active(pod) && pod.text("/spec/schedulerName") == "default-scheduler"
    };
    for pod in pods.iter().filter(waits) {
        match place(cluster, pod) {
            Ok(Some(node)) => bind(cluster, pod, &node),
            // A volume is being made for it.
            Ok(None) => {}
            Err(why) => {
                if told.0.get(pod.uid()) != Some(&why) {
                    refuse(cluster, pod, &why);
                    told.0.insert(pod.uid().to_owned(), why);
                }
            }
        }
    }
}

fn place(cluster: &Cluster, pod: &Value) -> Result<Option<String>, String> {
    let mut claims = Vec::new();
    for name in pod::claims(pod) {
        let claim = cluster.store.get(Kind::PersistentVolumeClaim, pod.namespace(), name);
        let claim = claim.filter(|claim| !claim.is_terminating()).ok_or_else(|| {
            let nodes = cluster.store.list(Kind::Node, None).len();
            format!("0/{nodes} nodes are available: persistentvolumeclaim \"{name}\" not found.")
        })?;
        claims.push(claim);
    }
    let nodes = cluster.store.list(Kind::Node, None);
    let pods = cluster.store.list(Kind::Pod, None);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut fit = Vec::new();
    for node in &nodes {
        match unfit(cluster, pod, node, &claims, &nodes, &pods) {
            None => fit.push(node),
            Some(why) => *reasons.entry(why).or_default() += 1,
        }
    }
    let on = |node: &Value| pods.iter().filter(|pod| pod.text("/spec/nodeName") == node.name() && !pod::is_finished(pod)).count();
    let Some(best) = fit.into_iter().min_by_key(|node| (on(node), node.name().to_owned())) else {
        let list = reasons.iter().map(|(why, count)| format!("{count} {why}")).collect::<Vec<_>>().join(", ");
        return Err(format!("0/{} nodes are available: {list}.", nodes.len()));
    };
    let unbound: Vec<_> = claims.iter().filter(|claim| claim.text("/status/phase") != "Bound").collect();
    for claim in &unbound {
        let class = cluster.store.get(Kind::StorageClass, "", claim.text("/spec/storageClassName"));
        if class.is_none_or(|class| class.text("/volumeBindingMode") != "WaitForFirstConsumer") {
            return Err(format!("0/{} nodes are available: pod has unbound immediate PersistentVolumeClaims.", nodes.len()));
        }
        let node = best.name().to_owned();
        let change = |claim: &mut Value| {
            object::default(claim, SELECTED_NODE, node);
            Ok(())
        };
        cluster.store.update(&Key::of(Kind::PersistentVolumeClaim, claim), Part::Main, false, change).ok();
    }
    Ok(unbound.is_empty().then(|| best.name().to_owned()))
}

/// Why a pod cannot go to a node, in the scheduler's words; `None` if it can.
fn unfit(cluster: &Cluster, pod: &Value, node: &Value, claims: &[Arc<Value>], nodes: &[Arc<Value>], pods: &[Arc<Value>]) -> Option<String> {
    let null = Value::Null;
    let labels = node.pointer("/metadata/labels").unwrap_or(&null);
    let tolerations = pod.list("/spec/tolerations");
    // The cordon is a taint of its own, which only those who ask for it tolerate.
    let cordon = serde_json::json!({ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" });
    if node.flag("/spec/unschedulable") && !tolerations.iter().any(|toleration| tolerates(toleration, &cordon)) {
        return Some("node(s) were unschedulable".to_owned());
    }
    let hard = |taint: &&Value| taint.text("/effect") != "PreferNoSchedule";
    let against = node.list("/spec/taints").iter().filter(hard);
    if let Some(taint) = against.clone().find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint))) {
        return Some(format!("node(s) had untolerated taint {{{}: {}}}", taint.text("/key"), taint.text("/value")));
    }
    if !Labels::of_map(&pod["spec"]["nodeSelector"]).matches_labels(labels)
        || !matches_terms(&pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"], node)
    {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    for claim in claims {
        if let Some(volume) = cluster.store.get(Kind::PersistentVolume, "", claim.text("/spec/volumeName"))
            && !matches_terms(&volume["spec"]["nodeAffinity"]["required"], node)
        {
            return Some("node(s) had volume node affinity conflict".to_owned());
        }
        // Once a node was chosen for a claim that is still unbound, the volume is made for that node.
        let selected = claim.text(SELECTED_NODE);
        if claim.text("/status/phase") != "Bound"
            && !selected.is_empty()
            && selected != node.name()
            && nodes.iter().any(|node| node.name() == selected)
        {
            return Some("node(s) were not selected for the pod's volume".to_owned());
        }
    }
    for term in pod.list("/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution") {
        let selector = Labels::of_object(&term["labelSelector"]);
        let topology = term.text("/topologyKey");
        let is_there = |other: &&Arc<Value>| {
            let place = nodes.iter().find(|node| node.name() == other.text("/spec/nodeName"));
            let same =
                place.is_some_and(|place| place["metadata"]["labels"][topology] == labels[topology] && labels.get(topology).is_some());
            same && other.namespace() == pod.namespace() && other.uid() != pod.uid() && !pod::is_finished(other) && selector.matches(other)
        };
        if pods.iter().any(|other| is_there(&other)) {
            return Some("node(s) didn't match pod anti-affinity rules".to_owned());
        }
    }
    None
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let key = toleration.text("/key");
    let effect = toleration.text("/effect");
    let value_fits = match toleration.text("/operator") {
        "Exists" => true,
        _ => toleration.text("/value") == taint.text("/value") && !key.is_empty(),
    };
    (key.is_empty() || key == taint.text("/key")) && (effect.is_empty() || effect == taint.text("/effect")) && value_fits
}

/// Whether a node meets one of the terms of a node selector; one that is not there is met.
fn matches_terms(selector: &Value, node: &Value) -> bool {
    let terms = selector.list("/nodeSelectorTerms");
    let null = Value::Null;
    let labels = node.pointer("/metadata/labels").unwrap_or(&null);
    selector.is_null()
        || terms.iter().any(|term| {
            let name = serde_json::json!({ "metadata.name": node.name() });
            Labels::of_expressions(term.list("/matchExpressions")).matches_labels(labels)
                && Labels::of_expressions(term.list("/matchFields")).matches_labels(&name)
        })
}

fn bind(cluster: &Cluster, pod: &Value, node: &str) {
    let change = |pod: &mut Value| {
        object::set(pod, "/spec/nodeName", node);
        set_condition(pod, "PodScheduled", true, "", "");
        Ok(())
    };
    if let Ok(pod) = cluster.store.update(&Key::of(Kind::Pod, pod), Part::Whole, false, change) {
        let message = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
        tell(&cluster.store, Source::controller("default-scheduler"), &pod, Tone::Normal, "Scheduled", &message);
    }
}

fn refuse(cluster: &Cluster, pod: &Value, why: &str) {
    let change = |pod: &mut Value| {
        set_condition(pod, "PodScheduled", false, "Unschedulable", why);
        Ok(())
    };
    cluster.store.update(&Key::of(Kind::Pod, pod), Part::Status, false, change).ok();
    tell(&cluster.store, Source::controller("default-scheduler"), pod, Tone::Warning, "FailedScheduling", why);
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::the_same(json!({ "key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule" }), true)]
    #[case::exists(json!({ "key": "a", "operator": "Exists" }), true)]
    #[case::everything(json!({ "operator": "Exists" }), true)]
    #[case::another_value(json!({ "key": "a", "value": "c" }), false)]
    #[case::another_effect(json!({ "key": "a", "operator": "Exists", "effect": "NoExecute" }), false)]
    #[case::another_key(json!({ "key": "c", "operator": "Exists" }), false)]
    fn a_toleration_tolerates(#[case] toleration: Value, #[case] expected: bool) {
        assert_eq!(tolerates(&toleration, &json!({ "key": "a", "value": "b", "effect": "NoSchedule" })), expected);
    }

    #[test]
    fn one_term_of_a_node_selector_is_enough() {
        let node = json!({ "metadata": { "name": "n", "labels": { "zone": "a" } } });
        let term = |zone: &str| json!({ "matchExpressions": [{ "key": "zone", "operator": "In", "values": [zone] }] });
        assert!(matches_terms(&Value::Null, &node));
        assert!(matches_terms(&json!({ "nodeSelectorTerms": [term("b"), term("a")] }), &node));
        assert!(!matches_terms(&json!({ "nodeSelectorTerms": [term("b")] }), &node));
        let field = json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n"] }] });
        assert!(matches_terms(&json!({ "nodeSelectorTerms": [field] }), &node));
    }
}
