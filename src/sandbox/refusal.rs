//! Why the API refused a request, as a Kubernetes `Status`.

use serde_json::{Value, json};

use super::kinds::Kind;

/// A refused request: the HTTP code and the `Status` that says why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    /// The HTTP status code.
    pub(crate) code: u16,
    /// Kubernetes' one word for it.
    pub(crate) reason: &'static str,
    /// The sentence for people.
    pub(crate) message: String,
    /// In how many seconds to try again, if that is known.
    pub(crate) retry_after: Option<u32>,
    /// Which object, and which fields.
    details: Value,
}

/// One field that is wrong.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    /// Kubernetes' word: `FieldValueRequired`, `FieldValueInvalid` and so on.
    pub(crate) reason: &'static str,
    /// The field, as `spec.containers[0].name`.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) message: String,
}

impl Cause {
    /// A field that must be there.
    pub(crate) fn required(field: impl Into<String>, why: &str) -> Self {
        let message = if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// A field whose value cannot be.
    pub(crate) fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Self {
        Self { reason: "FieldValueInvalid", field: field.into(), message: format!("Invalid value: {value}: {why}") }
    }

    /// A field that may not be set, or not be changed.
    pub(crate) fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {why}") }
    }

    /// A value outside the known set.
    pub(crate) fn unsupported(field: impl Into<String>, value: &Value, known: &[&str]) -> Self {
        let known = known.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message: format!("Unsupported value: {value}: supported values: {known}"),
        }
    }
}

impl Refusal {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), retry_after: None, details: Value::Null }
    }

    fn about(mut self, kind: Kind, name: &str) -> Self {
        let facts = kind.facts();
        self.details = json!({ "name": name, "kind": facts.plural });
        if !facts.group.is_empty() {
            self.details["group"] = facts.group.into();
        }
        self
    }

    /// `pods "x"`, or `deployments.apps "x"`.
    fn called(kind: Kind, name: &str) -> String {
        let facts = kind.facts();
        let dot = if facts.group.is_empty() { "" } else { "." };
        format!("{}{dot}{} \"{name}\"", facts.plural, facts.group)
    }

    /// No such object.
    pub(crate) fn not_found(kind: Kind, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} not found", Self::called(kind, name))).about(kind, name)
    }

    /// No such path.
    pub(crate) fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// Nothing there, said in full.
    pub(crate) fn nothing_found(message: impl Into<String>) -> Self {
        Self::new(404, "NotFound", message)
    }

    /// The name is taken.
    pub(crate) fn already_exists(kind: Kind, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} already exists", Self::called(kind, name))).about(kind, name)
    }

    /// The object changed since it was read.
    pub(crate) fn conflict(kind: Kind, name: &str, why: &str) -> Self {
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {}: {why}", Self::called(kind, name))).about(kind, name)
    }

    /// The object as sent cannot be: one or more fields are wrong.
    pub(crate) fn invalid(kind: Kind, name: &str, causes: &[Cause]) -> Self {
        let list = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>();
        let list = if let [one] = list.as_slice() { one.clone() } else { format!("[{}]", list.join(", ")) };
        let facts = kind.facts();
        let dot = if facts.group.is_empty() { "" } else { "." };
        let mut refusal =
            Self::new(422, "Invalid", format!("{}{dot}{} \"{name}\" is invalid: {list}", facts.name, facts.group)).about(kind, name);
        refusal.details["causes"] =
            causes.iter().map(|cause| json!({ "reason": cause.reason, "message": cause.message, "field": cause.field })).collect();
        refusal
    }

    /// A request that makes sense to read, and none to do.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message)
    }

    /// A request that could not be read.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// No token, or the wrong one.
    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// A request that is never allowed here.
    pub(crate) fn forbidden(kind: Kind, name: &str, why: &str) -> Self {
        Self::new(403, "Forbidden", format!("{} is forbidden: {why}", Self::called(kind, name))).about(kind, name)
    }

    /// An eviction that a disruption budget does not allow now.
    pub(crate) fn disruption(why: &str, retry_after: Option<u32>) -> Self {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        let mut refusal = Self::new(429, "TooManyRequests", message);
        refusal.details = json!({ "causes": [{ "reason": "DisruptionBudget", "message": why }] });
        if let Some(seconds) = retry_after {
            refusal.details["retryAfterSeconds"] = seconds.into();
        }
        refusal.retry_after = retry_after;
        refusal
    }

    /// The path is there, the verb is not.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    /// A body in a form that the sandbox does not read.
    pub(crate) fn unsupported_media(found: &str) -> Self {
        let why = "the sandbox reads JSON, which is what `kubectl apply -f` and `kubectl create -f` send";
        Self::new(415, "UnsupportedMediaType", format!("the body of the request is in the unsupported format `{found}`; {why}"))
    }

    /// The versions asked for are forgotten; list again.
    pub(crate) fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// It does not answer just now.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// The sandbox itself is at fault.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", message)
    }

    /// The `Status` that goes to the client.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}
