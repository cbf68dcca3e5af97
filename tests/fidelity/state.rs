//! What of an object is compared: a few fields, each with a short value. All else (names, times, uids, addresses) is left out here.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::recorder::Sight;

/// The state of an object: fields and their values, neither with a space in it.
pub(crate) type State = BTreeMap<String, String>;

/// What stands for a field that is not there.
pub(crate) const NONE: &str = "none";

/// The field that counts pods on their way out.
pub(crate) const LEAVING: &str = "terminating";

/// Whether a recording is about this object: of the volumes, the one of the claim.
pub(crate) fn concerns(object: &Value, claim: &str) -> bool {
    match kind(object) {
        "PersistentVolume" => text(object, "/spec/claimRef/name") == Some(claim),
        _ => true,
    }
}

/// The kind of an object.
pub(crate) fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

/// The uid of an object.
pub(crate) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid").unwrap_or_default()
}

fn text<'a>(object: &'a Value, path: &str) -> Option<&'a str> {
    object.pointer(path).and_then(Value::as_str)
}

fn list<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// The states as they are now, by uid.
#[derive(Default)]
pub(crate) struct Now(BTreeMap<String, State>);

impl Now {
    /// Takes in a version, and says whether it differs in what is compared.
    pub(crate) fn take(&mut self, sight: &Sight) -> bool {
        let uid = uid(&sight.object).to_owned();
        if sight.gone {
            return self.0.remove(&uid).is_some();
        }
        let state = of(&sight.object, &|uid| uid.to_owned());
        self.0.get(&uid) != Some(&state) && self.0.insert(uid, state) != Some(State::new())
    }
}

/// The state of an object. `pod` names a pod by its uid.
pub(crate) fn of(object: &Value, pod: &dyn Fn(&str) -> String) -> State {
    let mut state = State::new();
    match kind(object) {
        "Pod" => of_pod(object, &mut state),
        "Node" => of_node(object, &mut state),
        "EndpointSlice" => of_slice(object, &mut state, pod),
        "PersistentVolume" | "PersistentVolumeClaim" => phase(object, &mut state),
        "Service" => {
            put(&mut state, "address", text(object, "/spec/clusterIP").unwrap_or(NONE));
            put(&mut state, "uid", uid(object));
        }
        "Deployment" => {
            counts(
                object,
                &mut state,
                &["replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas", "terminatingReplicas"],
            );
            conditions(object, &mut state);
        }
        "ReplicaSet" => {
            counts(object, &mut state, &["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "terminatingReplicas"]);
        }
        "StatefulSet" => {
            counts(object, &mut state, &["replicas", "currentReplicas", "updatedReplicas", "readyReplicas", "availableReplicas"]);
        }
        other => panic!("nobody said what of a {other} is compared"),
    }
    state
}

fn put(state: &mut State, field: &str, value: &str) {
    state.insert(field.to_owned(), value.replace([' ', '\n', '='], "_"));
}

fn phase(object: &Value, state: &mut State) {
    put(state, "phase", text(object, "/status/phase").unwrap_or(NONE));
    if text(object, "/metadata/deletionTimestamp").is_some() {
        put(state, "marked", "yes");
    }
}

fn conditions(object: &Value, state: &mut State) {
    for condition in list(object, "/status/conditions") {
        let status = condition["status"].as_str().unwrap_or_default();
        let value = match condition["reason"].as_str().filter(|reason| !reason.is_empty()) {
            Some(reason) => format!("{status}({reason})"),
            None => status.to_owned(),
        };
        put(state, condition["type"].as_str().unwrap_or_default(), &value);
    }
}

/// What is wanted, and what is counted; a count of nothing is often left out, and means 0.
fn counts(object: &Value, state: &mut State, names: &[&str]) {
    put(state, "wanted", &object["spec"]["replicas"].to_string());
    for name in names {
        let count = object["status"][*name].as_i64().unwrap_or_default();
        put(state, name.strip_suffix("Replicas").unwrap_or(name), &count.to_string());
    }
}

fn of_pod(pod: &Value, state: &mut State) {
    put(state, "phase", text(pod, "/status/phase").unwrap_or(NONE));
    if text(pod, "/metadata/deletionTimestamp").is_some() {
        put(state, "marked", &format!("grace-{}", pod["metadata"]["deletionGracePeriodSeconds"]));
    }
    if let Some(reason) = text(pod, "/status/reason") {
        put(state, "reason", reason);
    }
    put(state, "node", &yes(text(pod, "/spec/nodeName").is_some()));
    put(state, "ip", &yes(text(pod, "/status/podIP").is_some()));
    conditions(pod, state);
    for container in list(pod, "/status/containerStatuses") {
        put(state, "container", &container_state(&container["state"]));
        put(state, "before", &container_state(&container["lastState"]));
        put(state, "restarts", &container["restartCount"].to_string());
        put(state, "ready", &yes(container["ready"] == true));
        put(state, "started", &yes(container["started"] == true));
    }
}

fn container_state(state: &Value) -> String {
    let reason = |state: &Value| state["reason"].as_str().unwrap_or("?").to_owned();
    let Some((kind, state)) = state.as_object().and_then(|map| map.iter().next()) else { return NONE.to_owned() };
    match kind.as_str() {
        "running" => "running".to_owned(),
        "terminated" => format!("terminated({},{})", reason(state), state["exitCode"]),
        kind => format!("{kind}({})", reason(state)),
    }
}

fn of_node(node: &Value, state: &mut State) {
    conditions(node, state);
    put(state, "cordoned", &yes(node["spec"]["unschedulable"] == true));
    let mut taints: Vec<String> = list(node, "/spec/taints")
        .map(|taint| {
            let part = |name: &str| taint[name].as_str().unwrap_or_default().to_owned();
            let key = part("key").replace("node.kubernetes.io/", "");
            let value = Some(part("value")).filter(|value| !value.is_empty()).map(|value| format!("[{value}]"));
            format!("{key}{}:{}", value.unwrap_or_default(), part("effect"))
        })
        .collect();
    taints.sort();
    put(state, "taints", &if taints.is_empty() { NONE.to_owned() } else { taints.join(",") });
}

fn of_slice(slice: &Value, state: &mut State, pod: &dyn Fn(&str) -> String) {
    for endpoint in list(slice, "/endpoints") {
        let of = text(endpoint, "/targetRef/uid").map_or_else(|| "nobody".to_owned(), pod);
        let is = |name: &str| endpoint["conditions"][name] == true;
        let words: Vec<&str> = ["ready", "serving", "terminating"].into_iter().filter(|name| is(name)).collect();
        put(state, &of, &if words.is_empty() { "not-ready".to_owned() } else { words.join(",") });
    }
}
