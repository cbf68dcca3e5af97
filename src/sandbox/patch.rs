//! The four ways of changing a part of an object: JSON patch, merge patch, strategic merge patch, apply.
//!
//! A strategic patch merges lists by a key, as Kubernetes does for the fields in [`merge_key`]; any other list is replaced whole. Apply is a
//! strategic merge without field owners: nothing is ever a conflict, and what an earlier apply set and this one leaves out stays.

use serde_json::{Map, Value};

use super::refusal::Refusal;

/// How a patch is to be read, from its content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own.
    Strategic,
    /// Server-side apply.
    Apply,
}

impl Style {
    /// The style that a content type stands for.
    pub(crate) fn of(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" => Some(Self::Apply),
            _ => None,
        }
    }
}

/// Changes `object` as `patch` says.
pub(crate) fn apply(style: Style, object: &mut Value, patch: &Value) -> Result<(), Refusal> {
    match style {
        Style::Json => {
            let steps: json_patch::Patch =
                serde_json::from_value(patch.clone()).map_err(|error| Refusal::bad_request(format!("not a JSON patch: {error}")))?;
            json_patch::patch(object, &steps)
                .map_err(|error| Refusal::unprocessable(format!("the server rejected our request due to an error in our request: {error}")))
        }
        Style::Merge => {
            merge(object, patch);
            Ok(())
        }
        Style::Strategic | Style::Apply => strategic(object, patch, &mut Vec::new()),
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let target = target.as_object_mut().expect("made an object above");
    for (key, value) in fields {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The field by which the elements of a list are told apart when lists are merged; `None` if the list is replaced whole.
fn merge_key(path: &[String]) -> Option<&'static str> {
    let field = path.last()?.as_str();
    let inside = |list: &str| path.iter().any(|part| part == list);
    match field {
        "containers" | "initContainers" | "ephemeralContainers" | "env" | "volumes" | "imagePullSecrets" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "ports" if inside("containers") || inside("initContainers") => Some("containerPort"),
        "ports" if path.len() == 2 => Some("port"),
        "conditions" | "addresses" if path.first().is_some_and(|first| first == "status") => Some("type"),
        "hostAliases" | "podIPs" | "hostIPs" => Some("ip"),
        "ownerReferences" => Some("uid"),
        "topologySpreadConstraints" => Some("topologyKey"),
        _ => None,
    }
}

const DIRECTIVE: &str = "$patch";
const ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";
const RETAIN: &str = "$retainKeys";

fn strategic(target: &mut Value, change: &Value, path: &mut Vec<String>) -> Result<(), Refusal> {
    let Value::Object(fields) = change else {
        *target = change.clone();
        return Ok(());
    };
    match fields.get(DIRECTIVE).and_then(Value::as_str) {
        Some("delete") => {
            *target = Value::Null;
            return Ok(());
        }
        Some("replace") => {
            *target = without_directives(change);
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(Refusal::bad_request(format!("unknown patch directive `{other}`"))),
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let object = target.as_object_mut().expect("made an object above");
    if let Some(Value::Array(retained)) = fields.get(RETAIN) {
        object.retain(|key, _| retained.iter().any(|kept| kept.as_str() == Some(key)));
    }
    for (key, value) in fields.iter().filter(|(key, _)| !key.starts_with('$')) {
        path.push(key.clone());
        match value {
            Value::Null => {
                object.remove(key);
            }
            Value::Array(elements) => merge_list(object.entry(key.clone()).or_insert(Value::Null), elements, path)?,
            _ => {
                let place = object.entry(key.clone()).or_insert(Value::Null);
                strategic(place, value, path)?;
                if place.is_null() {
                    object.remove(key);
                }
            }
        }
        path.pop();
    }
    for (key, value) in fields {
        if let Some(field) = key.strip_prefix(DELETE_PRIMITIVES)
            && let (Some(Value::Array(have)), Value::Array(gone)) = (object.get_mut(field), value)
        {
            have.retain(|element| !gone.contains(element));
        }
        if let Some(field) = key.strip_prefix(ORDER)
            && let (Some(Value::Array(have)), Value::Array(order)) = (object.get_mut(field), value)
        {
            path.push(field.to_owned());
            let key = merge_key(path);
            path.pop();
            let place = |element: &Value| {
                let same = |wanted: &&Value| key.map_or(*wanted == element, |key| wanted[key] == element[key]);
                order.iter().position(|wanted| same(&wanted)).unwrap_or(usize::MAX)
            };
            have.sort_by_key(place);
        }
    }
    Ok(())
}

fn merge_list(target: &mut Value, elements: &[Value], path: &mut Vec<String>) -> Result<(), Refusal> {
    let is_set = path.last().is_some_and(|field| field == "finalizers");
    let Some(key) = merge_key(path) else {
        match target {
            Value::Array(have) if is_set => {
                let new: Vec<_> = elements.iter().filter(|element| !have.contains(element)).cloned().collect();
                have.extend(new);
            }
            _ => *target = Value::Array(elements.to_vec()),
        }
        return Ok(());
    };
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let have = target.as_array_mut().expect("made a list above");
    if elements.iter().any(|element| element[DIRECTIVE] == "replace") {
        *have = elements.iter().filter(|element| element[DIRECTIVE] != "replace").map(without_directives).collect();
        return Ok(());
    }
    for element in elements {
        if !element.is_object() || element[key].is_null() {
            return Err(Refusal::bad_request(format!("an element of `{}` lacks its merge key `{key}`", path.join("."))));
        }
        let at = have.iter().position(|old| old[key] == element[key]);
        match (at, element[DIRECTIVE] == "delete") {
            (Some(at), true) => {
                have.remove(at);
            }
            (None, true) => {}
            (Some(at), false) => strategic(&mut have[at], element, path)?,
            (None, false) => {
                let mut new = Value::Null;
                strategic(&mut new, element, path)?;
                have.push(new);
            }
        }
    }
    Ok(())
}

fn without_directives(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields.iter().filter(|(key, _)| !key.starts_with('$')).map(|(key, value)| (key.clone(), without_directives(value))).collect(),
        ),
        Value::Array(elements) => Value::Array(elements.iter().map(without_directives).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn patched(style: Style, mut object: Value, patch: &Value) -> Value {
        apply(style, &mut object, patch).unwrap();
        object
    }

    #[rstest]
    #[case::a_field_is_set(json!({"a": 1}), json!({"b": 2}), json!({"a": 1, "b": 2}))]
    #[case::null_removes(json!({"a": 1, "b": 2}), json!({"b": null}), json!({"a": 1}))]
    #[case::lists_are_replaced(json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]}))]
    #[case::depth(json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null, "d": {"e": 1}}}), json!({"a": {"c": 2, "d": {"e": 1}}}))]
    fn a_merge_patch_merges(#[case] object: Value, #[case] patch: Value, #[case] expected: Value) {
        assert_eq!(patched(Style::Merge, object, &patch), expected);
    }

    #[rstest]
    #[case::containers_merge_by_name(
        json!({"spec": {"containers": [{"name": "a", "image": "x", "env": [{"name": "K", "value": "1"}]}, {"name": "b"}]}}),
        json!({"spec": {"containers": [{"name": "a", "image": "y", "env": [{"name": "L", "value": "2"}]}]}}),
        json!({"spec": {"containers": [
            {"name": "a", "image": "y", "env": [{"name": "K", "value": "1"}, {"name": "L", "value": "2"}]}, {"name": "b"},
        ]}})
    )]
    #[case::an_element_is_deleted(
        json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
        json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
        json!({"spec": {"containers": [{"name": "b"}]}})
    )]
    #[case::conditions_merge_by_type(
        json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Disk", "status": "False"}]}}),
        json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
        json!({"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Disk", "status": "False"}]}})
    )]
    #[case::taints_are_replaced(
        json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
        json!({"spec": {"taints": [{"key": "b", "effect": "NoSchedule"}]}}),
        json!({"spec": {"taints": [{"key": "b", "effect": "NoSchedule"}]}})
    )]
    #[case::service_ports_merge_by_port(
        json!({"spec": {"ports": [{"port": 1433, "targetPort": 1433}]}}),
        json!({"spec": {"ports": [{"port": 1433, "targetPort": 1434}]}}),
        json!({"spec": {"ports": [{"port": 1433, "targetPort": 1434}]}})
    )]
    #[case::retained_keys(
        json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
        json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        json!({"spec": {"strategy": {"type": "Recreate"}}})
    )]
    #[case::order(
        json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
        json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": []}}),
        json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}]}})
    )]
    #[case::a_map_is_replaced(
        json!({"metadata": {"labels": {"a": "1"}}}),
        json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}}),
        json!({"metadata": {"labels": {"b": "2"}}})
    )]
    #[case::uncordon(json!({"spec": {"unschedulable": true}}), json!({"spec": {"unschedulable": null}}), json!({"spec": {}}))]
    #[case::finalizers_are_a_set(
        json!({"metadata": {"finalizers": ["a", "b"]}}),
        json!({"metadata": {"finalizers": ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}),
        json!({"metadata": {"finalizers": ["b", "c"]}})
    )]
    fn a_strategic_patch_merges(#[case] object: Value, #[case] patch: Value, #[case] expected: Value) {
        assert_eq!(patched(Style::Strategic, object, &patch), expected);
    }

    #[test]
    fn a_list_element_without_its_key_is_refused() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}]}});
        let refusal = apply(Style::Strategic, &mut pod, &json!({"spec": {"containers": [{"image": "x"}]}})).unwrap_err();
        assert_eq!(refusal.code, 400);
        assert!(refusal.message.contains("`spec.containers`"), "{refusal}");
    }

    #[test]
    fn a_json_patch_is_done_step_by_step_and_a_failed_test_is_unprocessable() {
        let object = json!({"a": [1, 2]});
        let steps = json!([{"op": "test", "path": "/a/0", "value": 1}, {"op": "remove", "path": "/a/0"}]);
        assert_eq!(patched(Style::Json, object.clone(), &steps), json!({"a": [2]}));
        let wrong = json!([{"op": "test", "path": "/a/0", "value": 9}]);
        assert_eq!(apply(Style::Json, &mut object.clone(), &wrong).unwrap_err().code, 422);
        assert_eq!(apply(Style::Json, &mut object.clone(), &json!({"op": "x"})).unwrap_err().code, 400);
    }
}
