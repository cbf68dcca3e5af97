//! Objects as the tables that `kubectl get` prints, with the columns of the real server.
//!
//! A client that wants one asks for `application/json;as=Table;v=v1;g=meta.k8s.io`. Columns of priority 1 are those of `-o wide`. Kinds without columns of their own
//! have their name and their age.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::super::{
    kinds::Kind,
    object::{Look, node, pod},
    refusal::Refusal,
};

/// How much of an object goes into its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Include {
    Nothing,
    Metadata,
    Object,
}

/// A table that a client asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    kind: Kind,
    include: Include,
}

/// A column: its name, its type, its priority.
type Column = (&'static str, &'static str, u8);

impl Table {
    /// The table that a client wants, by the first of the forms that it accepts which we serve; `None` if it wants the objects.
    pub(super) fn wanted(kind: Kind, accept: &str, include: Option<&str>) -> Result<Option<Self>, Refusal> {
        let is_table = |form: &str| {
            let mut parameters = form.split(';').skip(1).map(str::trim);
            parameters.clone().any(|one| one == "as=Table") && parameters.any(|one| one == "v=v1")
        };
        let is_plain = |form: &str| {
            matches!(form.split(';').next().unwrap_or_default().trim(), "application/json" | "*/*" | "application/*")
                && !form.contains("as=")
        };
        let first = accept.split(',').find(|form| is_table(form) || is_plain(form));
        if !first.is_some_and(is_table) {
            return Ok(None);
        }
        let include = match include {
            None | Some("Metadata") => Include::Metadata,
            Some("None") => Include::Nothing,
            Some("Object") => Include::Object,
            Some(other) => {
                return Err(Refusal::bad_request(format!(
                    "unsupported includeObject value `{other}`: Metadata, None and Object are known"
                )));
            }
        };
        Ok(Some(Self { kind, include }))
    }

    /// The table of some objects, which is the state at `version`.
    pub(super) fn of<'a>(self, objects: impl IntoIterator<Item = &'a Value>, version: &str) -> Value {
        let mut table = self.rows(objects, version);
        table["columnDefinitions"] = self.columns();
        table
    }

    /// A table without its head, as a watch sends it for all changes but the first.
    pub(super) fn rows<'a>(self, objects: impl IntoIterator<Item = &'a Value>, version: &str) -> Value {
        let rows: Vec<_> = objects.into_iter().map(|object| self.row(object)).collect();
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": { "resourceVersion": version }, "columnDefinitions": null, "rows": rows,
        })
    }

    /// A bookmark in the form of a table: one row without cells that carries the version.
    pub(super) fn bookmark(self, object: &Value) -> Value {
        let version = object.text("/metadata/resourceVersion");
        let mut table = self.rows([], version);
        table["rows"] = json!([{ "cells": vec![""; columns(self.kind).len()], "object": object }]);
        table
    }

    fn columns(self) -> Value {
        let columns = columns(self.kind).iter().map(|(name, kind, priority)| {
            let format = if *name == "Name" { "name" } else { "" };
            json!({ "name": name, "type": kind, "format": format, "description": "", "priority": priority })
        });
        columns.collect()
    }

    fn row(self, object: &Value) -> Value {
        let mut row = json!({ "cells": cells(self.kind, object, Utc::now()) });
        match self.include {
            Include::Nothing => {}
            Include::Metadata => {
                row["object"] = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] });
            }
            Include::Object => row["object"] = object.clone(),
        }
        row
    }
}

/// The columns of a kind.
#[expect(clippy::too_many_lines, reason = "an entry for each kind")]
fn columns(kind: Kind) -> &'static [Column] {
    const WIDE: u8 = 1;
    match kind {
        Kind::Pod => &[
            ("Name", "string", 0),
            ("Ready", "string", 0),
            ("Status", "string", 0),
            ("Restarts", "string", 0),
            ("Age", "string", 0),
            ("IP", "string", WIDE),
            ("Node", "string", WIDE),
            ("Nominated Node", "string", WIDE),
            ("Readiness Gates", "string", WIDE),
        ],
        Kind::Node => &[
            ("Name", "string", 0),
            ("Status", "string", 0),
            ("Roles", "string", 0),
            ("Age", "string", 0),
            ("Version", "string", 0),
            ("Internal-IP", "string", WIDE),
            ("External-IP", "string", WIDE),
            ("OS-Image", "string", WIDE),
            ("Kernel-Version", "string", WIDE),
            ("Container-Runtime", "string", WIDE),
        ],
        Kind::Service => &[
            ("Name", "string", 0),
            ("Type", "string", 0),
            ("Cluster-IP", "string", 0),
            ("External-IP", "string", 0),
            ("Port(s)", "string", 0),
            ("Age", "string", 0),
            ("Selector", "string", WIDE),
        ],
        Kind::Deployment => &[
            ("Name", "string", 0),
            ("Ready", "string", 0),
            ("Up-to-date", "string", 0),
            ("Available", "string", 0),
            ("Age", "string", 0),
            ("Containers", "string", WIDE),
            ("Images", "string", WIDE),
            ("Selector", "string", WIDE),
        ],
        Kind::ReplicaSet => &[
            ("Name", "string", 0),
            ("Desired", "integer", 0),
            ("Current", "integer", 0),
            ("Ready", "integer", 0),
            ("Age", "string", 0),
            ("Containers", "string", WIDE),
            ("Images", "string", WIDE),
            ("Selector", "string", WIDE),
        ],
        Kind::StatefulSet => &[
            ("Name", "string", 0),
            ("Ready", "string", 0),
            ("Age", "string", 0),
            ("Containers", "string", WIDE),
            ("Images", "string", WIDE),
        ],
        Kind::ControllerRevision => &[("Name", "string", 0), ("Controller", "string", 0), ("Revision", "string", 0), ("Age", "string", 0)],
        Kind::PersistentVolume => &[
            ("Name", "string", 0),
            ("Capacity", "string", 0),
            ("Access Modes", "string", 0),
            ("Reclaim Policy", "string", 0),
            ("Status", "string", 0),
            ("Claim", "string", 0),
            ("StorageClass", "string", 0),
            ("VolumeAttributesClass", "string", 0),
            ("Reason", "string", 0),
            ("Age", "string", 0),
            ("VolumeMode", "string", WIDE),
        ],
        Kind::PersistentVolumeClaim => &[
            ("Name", "string", 0),
            ("Status", "string", 0),
            ("Volume", "string", 0),
            ("Capacity", "string", 0),
            ("Access Modes", "string", 0),
            ("StorageClass", "string", 0),
            ("VolumeAttributesClass", "string", 0),
            ("Age", "string", 0),
            ("VolumeMode", "string", WIDE),
        ],
        Kind::EndpointSlice => {
            &[("Name", "string", 0), ("AddressType", "string", 0), ("Ports", "string", 0), ("Endpoints", "string", 0), ("Age", "string", 0)]
        }
        Kind::Event => &[
            ("Last Seen", "string", 0),
            ("Type", "string", 0),
            ("Reason", "string", 0),
            ("Object", "string", 0),
            ("Subobject", "string", WIDE),
            ("Source", "string", WIDE),
            ("Message", "string", 0),
            ("First Seen", "string", WIDE),
            ("Count", "string", WIDE),
            ("Name", "string", WIDE),
        ],
        Kind::Lease => &[("Name", "string", 0), ("Holder", "string", 0), ("Age", "string", 0)],
        Kind::Namespace => &[("Name", "string", 0), ("Status", "string", 0), ("Age", "string", 0)],
        Kind::Secret => &[("Name", "string", 0), ("Type", "string", 0), ("Data", "string", 0), ("Age", "string", 0)],
        Kind::ConfigMap => &[("Name", "string", 0), ("Data", "string", 0), ("Age", "string", 0)],
        Kind::PodDisruptionBudget => &[
            ("Name", "string", 0),
            ("Min Available", "string", 0),
            ("Max Unavailable", "string", 0),
            ("Allowed Disruptions", "integer", 0),
            ("Age", "string", 0),
        ],
        Kind::StorageClass => &[
            ("Name", "string", 0),
            ("Provisioner", "string", 0),
            ("ReclaimPolicy", "string", 0),
            ("VolumeBindingMode", "string", 0),
            ("AllowVolumeExpansion", "string", 0),
            ("Age", "string", 0),
        ],
        Kind::VolumeAttachment => &[
            ("Name", "string", 0),
            ("Attacher", "string", 0),
            ("PV", "string", 0),
            ("Node", "string", 0),
            ("Attached", "boolean", 0),
            ("Age", "string", 0),
        ],
        Kind::ServiceAccount => &[("Name", "string", 0), ("Age", "string", 0)],
    }
}

/// The cells of an object's row, one for each of the [`columns`] of its kind.
#[expect(clippy::too_many_lines, reason = "an entry for each kind")]
fn cells(kind: Kind, object: &Value, now: DateTime<Utc>) -> Vec<Value> {
    let name = || Value::from(object.name());
    let age = || Value::from(since(object.text("/metadata/creationTimestamp"), now));
    let number = |at: &str| Value::from(object.int(at).unwrap_or_default());
    let ratio = |part: &str, whole: &str| {
        Value::from(format!("{}/{}", object.int(part).unwrap_or_default(), object.int(whole).unwrap_or_default()))
    };
    let template = |field: &str| Value::from(joined(object.list("/spec/template/spec/containers"), field));
    let text = |at: &str| Value::from(object.text(at));
    let or = |at: &str, otherwise: &str| Value::from(if object.text(at).is_empty() { otherwise } else { object.text(at) });
    match kind {
        Kind::Pod => pod_cells(object, now),
        Kind::Node => node_cells(object, now),
        Kind::Service => vec![
            name(),
            text("/spec/type"),
            or("/spec/clusterIP", "<none>"),
            external_address(object).into(),
            service_ports(object).into(),
            age(),
            labels(object.pointer("/spec/selector")).into(),
        ],
        Kind::Deployment => vec![
            name(),
            ratio("/status/readyReplicas", "/spec/replicas"),
            number("/status/updatedReplicas"),
            number("/status/availableReplicas"),
            age(),
            template("name"),
            template("image"),
            labels(object.pointer("/spec/selector/matchLabels")).into(),
        ],
        Kind::ReplicaSet => vec![
            name(),
            number("/spec/replicas"),
            number("/status/replicas"),
            number("/status/readyReplicas"),
            age(),
            template("name"),
            template("image"),
            labels(object.pointer("/spec/selector/matchLabels")).into(),
        ],
        Kind::StatefulSet => {
            vec![name(), ratio("/status/readyReplicas", "/spec/replicas"), age(), template("name"), template("image")]
        }
        Kind::ControllerRevision => vec![name(), controller(object).into(), number("/revision"), age()],
        Kind::PersistentVolume => vec![
            name(),
            text("/spec/capacity/storage"),
            modes(object.list("/spec/accessModes")).into(),
            text("/spec/persistentVolumeReclaimPolicy"),
            phase(object).into(),
            if object.has("/spec/claimRef") {
                format!("{}/{}", object.text("/spec/claimRef/namespace"), object.text("/spec/claimRef/name")).into()
            } else {
                "".into()
            },
            text("/spec/storageClassName"),
            or("/spec/volumeAttributesClassName", "<unset>"),
            text("/status/reason"),
            age(),
            or("/spec/volumeMode", "<unset>"),
        ],
        Kind::PersistentVolumeClaim => {
            let is_bound = object.has("/spec/volumeName");
            vec![
                name(),
                phase(object).into(),
                text("/spec/volumeName"),
                if is_bound { text("/status/capacity/storage") } else { "".into() },
                if is_bound { modes(object.list("/status/accessModes")).into() } else { "".into() },
                text("/spec/storageClassName"),
                or("/spec/volumeAttributesClassName", "<unset>"),
                age(),
                or("/spec/volumeMode", "<unset>"),
            ]
        }
        Kind::EndpointSlice => {
            let ports = object.list("/ports").iter().map(|port| port.int("/port").map_or("*".to_owned(), |port| port.to_string()));
            let addresses = object.list("/endpoints").iter().flat_map(|endpoint| endpoint.list("/addresses"));
            let addresses = addresses.filter_map(Value::as_str).map(str::to_owned);
            vec![name(), text("/addressType"), some(&ports.collect::<Vec<_>>()).into(), some(&addresses.collect::<Vec<_>>()).into(), age()]
        }
        Kind::Event => event_cells(object, now),
        Kind::Lease => vec![name(), text("/spec/holderIdentity"), age()],
        Kind::Namespace => vec![name(), text("/status/phase"), age()],
        Kind::Secret => vec![name(), text("/type"), count(object, &["data"]).into(), age()],
        Kind::ConfigMap => vec![name(), count(object, &["data", "binaryData"]).into(), age()],
        Kind::PodDisruptionBudget => {
            let limit = |at: &str| match object.pointer(at) {
                Some(Value::String(percent)) => percent.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => "N/A".to_owned(),
            };
            vec![
                name(),
                limit("/spec/minAvailable").into(),
                limit("/spec/maxUnavailable").into(),
                number("/status/disruptionsAllowed"),
                age(),
            ]
        }
        Kind::StorageClass => {
            let is_default = object.text("/metadata/annotations/storageclass.kubernetes.io~1is-default-class") == "true";
            let name = if is_default { format!("{} (default)", object.name()) } else { object.name().to_owned() };
            vec![
                name.into(),
                text("/provisioner"),
                or("/reclaimPolicy", "Delete"),
                or("/volumeBindingMode", "<unset>"),
                object.flag("/allowVolumeExpansion").into(),
                age(),
            ]
        }
        Kind::VolumeAttachment => vec![
            name(),
            text("/spec/attacher"),
            text("/spec/source/persistentVolumeName"),
            text("/spec/nodeName"),
            object.flag("/status/attached").into(),
            age(),
        ],
        Kind::ServiceAccount => vec![name(), age()],
    }
}

fn pod_cells(object: &Value, now: DateTime<Utc>) -> Vec<Value> {
    let statuses = object.list("/status/containerStatuses");
    let restarts: i64 = statuses.iter().filter_map(|status| status.int("/restartCount")).sum();
    let last = statuses.iter().map(|status| status.text("/lastState/terminated/finishedAt")).max().unwrap_or_default();
    let restarts = if restarts > 0 && !last.is_empty() { format!("{restarts} ({} ago)", since(last, now)) } else { restarts.to_string() };
    let ready = statuses.iter().filter(|status| status.flag("/ready") && status.has("/state/running")).count();
    let or_none = |at: &str| Value::from(if object.text(at).is_empty() { "<none>" } else { object.text(at) });
    vec![
        object.name().into(),
        format!("{ready}/{}", object.list("/spec/containers").len()).into(),
        pod_status(object).into(),
        restarts.into(),
        since(object.text("/metadata/creationTimestamp"), now).into(),
        or_none("/status/podIP"),
        or_none("/spec/nodeName"),
        or_none("/status/nominatedNodeName"),
        "<none>".into(),
    ]
}

/// One word for how a pod is: what its containers wait for or ended with, before its phase; that it is leaving, before both.
fn pod_status(object: &Value) -> String {
    let phase = object.text("/status/phase");
    let mut reason = if object.text("/status/reason").is_empty() { phase.to_owned() } else { object.text("/status/reason").to_owned() };
    let (mut runs, mut failure) = (false, String::new());
    for status in object.list("/status/containerStatuses").iter().rev() {
        if !status.text("/state/waiting/reason").is_empty() {
            status.text("/state/waiting/reason").clone_into(&mut reason);
        } else if let Some(ended) = status.pointer("/state/terminated") {
            let code = ended.int("/exitCode").unwrap_or_default();
            reason = match (ended.text("/reason"), ended.int("/signal").unwrap_or_default()) {
                ("", 0) => format!("ExitCode:{code}"),
                ("", signal) => format!("Signal:{signal}"),
                (reason, _) => reason.to_owned(),
            };
            if code != 0 {
                failure.clone_from(&reason);
            }
        } else if status.flag("/ready") && status.has("/state/running") {
            runs = true;
        }
    }
    if reason == "Completed" {
        if runs && super::super::object::condition_holds(object, "Ready") {
            "Running".clone_into(&mut reason);
        } else if !failure.is_empty() {
            reason = failure;
        } else if runs {
            "NotReady".clone_into(&mut reason);
        }
    }
    if object.is_terminating() && object.text("/status/reason") == "NodeLost" {
        "Unknown".clone_into(&mut reason);
    } else if object.is_terminating() && !pod::is_finished(object) {
        "Terminating".clone_into(&mut reason);
    }
    reason
}

fn node_cells(object: &Value, now: DateTime<Utc>) -> Vec<Value> {
    const ROLE: &str = "node-role.kubernetes.io/";
    let mut status = if super::super::object::condition(object, "Ready").is_none() {
        "Unknown".to_owned()
    } else if node::is_ready(object) {
        "Ready".to_owned()
    } else {
        "NotReady".to_owned()
    };
    if object.flag("/spec/unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let roles: Vec<_> =
        labels.into_iter().flatten().filter_map(|(key, _)| key.strip_prefix(ROLE)).filter(|role| !role.is_empty()).collect();
    let roles = if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") };
    let address = |kind: &str| {
        let found = object.list("/status/addresses").iter().find(|address| address.text("/type") == kind);
        found.map_or("<none>", |address| address.text("/address")).to_owned()
    };
    let info = |field: &str| object.text(&format!("/status/nodeInfo/{field}")).to_owned();
    vec![
        object.name().into(),
        status.into(),
        roles.into(),
        since(object.text("/metadata/creationTimestamp"), now).into(),
        info("kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        info("osImage").into(),
        format!("{} ({})", info("kernelVersion"), info("architecture")).into(),
        info("containerRuntimeVersion").into(),
    ]
}

fn event_cells(object: &Value, now: DateTime<Utc>) -> Vec<Value> {
    let first = if object.text("/firstTimestamp").is_empty() { object.text("/eventTime") } else { object.text("/firstTimestamp") };
    let last = if object.text("/lastTimestamp").is_empty() { first } else { object.text("/lastTimestamp") };
    let involved = object.text("/involvedObject/kind").to_lowercase();
    let target = if object.text("/involvedObject/name").is_empty() {
        involved
    } else {
        format!("{involved}/{}", object.text("/involvedObject/name"))
    };
    let (component, host) = (object.text("/source/component"), object.text("/source/host"));
    vec![
        since(last, now).into(),
        object.text("/type").into(),
        object.text("/reason").into(),
        target.into(),
        object.text("/involvedObject/fieldPath").into(),
        if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }.into(),
        object.text("/message").trim().into(),
        since(first, now).into(),
        object.int("/count").unwrap_or(1).into(),
        object.name().into(),
    ]
}

fn phase(object: &Value) -> &str {
    if object.is_terminating() { "Terminating" } else { object.text("/status/phase") }
}

fn external_address(service: &Value) -> String {
    if service.text("/spec/type") != "LoadBalancer" {
        return "<none>".to_owned();
    }
    let addresses: Vec<_> = service.list("/status/loadBalancer/ingress").iter().map(|one| one.text("/ip")).collect();
    if addresses.is_empty() { "<pending>".to_owned() } else { addresses.join(",") }
}

fn service_ports(service: &Value) -> String {
    let ports = service.list("/spec/ports").iter().map(|port| {
        let (number, protocol) = (port.int("/port").unwrap_or_default(), port.text("/protocol"));
        match port.int("/nodePort") {
            Some(node_port) if node_port > 0 => format!("{number}:{node_port}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    });
    let ports: Vec<_> = ports.collect();
    if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") }
}

fn controller(object: &Value) -> String {
    let Some(owner) = super::super::object::controller_of(object) else { return "<none>".to_owned() };
    let group = owner.text("/apiVersion").split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
    format!("{}{group}/{}", owner.text("/kind").to_lowercase(), owner.text("/name"))
}

/// `a=b,c=d`; `<none>` for none.
fn labels(map: Option<&Value>) -> String {
    let pairs = map.and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<_> = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

fn joined(list: &[Value], field: &str) -> String {
    list.iter().map(|one| one[field].as_str().unwrap_or_default()).collect::<Vec<_>>().join(",")
}

fn modes(modes: &[Value]) -> String {
    let short = [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let is = |long: &str| modes.iter().any(|mode| mode == long);
    short.iter().filter(|(long, _)| is(long)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// The first three, and how many more there are.
fn some(all: &[String]) -> String {
    const MOST: usize = 3;
    match all.len() {
        0 => "<unset>".to_owned(),
        n if n > MOST => format!("{} + {} more...", all[..MOST].join(","), n - MOST),
        _ => all.join(","),
    }
}

fn count(object: &Value, fields: &[&str]) -> usize {
    fields.iter().filter_map(|field| object[*field].as_object()).map(serde_json::Map::len).sum()
}

/// How long ago a moment was, as `kubectl` writes it: two or three figures.
fn since(stamp: &str, now: DateTime<Utc>) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let Ok(then) = stamp.parse::<DateTime<Utc>>() else { return "<unknown>".to_owned() };
    let seconds = (now - then).num_seconds();
    let two = |first: i64, one: &str, second: i64, other: &str| {
        if second == 0 { format!("{first}{one}") } else { format!("{first}{one}{second}{other}") }
    };
    match seconds {
        ..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if seconds < 2 * MINUTE => format!("{seconds}s"),
        _ if seconds < 10 * MINUTE => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        _ if seconds < 3 * HOUR => format!("{}m", seconds / MINUTE),
        _ if seconds < 8 * HOUR => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        _ if seconds < 2 * DAY => format!("{}h", seconds / HOUR),
        _ if seconds < 8 * DAY => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        _ => format!("{}d", seconds / DAY),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

    #[rstest]
    #[case::kubectl(KUBECTL, true)]
    #[case::anything("*/*", false)]
    #[case::nothing("", false)]
    #[case::plain("application/json", false)]
    #[case::plain_first("application/json, application/json;as=Table;v=v1;g=meta.k8s.io", false)]
    #[case::protobuf_first("application/vnd.kubernetes.protobuf,application/json", false)]
    fn a_table_is_for_who_asks_for_one_first(#[case] accept: &str, #[case] expected: bool) {
        assert_eq!(Table::wanted(Kind::Pod, accept, None).unwrap().is_some(), expected);
    }

    #[test]
    fn every_kind_has_a_cell_for_each_of_its_columns() {
        for kind in Kind::ALL {
            assert_eq!(cells(kind, &json!({}), Utc::now()).len(), columns(kind).len(), "{kind:?}");
        }
    }

    #[test]
    fn a_row_holds_as_much_of_its_object_as_was_asked_for() {
        let map = json!({ "metadata": { "name": "m" }, "data": { "a": "b" } });
        let row = |include| {
            let table = Table::wanted(Kind::ConfigMap, KUBECTL, include).unwrap().unwrap().of([&map], "7");
            assert_eq!(
                (table["metadata"]["resourceVersion"].as_str(), table["columnDefinitions"].as_array().map(Vec::len)),
                (Some("7"), Some(3))
            );
            table["rows"][0].clone()
        };
        assert_eq!(row(None)["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(row(Some("Object"))["object"], map);
        assert!(row(Some("None")).get("object").is_none());
        assert_eq!(row(None)["cells"][1], 1);
        assert_eq!(Table::wanted(Kind::ConfigMap, KUBECTL, Some("Some")).unwrap_err().code, 400);
    }

    #[rstest]
    #[case::running(json!({ "state": { "running": {} }, "ready": true }), false, "Running")]
    #[case::waiting(json!({ "state": { "waiting": { "reason": "CrashLoopBackOff" } } }), false, "CrashLoopBackOff")]
    #[case::ended(json!({ "state": { "terminated": { "exitCode": 255, "reason": "Unknown" } } }), false, "Unknown")]
    #[case::killed(json!({ "state": { "terminated": { "exitCode": 137, "signal": 9 } } }), false, "Signal:9")]
    #[case::leaving(json!({ "state": { "running": {} }, "ready": true }), true, "Terminating")]
    fn a_pod_is_in_one_word(#[case] status: Value, #[case] leaves: bool, #[case] expected: &str) {
        let mut pod = json!({ "status": { "phase": "Running", "containerStatuses": [status] } });
        if leaves {
            pod["metadata"] = json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" });
        }
        assert_eq!(pod_status(&pod), expected);
    }

    #[rstest]
    #[case::seconds(119, "119s")]
    #[case::minutes_and_seconds(125, "2m5s")]
    #[case::whole_minutes(180, "3m")]
    #[case::minutes(3600, "60m")]
    #[case::hours_and_minutes(4 * 3600 + 300, "4h5m")]
    #[case::hours(24 * 3600, "24h")]
    #[case::days_and_hours(3 * 86_400 + 7200, "3d2h")]
    #[case::days(100 * 86_400, "100d")]
    fn an_age_has_two_or_three_figures(#[case] seconds: i64, #[case] expected: &str) {
        let now = Utc::now();
        assert_eq!(since(&(now - chrono::Duration::seconds(seconds)).to_rfc3339(), now), expected);
        assert_eq!(since("", now), "<unknown>");
    }

    #[test]
    fn a_longer_list_says_how_many_more_there_are() {
        let list = |n: usize| (1..=n).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!((some(&list(0)), some(&list(3)), some(&list(5))), ("<unset>".into(), "1,2,3".into(), "1,2,3 + 2 more...".into()));
    }
}
