//! What is served here, for clients that ask first.
//!
//! The `OpenAPI` documents hold no schemas: they say only that every patch takes `fieldValidation`, which is what makes `kubectl apply` leave the
//! checking to the server.

use axum::{
    http::{Method, StatusCode},
    response::Response,
};
use serde_json::{Map, Value, json};

use super::{
    super::{
        kinds::{Facts, Kind},
        refusal::Refusal,
    },
    Asked, json_response,
    path::Document,
};

/// The version of Kubernetes that the sandbox behaves like.
const MINOR: &str = "37";
/// The same in full, as servers and kubelets say it.
pub(crate) const VERSION: &str = "v1.37.0-comeback";
/// The group of evictions.
const POLICY: &str = "policy";

/// Answers a question about the API itself.
pub(super) fn answer(asked: &Asked, document: &Document) -> Result<Response, Refusal> {
    if asked.method != Method::GET {
        return Err(Refusal::method_not_allowed());
    }
    let body = match document {
        Document::Version => json!({
            "major": "1", "minor": MINOR, "gitVersion": VERSION, "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc", "platform": format!("linux/{}", architecture()),
        }),
        Document::CoreVersions => json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }),
        Document::Groups => {
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups().into_iter().map(group).collect::<Vec<_>>() })
        }
        Document::Group(name) => {
            let name = groups().into_iter().find(|known| known == name).ok_or_else(Refusal::no_such_path)?;
            let mut document = group(name);
            document["kind"] = "APIGroup".into();
            document["apiVersion"] = "v1".into();
            document
        }
        Document::Resources(group, version) => resources(group, version)?,
        Document::OpenApi => {
            let mut paths = Map::new();
            paths.insert("api/v1".into(), json!({ "serverRelativeURL": "/openapi/v3/api/v1" }));
            for group in groups() {
                paths.insert(format!("apis/{group}/v1"), json!({ "serverRelativeURL": format!("/openapi/v3/apis/{group}/v1") }));
            }
            json!({ "paths": paths })
        }
        Document::OpenApiOf(group, version) => open_api(group, version)?,
    };
    Ok(json_response(StatusCode::OK, &body))
}

/// The architecture in Kubernetes' words.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// All groups but the core one, in the order of their kinds.
fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> = Vec::new();
    for kind in Kind::ALL {
        let group = kind.facts().group;
        if !group.is_empty() && !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

fn group(name: &str) -> Value {
    let version = json!({ "groupVersion": format!("{name}/v1"), "version": "v1" });
    json!({ "name": name, "versions": [version], "preferredVersion": version })
}

fn of_group<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = &'static Facts> + 'a {
    Kind::ALL.into_iter().map(Kind::facts).filter(move |facts| facts.group == group && facts.version == version)
}

fn resources(group: &str, version: &str) -> Result<Value, Refusal> {
    let mut resources = Vec::new();
    for facts in of_group(group, version) {
        let mut resource = json!({
            "name": facts.plural, "singularName": facts.name.to_lowercase(), "namespaced": facts.namespaced, "kind": facts.name,
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], "shortNames": facts.short,
        });
        if facts.in_all {
            resource["categories"] = json!(["all"]);
        }
        resources.push(resource);
        for part in facts.subresources {
            let mut resource = json!({
                "name": format!("{}/{part}", facts.plural), "singularName": "", "namespaced": facts.namespaced, "kind": facts.name,
                "verbs": ["get", "patch", "update"],
            });
            match *part {
                "eviction" => {
                    resource["kind"] = "Eviction".into();
                    resource["group"] = POLICY.into();
                    resource["version"] = "v1".into();
                    resource["verbs"] = json!(["create"]);
                }
                "scale" => {
                    resource["kind"] = "Scale".into();
                    resource["group"] = "autoscaling".into();
                    resource["version"] = "v1".into();
                }
                "exec" => {
                    resource["kind"] = "PodExecOptions".into();
                    resource["verbs"] = json!(["create", "get"]);
                }
                "log" => resource["verbs"] = json!(["get"]),
                _ => {}
            }
            resources.push(resource);
        }
    }
    if resources.is_empty() {
        return Err(Refusal::no_such_path());
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources }))
}

fn open_api(group: &str, version: &str) -> Result<Value, Refusal> {
    let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    let mut paths = Map::new();
    for facts in of_group(group, version) {
        let place = if facts.namespaced { "/namespaces/{namespace}" } else { "" };
        let parameters: Vec<_> = ["dryRun", "fieldManager", "fieldValidation", "force"]
            .into_iter()
            .map(|name| json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } }))
            .collect();
        let patch = json!({
            "parameters": parameters,
            "responses": { "200": { "description": "OK" } },
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": { "group": facts.group, "version": facts.version, "kind": facts.name },
        });
        paths.insert(format!("{root}{place}/{}/{{name}}", facts.plural), json!({ "patch": patch }));
    }
    if paths.is_empty() {
        return Err(Refusal::no_such_path());
    }
    Ok(json!({
        "openapi": "3.0.0", "info": { "title": "comeback sandbox", "version": VERSION },
        "paths": paths, "components": { "schemas": {} },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_said_the_same_everywhere() {
        assert!(VERSION.starts_with(&format!("v1.{MINOR}.")));
    }

    #[test]
    fn every_kind_is_found_by_who_asks_first() {
        let mut found = Vec::new();
        for group in std::iter::once("").chain(groups()) {
            let document = resources(group, "v1").unwrap();
            found.extend(document["resources"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()));
        }
        for kind in Kind::ALL {
            assert!(found.iter().any(|name| name == kind.facts().plural), "{kind:?}");
        }
        for part in ["pods/exec", "pods/eviction", "statefulsets/scale", "poddisruptionbudgets/status"] {
            assert!(found.iter().any(|name| name == part), "{part}");
        }
    }
}
