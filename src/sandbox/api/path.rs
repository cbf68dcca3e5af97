//! What a path means.

use super::super::{kinds::Kind, refusal::Refusal};

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `/healthz` and its like.
    Health,
    /// A document about the API itself.
    Discovery(Document),
    /// Objects of a kind.
    Objects(ObjectPlace),
    /// A container, by the sandbox's own paths.
    Container(ContainerPlace),
    /// The power switch of a node, by the sandbox's own path.
    Power(String),
    /// What is hurt, by the sandbox's own path.
    Hurts,
}

/// A document about the API itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Document {
    /// `/version`.
    Version,
    /// `/api`.
    CoreVersions,
    /// `/apis`.
    Groups,
    /// `/apis/{group}`.
    Group(String),
    /// `/api/v1`, `/apis/{group}/{version}`.
    Resources(String, String),
    /// `/openapi/v3`.
    OpenApi,
    /// `/openapi/v3/{group and version}`.
    OpenApiOf(String, String),
}

/// A kind, perhaps a namespace, perhaps a name, perhaps a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ObjectPlace {
    /// The kind.
    pub(super) kind: Kind,
    /// The namespace; `None` for all of them, and for what has none.
    pub(super) namespace: Option<String>,
    /// The one object, or `None` for all.
    pub(super) name: Option<String>,
    /// The part of it: `status`, `scale`, `log`, `exec`, `eviction`.
    pub(super) part: Option<String>,
}

/// A container and what is asked of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ContainerPlace {
    /// The pod's namespace.
    pub(super) namespace: String,
    /// The pod.
    pub(super) pod: String,
    /// The container in it.
    pub(super) container: String,
    /// `signal` or `processes`.
    pub(super) verb: String,
}

/// Reads a path.
pub(super) fn read(path: &str) -> Result<Place, Refusal> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    Ok(match parts.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => Place::Health,
        ["version"] => Place::Discovery(Document::Version),
        ["api"] => Place::Discovery(Document::CoreVersions),
        ["apis"] => Place::Discovery(Document::Groups),
        ["openapi", "v3"] => Place::Discovery(Document::OpenApi),
        ["openapi", "v3", "api", version] => Place::Discovery(Document::OpenApiOf(String::new(), (*version).to_owned())),
        ["openapi", "v3", "apis", group, version] => Place::Discovery(Document::OpenApiOf((*group).to_owned(), (*version).to_owned())),
        ["api", version] => Place::Discovery(Document::Resources(String::new(), (*version).to_owned())),
        ["apis", group] => Place::Discovery(Document::Group((*group).to_owned())),
        ["apis", group, version] => Place::Discovery(Document::Resources((*group).to_owned(), (*version).to_owned())),
        ["api", version, rest @ ..] => objects("", version, rest)?,
        ["apis", group, version, rest @ ..] => objects(group, version, rest)?,
        ["comeback", "v1", "namespaces", namespace, "pods", pod, "containers", container, verb] => Place::Container(ContainerPlace {
            namespace: (*namespace).to_owned(),
            pod: (*pod).to_owned(),
            container: (*container).to_owned(),
            verb: (*verb).to_owned(),
        }),
        ["comeback", "v1", "nodes", node, "power"] => Place::Power((*node).to_owned()),
        ["comeback", "v1", "hurts"] => Place::Hurts,
        _ => return Err(Refusal::no_such_path()),
    })
}

fn objects(group: &str, version: &str, rest: &[&str]) -> Result<Place, Refusal> {
    // `namespaces/x` is the object; `namespaces/x/pods` is what is in it; `namespaces/x/status` is a part of the object.
    let (namespace, rest) = match rest {
        ["namespaces", namespace, plural, ..] if !(group.is_empty() && ["status", "finalize"].contains(plural)) => {
            (Some(*namespace), &rest[2..])
        }
        _ => (None, rest),
    };
    let (plural, name, part) = match rest {
        [plural] => (plural, None, None),
        [plural, name] => (plural, Some(*name), None),
        [plural, name, part] => (plural, Some(*name), Some(*part)),
        _ => return Err(Refusal::no_such_path()),
    };
    let kind = Kind::of_path(group, version, plural).ok_or_else(Refusal::no_such_path)?;
    let facts = kind.facts();
    let fits = facts.namespaced || namespace.is_none();
    let is_whole = name.is_none() || namespace.is_some() || !facts.namespaced;
    if !fits || !is_whole || part.is_some_and(|part| !facts.subresources.contains(&part)) {
        return Err(Refusal::no_such_path());
    }
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Ok(Place::Objects(ObjectPlace { kind, namespace: owned(namespace), name: owned(name), part: owned(part) }))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn place(kind: Kind, namespace: Option<&str>, name: Option<&str>, part: Option<&str>) -> Place {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Place::Objects(ObjectPlace { kind, namespace: owned(namespace), name: owned(name), part: owned(part) })
    }

    #[rstest]
    #[case::all_pods("/api/v1/pods", place(Kind::Pod, None, None, None))]
    #[case::pods_of_a_namespace("/api/v1/namespaces/a/pods", place(Kind::Pod, Some("a"), None, None))]
    #[case::a_pod("/api/v1/namespaces/a/pods/p", place(Kind::Pod, Some("a"), Some("p"), None))]
    #[case::a_log("/api/v1/namespaces/a/pods/p/log", place(Kind::Pod, Some("a"), Some("p"), Some("log")))]
    #[case::a_namespace("/api/v1/namespaces/a", place(Kind::Namespace, None, Some("a"), None))]
    #[case::a_namespace_status("/api/v1/namespaces/a/status", place(Kind::Namespace, None, Some("a"), Some("status")))]
    #[case::a_node("/api/v1/nodes/n", place(Kind::Node, None, Some("n"), None))]
    #[case::a_scale("/apis/apps/v1/namespaces/a/deployments/d/scale", place(Kind::Deployment, Some("a"), Some("d"), Some("scale")))]
    fn a_path_leads_to_objects(#[case] path: &str, #[case] expected: Place) {
        assert_eq!(read(path).unwrap(), expected);
    }

    #[test]
    fn a_node_has_a_power_switch() {
        assert_eq!(read("/comeback/v1/nodes/worker-1/power").unwrap(), Place::Power("worker-1".into()));
    }

    #[rstest]
    #[case::nothing("/")]
    #[case::no_such_kind("/api/v1/gizmos")]
    #[case::no_such_group("/apis/batch/v1/jobs")]
    #[case::a_pod_without_its_namespace("/api/v1/pods/p")]
    #[case::a_node_in_a_namespace("/api/v1/namespaces/a/nodes/n")]
    #[case::no_such_part("/api/v1/namespaces/a/pods/p/gizmo")]
    #[case::too_long("/api/v1/namespaces/a/pods/p/log/x")]
    #[case::another_version_of_ours("/comeback/v2/namespaces/a/pods/p/containers/c/signal")]
    fn a_path_that_leads_nowhere_is_not_found(#[case] path: &str) {
        assert_eq!(read(path).unwrap_err().code, 404);
    }
}
