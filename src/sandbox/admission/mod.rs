//! What the API adds to an object, and what it refuses.
//!
//! Defaults are Kubernetes' own, as far as somebody reads them; checks are those that a mistaken manifest runs into, with Kubernetes' words. What
//! the sandbox cannot do (init containers, headless services) is refused rather than ignored: a pod that silently runs without half its spec
//! proves nothing.
//!
//! Here is what each kind needs; what a pod needs, wherever it stands, is in [`pod`], what a type allows in [`fields`], what a name may be in [`names`].

mod fields;
mod names;
mod pod;

pub(crate) use self::fields::check_fields;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value, json};

use self::{
    fields::typed,
    names::{check_name, is_label_value},
    pod::{add_account_and_priority, add_tolerations, check_pod_spec, complete_pod_spec},
};
use super::{
    kinds::Kind,
    object::{self, Look, default},
    refusal::{Cause, Refusal},
    selector::Labels,
};

/// Adds what was left out.
pub(crate) fn complete(kind: Kind, object: &mut Value) {
    let facts = kind.facts();
    drop_nulls(object);
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = facts.name.into();
    match kind {
        Kind::Namespace => default(object, "/status/phase", "Active"),
        Kind::Pod => {
            if let Some(spec) = object.get_mut("spec") {
                complete_pod_spec(spec);
                add_tolerations(object);
                add_account_and_priority(object);
            }
            default(object, "/status/phase", "Pending");
            default(object, "/status/qosClass", "BestEffort");
        }
        Kind::ReplicaSet => {
            default(object, "/spec/replicas", 1);
            if let Some(spec) = object.pointer_mut("/spec/template/spec") {
                complete_pod_spec(spec);
            }
            default(object, "/status/replicas", 0);
        }
        Kind::Deployment => complete_deployment(object),
        Kind::StatefulSet => complete_stateful_set(object),
        Kind::Service => complete_service(object),
        Kind::Secret => complete_secret(object),
        Kind::PersistentVolumeClaim => {
            default(object, "/spec/volumeMode", "Filesystem");
            default(object, "/status/phase", "Pending");
        }
        Kind::PersistentVolume => {
            default(object, "/spec/volumeMode", "Filesystem");
            default(object, "/spec/persistentVolumeReclaimPolicy", "Retain");
            default(object, "/status/phase", "Available");
        }
        Kind::StorageClass => {
            default(object, "/reclaimPolicy", "Delete");
            default(object, "/volumeBindingMode", "Immediate");
        }
        Kind::VolumeAttachment => default(object, "/status/attached", false),
        Kind::Node
        | Kind::ConfigMap
        | Kind::ServiceAccount
        | Kind::Event
        | Kind::ControllerRevision
        | Kind::EndpointSlice
        | Kind::PodDisruptionBudget
        | Kind::Lease => {}
    }
}

/// A field that is null is a field that is not there: otherwise two equal templates would differ when one of them has been through a typed client.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(elements) => elements.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn complete_deployment(object: &mut Value) {
    for (at, value) in [
        ("/spec/replicas", json!(1)),
        ("/spec/strategy/type", json!("RollingUpdate")),
        ("/spec/revisionHistoryLimit", json!(10)),
        ("/spec/progressDeadlineSeconds", json!(600)),
    ] {
        default(object, at, value);
    }
    if object.text("/spec/strategy/type") == "RollingUpdate" {
        default(object, "/spec/strategy/rollingUpdate/maxSurge", "25%");
        default(object, "/spec/strategy/rollingUpdate/maxUnavailable", "25%");
    }
    if let Some(spec) = object.pointer_mut("/spec/template/spec") {
        complete_pod_spec(spec);
    }
}

fn complete_stateful_set(object: &mut Value) {
    for (at, value) in [
        ("/spec/replicas", json!(1)),
        ("/spec/podManagementPolicy", json!("OrderedReady")),
        ("/spec/updateStrategy/type", json!("RollingUpdate")),
        ("/spec/revisionHistoryLimit", json!(10)),
        ("/spec/persistentVolumeClaimRetentionPolicy/whenDeleted", json!("Retain")),
        ("/spec/persistentVolumeClaimRetentionPolicy/whenScaled", json!("Retain")),
    ] {
        default(object, at, value);
    }
    if object.text("/spec/updateStrategy/type") == "RollingUpdate" {
        default(object, "/spec/updateStrategy/rollingUpdate/partition", 0);
    }
    for count in ["/status/replicas", "/status/availableReplicas"] {
        default(object, count, 0);
    }
    if let Some(spec) = object.pointer_mut("/spec/template/spec") {
        complete_pod_spec(spec);
    }
    for claim in object.pointer_mut("/spec/volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten() {
        default(claim, "/apiVersion", "v1");
        default(claim, "/kind", "PersistentVolumeClaim");
        default(claim, "/spec/volumeMode", "Filesystem");
    }
}

fn complete_service(object: &mut Value) {
    for (at, value) in [
        ("/spec/type", json!("ClusterIP")),
        ("/spec/sessionAffinity", json!("None")),
        ("/spec/internalTrafficPolicy", json!("Cluster")),
        ("/spec/ipFamilies", json!(["IPv4"])),
        ("/spec/ipFamilyPolicy", json!("SingleStack")),
        ("/status/loadBalancer", json!({})),
    ] {
        default(object, at, value);
    }
    for port in object.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if port.is_object() {
            default(port, "/protocol", "TCP");
            let same = port["port"].clone();
            default(port, "/targetPort", same);
        }
    }
}

fn complete_secret(object: &mut Value) {
    default(object, "/type", "Opaque");
    if let Some(Value::Object(plain)) = object.as_object_mut().and_then(|fields| fields.remove("stringData")) {
        for (key, text) in plain {
            if !object["data"].is_object() {
                object["data"] = json!({});
            }
            object["data"][key] = BASE64.encode(text.as_str().unwrap_or_default()).into();
        }
    }
}

/// Refuses an object that cannot be.
pub(crate) fn check(kind: Kind, object: &Value) -> Result<(), Refusal> {
    typed(kind, object)?;
    let name = object.name();
    let mut causes = Vec::new();
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if let Err(why) = check_name(kind, name) {
        causes.push(Cause::invalid("metadata.name", &json!(name), why));
    }
    for (key, value) in object.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten() {
        if !is_label_value(value.as_str().unwrap_or("?")) {
            let why = format!(
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                 alphanumeric character (label `{key}`)"
            );
            causes.push(Cause::invalid("metadata.labels", value, &why));
        }
    }
    match kind {
        Kind::Pod => check_pod_spec(&object["spec"], "spec", &[], &mut causes),
        Kind::ReplicaSet | Kind::Deployment => check_workload(object, &mut causes),
        Kind::StatefulSet => check_stateful_set(object, &mut causes),
        Kind::PodDisruptionBudget => {
            if object.has("/spec/minAvailable") && object.has("/spec/maxUnavailable") {
                let why = "minAvailable and maxUnavailable cannot be both set";
                causes.push(Cause::invalid("spec", &object["spec"], why));
            }
        }
        Kind::Service => check_service(object, &mut causes),
        Kind::PersistentVolumeClaim => {
            if object.list("/spec/accessModes").is_empty() {
                causes.push(Cause::required("spec.accessModes", "at least 1 access mode is required"));
            }
            if !object.has("/spec/resources/requests/storage") {
                causes.push(Cause::required("spec.resources[storage]", ""));
            }
        }
        Kind::PersistentVolume => {
            if !object.has("/spec/capacity/storage") {
                causes.push(Cause::required("spec.capacity", ""));
            }
            if object.list("/spec/accessModes").is_empty() {
                causes.push(Cause::required("spec.accessModes", ""));
            }
        }
        Kind::StorageClass => {
            if object.text("/provisioner").is_empty() {
                causes.push(Cause::required("provisioner", ""));
            }
        }
        Kind::Secret | Kind::ConfigMap => check_keys(object, &mut causes),
        Kind::Namespace
        | Kind::Node
        | Kind::ServiceAccount
        | Kind::Event
        | Kind::ControllerRevision
        | Kind::EndpointSlice
        | Kind::VolumeAttachment
        | Kind::Lease => {}
    }
    if causes.is_empty() { Ok(()) } else { Err(Refusal::invalid(kind, name, &causes)) }
}

/// The keys of a Secret or `ConfigMap` become names of files.
fn check_keys(object: &Value, causes: &mut Vec<Cause>) {
    let is_key = |key: &str| {
        !key.is_empty()
            && key.len() <= 253
            && !key.starts_with("..")
            && key != "."
            && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    for field in ["data", "binaryData"] {
        for key in object[field].as_object().into_iter().flat_map(Map::keys).filter(|key| !is_key(key)) {
            let why =
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.', must not be '.' and must not start with '..'";
            causes.push(Cause::invalid(format!("{field}[{key}]"), &json!(key), why));
        }
    }
}

/// Refuses a change of what cannot change.
pub(crate) fn check_update(kind: Kind, old: &Value, new: &Value) -> Result<(), Refusal> {
    let mut causes = Vec::new();
    let immutable = |at: &str, field: &str, causes: &mut Vec<Cause>| {
        if old.pointer(at) != new.pointer(at) {
            causes.push(Cause::invalid(field, new.pointer(at).unwrap_or(&Value::Null), "field is immutable"));
        }
    };
    match kind {
        Kind::Deployment | Kind::ReplicaSet => immutable("/spec/selector", "spec.selector", &mut causes),
        Kind::Service => {
            if new.text("/spec/type") == old.text("/spec/type") {
                immutable("/spec/clusterIP", "spec.clusterIP", &mut causes);
            }
        }
        Kind::Pod => {
            let fixed = |pod: &Value| {
                let mut spec = pod["spec"].clone();
                for container in spec.pointer_mut("/containers").and_then(Value::as_array_mut).into_iter().flatten() {
                    object::remove(container, "/image");
                }
                for field in ["/tolerations", "/activeDeadlineSeconds", "/terminationGracePeriodSeconds"] {
                    object::remove(&mut spec, field);
                }
                spec
            };
            if fixed(old) != fixed(new) {
                let why = "pod updates may not change fields other than `spec.containers[*].image`, `spec.activeDeadlineSeconds`, \
                           `spec.terminationGracePeriodSeconds` and `spec.tolerations`";
                causes.push(Cause::forbidden("spec", why));
            }
        }
        Kind::PersistentVolumeClaim => {
            let fixed = |claim: &Value| {
                let mut spec = claim["spec"].clone();
                for field in ["/resources", "/volumeName"] {
                    object::remove(&mut spec, field);
                }
                spec
            };
            if fixed(old) != fixed(new) {
                causes.push(Cause::forbidden("spec", "spec is immutable after creation except resources.requests for bound claims"));
            }
        }
        Kind::StatefulSet => {
            let fixed = |set: &Value| {
                let mut spec = set["spec"].clone();
                for field in [
                    "/replicas",
                    "/ordinals",
                    "/template",
                    "/updateStrategy",
                    "/revisionHistoryLimit",
                    "/persistentVolumeClaimRetentionPolicy",
                    "/minReadySeconds",
                ] {
                    object::remove(&mut spec, field);
                }
                spec
            };
            if fixed(old) != fixed(new) {
                let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
                           'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
                causes.push(Cause::forbidden("spec", why));
            }
        }
        Kind::ControllerRevision => immutable("/data", "data", &mut causes),
        Kind::Secret | Kind::ConfigMap => {
            if old.flag("/immutable") && old.get("data") != new.get("data") {
                causes.push(Cause::forbidden("data", "field is immutable when `immutable` is set"));
            }
        }
        Kind::StorageClass => {
            immutable("/provisioner", "provisioner", &mut causes);
            immutable("/reclaimPolicy", "reclaimPolicy", &mut causes);
        }
        Kind::Namespace
        | Kind::Node
        | Kind::ServiceAccount
        | Kind::PersistentVolume
        | Kind::Event
        | Kind::EndpointSlice
        | Kind::PodDisruptionBudget
        | Kind::VolumeAttachment
        | Kind::Lease => {}
    }
    if causes.is_empty() { Ok(()) } else { Err(Refusal::invalid(kind, new.name(), &causes)) }
}

fn check_workload(object: &Value, causes: &mut Vec<Cause>) {
    let selector = Labels::of_object(&object["spec"]["selector"]);
    if selector.is_empty() {
        causes.push(Cause::required("spec.selector", ""));
    } else if !selector.matches_labels(object.pointer("/spec/template/metadata/labels").unwrap_or(&Value::Null)) {
        let labels = object.pointer("/spec/template/metadata/labels").unwrap_or(&Value::Null);
        causes.push(Cause::invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`"));
    }
    if let Some(replicas) = object.int("/spec/replicas")
        && replicas < 0
    {
        causes.push(Cause::invalid("spec.replicas", &json!(replicas), "must be greater than or equal to 0"));
    }
    let strategy = object.text("/spec/strategy/type");
    if !["", "Recreate", "RollingUpdate"].contains(&strategy) {
        causes.push(Cause::unsupported("spec.strategy.type", &json!(strategy), &["Recreate", "RollingUpdate"]));
    }
    if strategy == "Recreate" && object.has("/spec/strategy/rollingUpdate") {
        causes.push(Cause::forbidden("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'"));
    }
    let template = &object["spec"]["template"]["spec"];
    if !["", "Always"].contains(&template.text("/restartPolicy")) {
        causes.push(Cause::unsupported("spec.template.spec.restartPolicy", &template["restartPolicy"], &["Always"]));
    }
    let claimed: Vec<_> = object.list("/spec/volumeClaimTemplates").iter().map(Look::name).collect();
    check_pod_spec(template, "spec.template.spec", &claimed, causes);
}

fn check_stateful_set(object: &Value, causes: &mut Vec<Cause>) {
    check_workload(object, causes);
    let policy = object.text("/spec/podManagementPolicy");
    if !["OrderedReady", "Parallel"].contains(&policy) {
        causes.push(Cause::unsupported("spec.podManagementPolicy", &json!(policy), &["OrderedReady", "Parallel"]));
    }
    let strategy = object.text("/spec/updateStrategy/type");
    if !["OnDelete", "RollingUpdate"].contains(&strategy) {
        causes.push(Cause::unsupported("spec.updateStrategy", &json!(strategy), &["OnDelete", "RollingUpdate"]));
    }
}

fn check_service(object: &Value, causes: &mut Vec<Cause>) {
    if object.text("/spec/clusterIP") == "None" {
        let why = "headless services are not supported by the sandbox";
        causes.push(Cause::invalid("spec.clusterIP", &json!("None"), why));
    }
    let kind = object.text("/spec/type");
    if !["ClusterIP", "NodePort", "LoadBalancer"].contains(&kind) {
        causes.push(Cause::unsupported("spec.type", &json!(kind), &["ClusterIP", "NodePort", "LoadBalancer"]));
    }
    let ports = object.list("/spec/ports");
    if ports.is_empty() {
        causes.push(Cause::required("spec.ports", ""));
    }
    for (n, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{n}]");
        if !port.int("/port").is_some_and(|port| (1..=65535).contains(&port)) {
            causes.push(Cause::invalid(format!("{at}.port"), &port["port"], "must be between 1 and 65535, inclusive"));
        }
        if ports.len() > 1 && port.text("/name").is_empty() {
            causes.push(Cause::required(format!("{at}.name"), ""));
        }
        if port.text("/protocol") != "TCP" {
            causes.push(Cause::unsupported(format!("{at}.protocol"), &port["protocol"], &["TCP"]));
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn refused(kind: Kind, mut object: Value) -> String {
        complete(kind, &mut object);
        let refusal = check(kind, &object).expect_err("should be refused");
        format!("{} {}", refusal.code, refusal.message)
    }

    fn pod_with(container: &Value) -> Value {
        json!({ "metadata": { "name": "p", "namespace": "default" }, "spec": { "containers": [container] } })
    }

    #[rstest]
    #[case::no_name(Kind::ConfigMap, json!({}), "metadata.name: Required value")]
    #[case::a_capital_letter(Kind::ConfigMap, json!({ "metadata": { "name": "Big" } }), "RFC 1123 subdomain")]
    #[case::a_dot_in_a_service(Kind::Service, json!({ "metadata": { "name": "a.b" }, "spec": { "ports": [{ "port": 1 }] } }), "RFC 1123 label")]
    #[case::a_bad_label(Kind::ConfigMap, json!({ "metadata": { "name": "a", "labels": { "k": "a b" } } }), "metadata.labels")]
    #[case::no_container(Kind::Pod, json!({ "metadata": { "name": "p" }, "spec": {} }), "spec.containers: Required value")]
    #[case::no_image(Kind::Pod, pod_with(&json!({ "name": "c" })), "spec.containers[0].image: Required value")]
    #[case::no_such_volume(
        Kind::Pod,
        pod_with(&json!({ "name": "c", "image": "i", "volumeMounts": [{ "name": "v", "mountPath": "/x" }] })),
        "Not found: \"v\""
    )]
    #[case::a_key_that_leads_elsewhere(
        Kind::Secret,
        json!({ "metadata": { "name": "s" }, "stringData": { "../../x": "" } }),
        "422 Secret \"s\" is invalid: data[../../x]: Invalid value"
    )]
    #[case::a_key_that_is_a_directory(Kind::ConfigMap, json!({ "metadata": { "name": "m" }, "data": { "..": "" } }), "a valid config key")]
    #[case::a_container_that_leads_elsewhere(
        Kind::Pod,
        pod_with(&json!({ "name": "../x", "image": "i" })),
        "spec.containers[0].name: Invalid value: \"../x\": a lowercase RFC 1123 label"
    )]
    #[case::a_volume_that_leads_elsewhere(
        Kind::Pod,
        json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": "i" }], "volumes": [{ "name": "..", "emptyDir": {} }] } }),
        "spec.volumes[0].name: Invalid value: \"..\": a lowercase RFC 1123 label"
    )]
    #[case::a_part_that_leads_elsewhere(
        Kind::Pod,
        pod_with(&json!({ "name": "c", "image": "i", "volumeMounts": [{ "name": "v", "mountPath": "/x", "subPath": "a/../../b" }] })),
        "volumeMounts[0].subPath: Invalid value: \"a/../../b\": must not contain '..'"
    )]
    #[case::a_probe_we_cannot_do(
        Kind::Pod,
        pod_with(&json!({ "name": "c", "image": "i", "readinessProbe": { "httpGet": { "port": 80 } } })),
        "spec.containers[0].readinessProbe"
    )]
    #[case::a_string_for_a_number(
        Kind::Deployment,
        json!({ "metadata": { "name": "d" }, "spec": { "replicas": "three" } }),
        "400 Deployment in version \"v1\" cannot be handled as a Deployment"
    )]
    #[case::a_selector_for_others(
        Kind::Deployment,
        json!({ "metadata": { "name": "d" }, "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": {
            "metadata": { "labels": { "a": "c" } }, "spec": { "containers": [{ "name": "c", "image": "i" }] } } } }),
        "`selector` does not match template `labels`"
    )]
    #[case::a_headless_service(
        Kind::Service,
        json!({ "metadata": { "name": "s" }, "spec": { "clusterIP": "None", "ports": [{ "port": 1433 }] } }),
        "headless services are not supported"
    )]
    #[case::no_ports(Kind::Service, json!({ "metadata": { "name": "s" }, "spec": {} }), "spec.ports: Required value")]
    #[case::a_secret_in_the_clear(Kind::Secret, json!({ "metadata": { "name": "s" }, "data": { "a": "!!" } }), "400 Secret in version \"v1\" cannot be handled as a Secret")]
    #[case::a_claim_for_nothing(Kind::PersistentVolumeClaim, json!({ "metadata": { "name": "c" }, "spec": {} }), "spec.accessModes")]
    fn what_cannot_be_is_refused(#[case] kind: Kind, #[case] object: Value, #[case] why: &str) {
        let message = refused(kind, object);
        assert!(message.contains(why), "{message}");
    }

    #[test]
    fn a_misspelt_field_is_found_where_it_is() {
        let mut deployment = json!({ "metadata": { "name": "d", "creationTimestamp": null }, "spec": {
            "replicas": 1, "replicaz": 2, "selector": { "matchLabels": { "any": "label" } },
            "template": { "spec": { "containers": [{ "name": "c", "imagge": "i", "env": [] }] } },
        } });
        let refusal = check_fields(Kind::Deployment, &deployment).unwrap_err();
        assert!(refusal.message.contains("unknown field \"spec.replicaz\""), "{refusal}");
        assert!(refusal.message.contains("unknown field \"spec.template.spec.containers[0].imagge\""), "{refusal}");
        object::remove(&mut deployment, "/spec/replicaz");
        object::remove(&mut deployment["spec"]["template"]["spec"]["containers"][0], "/imagge");
        check_fields(Kind::Deployment, &deployment).unwrap();
        check_fields(Kind::Secret, &json!({ "metadata": { "name": "s" }, "stringData": { "a": "b" } })).unwrap();
    }

    #[test]
    fn a_refused_secret_does_not_show_its_data() {
        assert!(!refused(Kind::Secret, json!({ "metadata": { "name": "s" }, "data": { "a": "hunter2!" } })).contains("hunter2"));
    }

    #[test]
    fn a_secret_in_plain_text_is_encoded() {
        let mut secret = json!({ "metadata": { "name": "s" }, "stringData": { "password": "x" } });
        complete(Kind::Secret, &mut secret);
        assert_eq!(secret["data"]["password"], "eA==");
        assert!(secret.get("stringData").is_none());
    }

    #[test]
    fn a_null_is_nothing() {
        let mut object = json!({ "metadata": { "name": "a", "creationTimestamp": null }, "data": { "x": null, "y": "z" } });
        complete(Kind::ConfigMap, &mut object);
        assert_eq!((&object["metadata"], &object["data"]), (&json!({ "name": "a" }), &json!({ "y": "z" })));
    }

    #[test]
    fn completing_twice_changes_nothing() {
        for (kind, object) in [
            (Kind::Pod, pod_with(&json!({ "name": "c", "image": "i", "livenessProbe": { "tcpSocket": { "port": 1 } } }))),
            (
                Kind::Deployment,
                json!({ "metadata": { "name": "d" }, "spec": { "template": { "spec": { "containers": [{ "name": "c" }] } } } }),
            ),
            (Kind::Service, json!({ "metadata": { "name": "s" }, "spec": { "ports": [{ "port": 1 }] } })),
        ] {
            let (mut once, mut twice) = (object.clone(), object);
            complete(kind, &mut once);
            complete(kind, &mut twice);
            complete(kind, &mut twice);
            assert_eq!(once, twice);
        }
    }
}
