//! Reading and writing Kubernetes objects as JSON values.
//!
//! The sandbox keeps every object as a [`Value`]: one store serves all kinds, unknown fields survive, and a patch is a patch. What is lost, typed
//! fields, is made up for by [`Look`], whose answers to a missing field are the empty ones.

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value, json};

/// Reads fields by JSON pointer; a missing field is empty, zero or false.
pub(crate) trait Look {
    /// The string at `at`, or the empty one.
    fn text(&self, at: &str) -> &str;
    /// The number at `at`.
    fn int(&self, at: &str) -> Option<i64>;
    /// Whether `at` is `true`.
    fn flag(&self, at: &str) -> bool;
    /// The elements at `at`.
    fn list(&self, at: &str) -> &[Value];
    /// Whether anything but null is at `at`.
    fn has(&self, at: &str) -> bool;

    /// `metadata.name`.
    fn name(&self) -> &str {
        self.text("/metadata/name")
    }
    /// `metadata.namespace`; empty for what has none.
    fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }
    /// `metadata.uid`.
    fn uid(&self) -> &str {
        self.text("/metadata/uid")
    }
    /// Whether the object is on its way out.
    fn is_terminating(&self) -> bool {
        self.has("/metadata/deletionTimestamp")
    }
}

impl Look for Value {
    fn text(&self, at: &str) -> &str {
        self.pointer(at).and_then(Value::as_str).unwrap_or_default()
    }

    fn int(&self, at: &str) -> Option<i64> {
        self.pointer(at).and_then(Value::as_i64)
    }

    fn flag(&self, at: &str) -> bool {
        self.pointer(at).and_then(Value::as_bool).unwrap_or_default()
    }

    fn list(&self, at: &str) -> &[Value] {
        self.pointer(at).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    fn has(&self, at: &str) -> bool {
        self.pointer(at).is_some_and(|found| !found.is_null())
    }
}

/// Puts `value` at `at`, a pointer through objects only, and makes the objects on the way.
pub(crate) fn set(object: &mut Value, at: &str, value: impl Into<Value>) {
    let mut place = object;
    for part in at.split('/').skip(1) {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let key = part.replace("~1", "/").replace("~0", "~");
        place = place.as_object_mut().expect("made an object above").entry(key).or_insert(Value::Null);
    }
    *place = value.into();
}

/// Puts `value` at `at` if nothing is there.
pub(crate) fn default(object: &mut Value, at: &str, value: impl Into<Value>) {
    if !object.has(at) {
        set(object, at, value);
    }
}

/// Takes away what is at `at`.
pub(crate) fn remove(object: &mut Value, at: &str) {
    let Some((parent, key)) = at.rsplit_once('/') else { return };
    if let Some(Value::Object(fields)) = object.pointer_mut(parent) {
        fields.remove(&key.replace("~1", "/").replace("~0", "~"));
    }
}

/// The list at `at`, made if it is not there.
pub(crate) fn list_mut<'a>(object: &'a mut Value, at: &str) -> &'a mut Vec<Value> {
    if !object.pointer(at).is_some_and(Value::is_array) {
        set(object, at, Value::Array(Vec::new()));
    }
    object.pointer_mut(at).and_then(Value::as_array_mut).expect("made a list above")
}

/// This moment as Kubernetes writes it in objects: RFC 3339, whole seconds.
pub(crate) fn now() -> String {
    stamp(Utc::now())
}

/// A moment as Kubernetes writes it in objects: RFC 3339, whole seconds.
pub(crate) fn stamp(at: chrono::DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// This moment as Kubernetes writes it where a second is too coarse: RFC 3339 with microseconds.
pub(crate) fn now_micro() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The owner that controls an object, if one does.
pub(crate) fn controller_of(object: &Value) -> Option<&Value> {
    object.list("/metadata/ownerReferences").iter().find(|owner| owner.flag("/controller"))
}

/// Whether `owner` (its uid) controls `object`.
pub(crate) fn is_controlled_by(object: &Value, owner: &str) -> bool {
    controller_of(object).is_some_and(|reference| reference.text("/uid") == owner)
}

/// The reference that makes `owner` the controller of what carries it.
pub(crate) fn controller_reference(owner: &Value) -> Value {
    json!({
        "apiVersion": owner.text("/apiVersion"), "kind": owner.text("/kind"), "name": owner.name(), "uid": owner.uid(),
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// The condition of that type in `status.conditions`.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object.list("/status/conditions").iter().find(|condition| condition.text("/type") == kind)
}

/// Whether the condition of that type is `True`.
pub(crate) fn condition_holds(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition.text("/status") == "True")
}

/// Sets a condition in `status.conditions`; its transition time moves only when its status does.
pub(crate) fn set_condition(object: &mut Value, kind: &str, holds: bool, reason: &str, message: &str) {
    let status = if holds { "True" } else { "False" };
    let conditions = list_mut(object, "/status/conditions");
    let at = conditions.iter().position(|condition| condition.text("/type") == kind).unwrap_or_else(|| {
        conditions.push(json!({ "type": kind }));
        conditions.len() - 1
    });
    let condition = &mut conditions[at];
    if condition.text("/status") != status {
        set(condition, "/status", status);
        set(condition, "/lastTransitionTime", now());
    }
    for (field, text) in [("/reason", reason), ("/message", message)] {
        if text.is_empty() {
            remove(condition, field);
        } else {
            set(condition, field, text);
        }
    }
}

/// A number, or a percentage of `whole`, rounded up or down: `maxSurge`, `minAvailable` and their like.
pub(crate) fn share_of(value: &Value, whole: i64, round_up: bool) -> i64 {
    let percent = value.as_str().and_then(|text| text.strip_suffix('%')).and_then(|text| text.parse::<i64>().ok());
    match percent {
        Some(percent) if round_up => (whole * percent + 99) / 100,
        Some(percent) => whole * percent / 100,
        None => value.as_i64().unwrap_or_default(),
    }
}

/// What Kubernetes says of a node.
pub(crate) mod node {
    use super::{Look, Value, condition_holds};

    /// The taint by which somebody says that a node is off and stays so: what was on it may be taken away.
    pub(crate) const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

    /// Whether its kubelet says so, and said so lately.
    pub(crate) fn is_ready(node: &Value) -> bool {
        condition_holds(node, "Ready")
    }

    /// The taints that act on pods that are there already.
    pub(crate) fn no_execute(node: &Value) -> impl Iterator<Item = &Value> + Clone {
        node.list("/spec/taints").iter().filter(|taint| taint.text("/effect") == "NoExecute")
    }

    /// Whether it was declared out of service.
    pub(crate) fn is_out_of_service(node: &Value) -> bool {
        node.list("/spec/taints").iter().any(|taint| taint.text("/key") == OUT_OF_SERVICE)
    }

    /// Whether a toleration tolerates a taint.
    pub(crate) fn tolerates(toleration: &Value, taint: &Value) -> bool {
        let key = toleration.text("/key");
        let effect = toleration.text("/effect");
        let value_fits = match toleration.text("/operator") {
            "Exists" => true,
            _ => toleration.text("/value") == taint.text("/value") && !key.is_empty(),
        };
        (key.is_empty() || key == taint.text("/key")) && (effect.is_empty() || effect == taint.text("/effect")) && value_fits
    }
}

/// What Kubernetes says of a pod, asked in one place.
pub(crate) mod pod {
    use super::{Look, Value, condition_holds, list_mut, set, set_condition};

    /// Says of a pod that it is not going of its own will.
    pub(crate) fn set_disrupted(pod: &mut Value, reason: &str, message: &str) {
        set_condition(pod, "DisruptionTarget", true, reason, message);
        let generation = pod.int("/metadata/generation").unwrap_or(1);
        for condition in list_mut(pod, "/status/conditions").iter_mut().filter(|one| one.text("/type") == "DisruptionTarget") {
            set(condition, "/observedGeneration", generation);
        }
    }

    /// Whether all its containers have ended for good.
    pub(crate) fn is_finished(pod: &Value) -> bool {
        matches!(pod.text("/status/phase"), "Succeeded" | "Failed")
    }

    /// Whether none of its containers run any more, as far as its status says, or the phase does.
    pub(crate) fn has_stopped(pod: &Value) -> bool {
        let runs = |status: &Value| !status.has("/state/terminated") && !status.has("/state/waiting");
        is_finished(pod) || (pod.is_terminating() && !pod.list("/status/containerStatuses").iter().any(runs))
    }

    /// Whether it counts for the controller that wants it: neither ended nor leaving.
    pub(crate) fn is_active(pod: &Value) -> bool {
        !is_finished(pod) && !pod.is_terminating()
    }

    /// Whether it may take traffic.
    pub(crate) fn is_ready(pod: &Value) -> bool {
        !pod.is_terminating() && condition_holds(pod, "Ready")
    }

    /// The claims that it mounts, by name.
    pub(crate) fn claims(pod: &Value) -> impl Iterator<Item = &str> {
        pod.list("/spec/volumes").iter().map(|volume| volume.text("/persistentVolumeClaim/claimName")).filter(|claim| !claim.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn setting_a_field_makes_what_is_missing_on_the_way() {
        let mut object = json!({ "spec": { "a": 1 } });
        set(&mut object, "/spec/b/c", 2);
        set(&mut object, "/metadata/annotations/comeback.dev~1x", "y");
        assert_eq!(object, json!({ "spec": { "a": 1, "b": { "c": 2 } }, "metadata": { "annotations": { "comeback.dev/x": "y" } } }));
        remove(&mut object, "/metadata/annotations/comeback.dev~1x");
        assert!(!object.has("/metadata/annotations/comeback.dev~1x"));
    }

    #[rstest]
    #[case::the_same(json!({ "key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule" }), true)]
    #[case::exists(json!({ "key": "a", "operator": "Exists" }), true)]
    #[case::everything(json!({ "operator": "Exists" }), true)]
    #[case::another_value(json!({ "key": "a", "value": "c" }), false)]
    #[case::another_effect(json!({ "key": "a", "operator": "Exists", "effect": "NoExecute" }), false)]
    #[case::another_key(json!({ "key": "c", "operator": "Exists" }), false)]
    fn a_toleration_tolerates(#[case] toleration: Value, #[case] expected: bool) {
        assert_eq!(node::tolerates(&toleration, &json!({ "key": "a", "value": "b", "effect": "NoSchedule" })), expected);
    }

    #[rstest]
    #[case::a_number(json!(2), true, 2)]
    #[case::half_of_three_up(json!("50%"), true, 2)]
    #[case::half_of_three_down(json!("50%"), false, 1)]
    #[case::nothing(Value::Null, true, 0)]
    fn a_share_is_rounded_as_asked(#[case] value: Value, #[case] round_up: bool, #[case] expected: i64) {
        assert_eq!(share_of(&value, 3, round_up), expected);
    }

    #[test]
    fn a_pod_that_is_going_has_stopped_when_no_container_is_said_to_run() {
        let pod = |going: bool, state: &str| {
            let mut pod = json!({ "status": { "phase": "Running", "containerStatuses": [{ "state": { state: {} } }] } });
            if going {
                set(&mut pod, "/metadata/deletionTimestamp", "2026-01-01T00:00:00Z");
            }
            pod
        };
        assert!(pod::has_stopped(&pod(true, "terminated")) && pod::has_stopped(&pod(true, "waiting")));
        assert!(!pod::has_stopped(&pod(true, "running")) && !pod::has_stopped(&pod(false, "terminated")));
    }

    #[test]
    fn a_conditions_transition_time_moves_only_with_its_status() {
        let mut object = json!({ "status": { "conditions": [
            { "type": "Ready", "status": "False", "lastTransitionTime": "2020-01-01T00:00:00Z", "reason": "Old" },
        ] } });
        set_condition(&mut object, "Ready", false, "New", "");
        assert_eq!(condition(&object, "Ready").unwrap().text("/lastTransitionTime"), "2020-01-01T00:00:00Z");
        assert_eq!(condition(&object, "Ready").unwrap().text("/reason"), "New");
        set_condition(&mut object, "Ready", true, "", "");
        assert_ne!(condition(&object, "Ready").unwrap().text("/lastTransitionTime"), "2020-01-01T00:00:00Z");
        assert!(condition_holds(&object, "Ready"));
        assert!(!condition(&object, "Ready").unwrap().has("/reason"));
    }
}
