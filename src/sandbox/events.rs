//! Events, as controllers and kubelets tell them: what happened to an object, why, in words.
//!
//! The same thing said again about the same object is counted, not listed twice.

use serde_json::{Value, json};

use super::{
    kinds::Kind,
    object::{self, Look},
    store::{Key, Part, Store},
};

/// Who tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// The component.
    pub(crate) component: &'a str,
    /// The node it is on, if it matters.
    pub(crate) host: &'a str,
}

impl<'a> Source<'a> {
    /// A component of the control plane.
    pub(crate) fn controller(component: &'a str) -> Self {
        Self { component, host: "" }
    }

    /// The kubelet of that node.
    pub(crate) fn kubelet(host: &'a str) -> Self {
        Self { component: "kubelet", host }
    }
}

/// Whether an event is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// It is.
    Normal,
    /// Somebody may have to look.
    Warning,
}

/// Tells that something happened to `about`. An event that cannot be stored (its namespace is going) is dropped, as on a real cluster.
pub(crate) fn tell(store: &Store, source: Source<'_>, about: &Value, tone: Tone, reason: &str, message: &str) {
    tell_of_field(store, source, about, "", tone, reason, message);
}

/// Tells that something happened to a part of `about`, such as `spec.containers{mssql}`.
pub(crate) fn tell_of_field(store: &Store, source: Source<'_>, about: &Value, field: &str, tone: Tone, reason: &str, message: &str) {
    let namespace = if about.namespace().is_empty() { "default" } else { about.namespace() };
    if let Some(known) = store.event(about.uid(), field, reason, message) {
        let again = |event: &mut Value| {
            let count = event.int("/count").unwrap_or(1);
            object::set(event, "/count", count + 1);
            object::set(event, "/lastTimestamp", object::now());
            Ok(())
        };
        store.update(&Key::of(Kind::Event, &known), Part::Whole, false, again).ok();
        return;
    }
    let now = object::now();
    let tone = if tone == Tone::Normal { "Normal" } else { "Warning" };
    let mut involved = json!({
        "kind": about.text("/kind"), "apiVersion": about.text("/apiVersion"), "name": about.name(), "uid": about.uid(),
        "resourceVersion": about.text("/metadata/resourceVersion"),
    });
    if !about.namespace().is_empty() {
        involved["namespace"] = about.namespace().into();
    }
    if !field.is_empty() {
        involved["fieldPath"] = field.into();
    }
    let mut by = json!({ "component": source.component });
    if !source.host.is_empty() {
        by["host"] = source.host.into();
    }
    let event = json!({
        "metadata": { "name": format!("{}.{:016x}", about.name(), fastrand::u64(..)), "namespace": namespace },
        "involvedObject": involved, "reason": reason, "message": message, "type": tone, "count": 1,
        "firstTimestamp": now, "lastTimestamp": now, "eventTime": null,
        "source": by, "reportingComponent": source.component, "reportingInstance": source.host,
    });
    store.create(Kind::Event, event, false).ok();
}
