//! Label and field selectors: which objects a list, a watch, a service or a controller means.

use serde_json::Value;

use super::{kinds::Kind, object::Look, refusal::Refusal};

/// One demand on the labels of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Demand {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
    /// A demand that nothing meets, such as an operator nobody knows.
    Never,
}

impl Demand {
    fn holds(&self, labels: &Value) -> bool {
        let value = |key: &str| labels.get(key).and_then(Value::as_str);
        match self {
            Self::In(key, values) => value(key).is_some_and(|found| values.iter().any(|value| value == found)),
            Self::NotIn(key, values) => value(key).is_none_or(|found| values.iter().all(|value| value != found)),
            Self::Exists(key) => value(key).is_some(),
            Self::DoesNotExist(key) => value(key).is_none(),
            Self::Never => false,
        }
    }
}

/// Demands on labels, all of which must hold. The empty selector selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<Demand>);

impl Labels {
    /// Reads a `labelSelector` parameter: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        split_outside_brackets(text).into_iter().map(|part| demand(part.trim())).collect::<Result<_, _>>().map(Self)
    }

    /// Reads a `LabelSelector` object (`matchLabels`, `matchExpressions`).
    pub(crate) fn of_object(selector: &Value) -> Self {
        let mut demands = Self::of_map(&selector["matchLabels"]).0;
        demands.extend(selector.list("/matchExpressions").iter().map(expression));
        Self(demands)
    }

    /// Reads a plain map of labels, as a Service has it.
    pub(crate) fn of_map(map: &Value) -> Self {
        let pairs = map.as_object().into_iter().flatten();
        Self(pairs.map(|(key, value)| Demand::In(key.clone(), vec![value.as_str().unwrap_or_default().to_owned()])).collect())
    }

    /// Reads the `matchExpressions` of a node selector term.
    pub(crate) fn of_expressions(expressions: &[Value]) -> Self {
        Self(expressions.iter().map(expression).collect())
    }

    /// Whether it selects everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these labels (a map) meet every demand.
    pub(crate) fn matches_labels(&self, labels: &Value) -> bool {
        self.0.iter().all(|demand| demand.holds(labels))
    }

    /// Whether the labels of `object` meet every demand.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.matches_labels(object.pointer("/metadata/labels").unwrap_or(&Value::Null))
    }
}

fn expression(expression: &Value) -> Demand {
    let key = expression.text("/key").to_owned();
    let values = || expression.list("/values").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    match expression.text("/operator") {
        "In" => Demand::In(key, values()),
        "NotIn" => Demand::NotIn(key, values()),
        "Exists" => Demand::Exists(key),
        "DoesNotExist" => Demand::DoesNotExist(key),
        _ => Demand::Never,
    }
}

fn demand(text: &str) -> Result<Demand, Refusal> {
    let bad = || Refusal::bad_request(format!("unable to parse requirement `{text}` of the label selector"));
    let word = |word: &str| {
        let word = word.trim();
        let fits = word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        if fits { Ok(word.to_owned()) } else { Err(bad()) }
    };
    let key = |text: &str| word(text).and_then(|key| if key.is_empty() { Err(bad()) } else { Ok(key) });
    let set = |list: &str| -> Result<Vec<String>, Refusal> {
        let inner = list.trim().strip_prefix('(').and_then(|list| list.strip_suffix(')')).ok_or_else(bad)?;
        inner.split(',').map(word).collect()
    };
    if let Some((left, right)) = text.split_once(" notin ") {
        return Ok(Demand::NotIn(key(left)?, set(right)?));
    }
    if let Some((left, right)) = text.split_once(" in ") {
        return Ok(Demand::In(key(left)?, set(right)?));
    }
    if let Some((left, right)) = text.split_once("!=") {
        return Ok(Demand::NotIn(key(left)?, vec![word(right)?]));
    }
    if let Some((left, right)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Demand::In(key(left)?, vec![word(right)?]));
    }
    if let Some(rest) = text.strip_prefix('!') {
        return Ok(Demand::DoesNotExist(key(rest)?));
    }
    Ok(Demand::Exists(key(text)?))
}

/// Splits at commas that are not inside round brackets.
fn split_outside_brackets(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0_i32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Demands on single fields, all of which must hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields(Vec<(String, String, bool)>);

impl Fields {
    /// Reads a `fieldSelector` parameter: `spec.nodeName=x,status.phase!=Failed`.
    ///
    /// # Errors
    /// A field that this kind cannot be selected by is refused, as Kubernetes does: a selector that is silently ignored selects too much.
    pub(crate) fn parse(kind: Kind, text: &str) -> Result<Self, Refusal> {
        let mut demands = Vec::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (field, value, equal) = if let Some((field, value)) = part.split_once("!=") {
                (field, value, false)
            } else if let Some((field, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (field, value, true)
            } else {
                return Err(Refusal::bad_request(format!("invalid field selector `{part}`: can't understand it")));
            };
            let field = field.trim();
            if !selectable(kind).contains(&field) && !["metadata.name", "metadata.namespace"].contains(&field) {
                return Err(Refusal::bad_request(format!("field label not supported: {field}")));
            }
            demands.push((format!("/{}", field.replace('.', "/")), value.trim().to_owned(), equal));
        }
        Ok(Self(demands))
    }

    /// Whether the fields of `object` meet every demand.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(at, wanted, equal)| {
            let found = match object.pointer(at) {
                None | Some(Value::Null) if at == "/spec/unschedulable" => "false".to_owned(),
                Some(Value::String(text)) => text.clone(),
                None | Some(Value::Null) => String::new(),
                Some(other) => other.to_string(),
            };
            (found == *wanted) == *equal
        })
    }
}

/// The fields, beside name and namespace, that objects of this kind can be selected by.
fn selectable(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Pod => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        Kind::Node => &["spec.unschedulable"],
        Kind::Namespace => &["status.phase"],
        Kind::Secret => &["type"],
        Kind::Service => &["spec.clusterIP", "spec.type"],
        Kind::ReplicaSet => &["status.replicas"],
        Kind::Event => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        Kind::Deployment
        | Kind::StatefulSet
        | Kind::ControllerRevision
        | Kind::PodDisruptionBudget
        | Kind::ConfigMap
        | Kind::ServiceAccount
        | Kind::PersistentVolume
        | Kind::PersistentVolumeClaim
        | Kind::EndpointSlice
        | Kind::StorageClass
        | Kind::VolumeAttachment
        | Kind::Lease => &[],
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::nothing("", true)]
    #[case::equal("app=mssql", true)]
    #[case::twice_equal("app==mssql", true)]
    #[case::another_value("app=other", false)]
    #[case::not_equal("app!=other", true)]
    #[case::not_equal_to_what_is_missing("zone!=a", true)]
    #[case::in_a_set("app in (a, mssql)", true)]
    #[case::not_in_a_set("app notin (a,mssql)", false)]
    #[case::exists("tier", true)]
    #[case::does_not_exist("!tier", false)]
    #[case::all_must_hold("app=mssql,tier=none", false)]
    #[case::sets_and_commas("app in (a,mssql),tier", true)]
    fn a_label_selector_selects(#[case] text: &str, #[case] selected: bool) {
        let object = json!({ "metadata": { "labels": { "app": "mssql", "tier": "db" } } });
        assert_eq!(Labels::parse(text).unwrap().matches(&object), selected);
    }

    #[rstest]
    #[case("=x")]
    #[case("a in b")]
    #[case("a b c")]
    #[case("a=b c")]
    fn a_label_selector_that_makes_no_sense_is_refused(#[case] text: &str) {
        assert_eq!(Labels::parse(text).unwrap_err().code, 400);
    }

    #[test]
    fn an_object_selector_demands_labels_and_expressions() {
        let selector = Labels::of_object(&json!({
            "matchLabels": { "app": "a" },
            "matchExpressions": [{ "key": "zone", "operator": "NotIn", "values": ["x"] }, { "key": "old", "operator": "DoesNotExist" }],
        }));
        assert!(selector.matches_labels(&json!({ "app": "a" })));
        assert!(!selector.matches_labels(&json!({ "app": "a", "zone": "x" })));
        assert!(!selector.matches_labels(&json!({ "app": "a", "old": "" })));
        let unknown = Labels::of_object(&json!({ "matchExpressions": [{ "key": "a", "operator": "Like" }] }));
        assert!(!unknown.matches_labels(&json!({ "a": "b" })), "an operator nobody knows selects nothing");
    }

    #[test]
    fn a_field_selector_selects_and_refuses_what_it_does_not_know() {
        let pod = json!({ "metadata": { "name": "a" }, "spec": { "nodeName": "n" }, "status": { "phase": "Running" } });
        assert!(Fields::parse(Kind::Pod, "spec.nodeName=n,status.phase!=Failed").unwrap().matches(&pod));
        assert!(!Fields::parse(Kind::Pod, "metadata.name=b").unwrap().matches(&pod));
        assert_eq!(Fields::parse(Kind::Pod, "spec.hostname=b").unwrap_err().code, 400);
        assert!(Fields::parse(Kind::Node, "spec.unschedulable=false").unwrap().matches(&json!({ "spec": {} })));
    }
}
