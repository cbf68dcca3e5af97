//! What a pod is given and what it may not have.

use serde_json::{Value, json};

use super::{
    super::{
        object::{Look, default, list_mut},
        refusal::Cause,
    },
    names::{NO_LABEL, is_label},
};

/// How long a pod stays on a node that is silent or not ready, in seconds, unless it says otherwise.
const STAYS: i64 = 300;

/// Adds the two tolerations that every pod has unless it brings its own: it stays for a while where the node has fallen silent.
pub(super) fn add_tolerations(pod: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerations = list_mut(pod, "/spec/tolerations");
        let is_about =
            |toleration: &Value| ["", key].contains(&toleration.text("/key")) && ["", "NoExecute"].contains(&toleration.text("/effect"));
        if !tolerations.iter().any(is_about) {
            tolerations.push(json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": STAYS }));
        }
    }
}

/// Gives a pod the account and the priority that every pod has unless it asks for others.
pub(super) fn add_account_and_priority(pod: &mut Value) {
    default(pod, "/spec/serviceAccountName", "default");
    let account = pod.text("/spec/serviceAccountName").to_owned();
    // The field's old name is still filled.
    default(pod, "/spec/serviceAccount", account);
    default(pod, "/spec/priority", 0);
    default(pod, "/spec/preemptionPolicy", "PreemptLowerPriority");
}

/// Adds what a pod's spec leaves out.
pub(super) fn complete_pod_spec(spec: &mut Value) {
    for (at, value) in [
        ("/restartPolicy", json!("Always")),
        ("/terminationGracePeriodSeconds", json!(30)),
        ("/dnsPolicy", json!("ClusterFirst")),
        ("/schedulerName", json!("default-scheduler")),
        ("/securityContext", json!({})),
        ("/enableServiceLinks", json!(true)),
    ] {
        default(spec, at, value);
    }
    for container in spec.pointer_mut("/containers").and_then(Value::as_array_mut).into_iter().flatten() {
        if !container.is_object() {
            continue;
        }
        let image = container.text("/image");
        let is_latest = image.ends_with(":latest") || !image.rsplit('/').next().unwrap_or_default().contains(':');
        default(container, "/imagePullPolicy", if is_latest { "Always" } else { "IfNotPresent" });
        default(container, "/resources", json!({}));
        default(container, "/terminationMessagePath", "/dev/termination-log");
        default(container, "/terminationMessagePolicy", "File");
        for port in container.pointer_mut("/ports").and_then(Value::as_array_mut).into_iter().flatten() {
            default(port, "/protocol", "TCP");
        }
        for probe in ["/livenessProbe", "/readinessProbe", "/startupProbe"] {
            let Some(probe) = container.pointer_mut(probe) else { continue };
            for (at, value) in [("/timeoutSeconds", 1), ("/periodSeconds", 10), ("/successThreshold", 1), ("/failureThreshold", 3)] {
                default(probe, at, value);
            }
        }
    }
}

/// Finds what a pod's spec may not have. `at` is where it stands; `claimed` are volumes that it will have from elsewhere.
pub(super) fn check_pod_spec(spec: &Value, at: &str, claimed: &[&str], causes: &mut Vec<Cause>) {
    let containers = spec.list("/containers");
    if containers.is_empty() {
        causes.push(Cause::required(format!("{at}.containers"), ""));
    }
    for field in ["initContainers", "ephemeralContainers"] {
        if !spec.list(&format!("/{field}")).is_empty() {
            causes.push(Cause::forbidden(format!("{at}.{field}"), "not supported by the sandbox"));
        }
    }
    if spec.flag("/hostNetwork") {
        causes.push(Cause::forbidden(format!("{at}.hostNetwork"), "not supported by the sandbox"));
    }
    let policy = spec.text("/restartPolicy");
    if !["", "Always", "OnFailure", "Never"].contains(&policy) {
        causes.push(Cause::unsupported(format!("{at}.restartPolicy"), &json!(policy), &["Always", "OnFailure", "Never"]));
    }
    let volumes: Vec<_> = spec.list("/volumes").iter().map(|volume| volume.text("/name")).collect();
    // The names of volumes and containers become names of directories.
    for (n, name) in volumes.iter().enumerate().filter(|(_, name)| !is_label(name) || name.len() > 63) {
        causes.push(Cause::invalid(format!("{at}.volumes[{n}].name"), &json!(name), NO_LABEL));
    }
    for (n, container) in containers.iter().enumerate() {
        let at = format!("{at}.containers[{n}]");
        let name = container.text("/name");
        if name.is_empty() {
            causes.push(Cause::required(format!("{at}.name"), ""));
        } else if !is_label(name) || name.len() > 63 {
            causes.push(Cause::invalid(format!("{at}.name"), &json!(name), NO_LABEL));
        } else if containers[..n].iter().any(|other| other.text("/name") == name) {
            causes.push(Cause {
                reason: "FieldValueDuplicate",
                field: format!("{at}.name"),
                message: format!("Duplicate value: \"{name}\""),
            });
        }
        if container.text("/image").is_empty() {
            causes.push(Cause::required(format!("{at}.image"), ""));
        }
        if container.has("/lifecycle") {
            causes.push(Cause::forbidden(format!("{at}.lifecycle"), "not supported by the sandbox"));
        }
        for (m, mount) in container.list("/volumeMounts").iter().enumerate() {
            let at = format!("{at}.volumeMounts[{m}]");
            if !volumes.contains(&mount.text("/name")) && !claimed.contains(&mount.text("/name")) {
                let message = format!("Not found: {}", mount["name"]);
                causes.push(Cause { reason: "FieldValueNotFound", field: format!("{at}.name"), message });
            }
            let path = mount.text("/mountPath");
            if path.is_empty() {
                causes.push(Cause::required(format!("{at}.mountPath"), ""));
            } else if path.contains([';', '=']) {
                causes.push(Cause::invalid(format!("{at}.mountPath"), &json!(path), "must not contain ';' or '='"));
            }
            let part = mount.text("/subPath");
            if part.starts_with('/') {
                causes.push(Cause::invalid(format!("{at}.subPath"), &json!(part), "must be a relative path"));
            } else if part.split('/').any(|step| step == "..") {
                causes.push(Cause::invalid(format!("{at}.subPath"), &json!(part), "must not contain '..'"));
            } else if part.contains(';') {
                causes.push(Cause::invalid(format!("{at}.subPath"), &json!(part), "must not contain ';'"));
            }
        }
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            let Some(found) = container.get(probe) else { continue };
            if !found.has("/tcpSocket") && !found.has("/exec") {
                let why = "must specify a handler type that the sandbox supports: `tcpSocket` or `exec`";
                causes.push(Cause::required(format!("{at}.{probe}"), why));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_an_account_and_a_priority() {
        let mut pod = json!({ "spec": { "serviceAccountName": "db" } });
        add_account_and_priority(&mut pod);
        assert_eq!((pod.text("/spec/serviceAccount"), pod.int("/spec/priority")), ("db", Some(0)));
        let mut pod = json!({ "spec": {} });
        add_account_and_priority(&mut pod);
        assert_eq!((pod.text("/spec/serviceAccountName"), pod.text("/spec/serviceAccount")), ("default", "default"));
    }

    #[test]
    fn a_pod_tolerates_a_silent_node_for_five_minutes_unless_it_says_otherwise() {
        let mut pod = json!({ "spec": { "tolerations": [
            { "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5 },
        ] } });
        add_tolerations(&mut pod);
        let seconds: Vec<_> =
            pod.list("/spec/tolerations").iter().map(|one| (one.text("/key").to_owned(), one.int("/tolerationSeconds"))).collect();
        assert_eq!(
            seconds,
            [("node.kubernetes.io/unreachable".to_owned(), Some(5)), ("node.kubernetes.io/not-ready".to_owned(), Some(300))]
        );
        let before = pod.clone();
        add_tolerations(&mut pod);
        assert_eq!(pod, before);
        let mut everything = json!({ "spec": { "tolerations": [{ "operator": "Exists" }] } });
        add_tolerations(&mut everything);
        assert_eq!(everything.list("/spec/tolerations").len(), 1, "whoever tolerates everything tolerates this");
    }
}
