//! Get, list, create, update, patch, delete, and the parts of objects that have a path of their own.

use std::sync::Arc;

use axum::{
    http::{Method, StatusCode, request::Parts},
    response::Response,
};
use serde_json::{Value, json};

use super::{
    super::{
        Cluster, Defect, admission,
        kinds::Kind,
        object::{self, Look},
        patch::{self, Style},
        refusal::Refusal,
        refuse_uncordon,
        selector::{Fields, Labels},
        store::{Deleted, Deletion, Dependents, Key, Part},
    },
    Asked, eviction, exec, json_response, logs,
    path::ObjectPlace,
    table::Table,
    watching,
};

/// Which objects a list or a watch means.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The kind.
    pub(super) kind: Kind,
    namespace: Option<String>,
    name: Option<String>,
    labels: Labels,
    fields: Fields,
}

impl Wanted {
    fn read(asked: &Asked, place: &ObjectPlace) -> Result<Self, Refusal> {
        Ok(Self {
            kind: place.kind,
            namespace: place.namespace.clone(),
            name: place.name.clone(),
            labels: Labels::parse(asked.parameter("labelSelector").unwrap_or_default())?,
            fields: Fields::parse(place.kind, asked.parameter("fieldSelector").unwrap_or_default())?,
        })
    }

    /// Whether `object` is one of them.
    pub(super) fn includes(&self, object: &Value) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| object.namespace() == namespace)
            && self.name.as_deref().is_none_or(|name| object.name() == name)
            && self.labels.matches(object)
            && self.fields.matches(object)
    }

    /// All of them, and the version that this is the state of.
    pub(super) fn list(&self, cluster: &Cluster) -> (Vec<Arc<Value>>, u64) {
        let (mut objects, version) = cluster.store.list_with_version(self.kind, self.namespace.as_deref());
        objects.retain(|object| self.includes(object));
        (objects, version)
    }
}

/// The form in which a client wants objects.
pub(super) fn table(asked: &Asked, kind: Kind) -> Result<Option<Table>, Refusal> {
    Table::wanted(kind, &asked.accept, asked.parameter("includeObject"))
}

/// Answers a request for objects.
pub(super) async fn answer(cluster: &Arc<Cluster>, asked: &Asked, place: &ObjectPlace, head: Parts) -> Result<Response, Refusal> {
    let Some(name) = &place.name else { return collection(cluster, asked, place) };
    let key = Key::new(place.kind, place.namespace.as_deref().unwrap_or_default(), name);
    match place.part.as_deref() {
        None => one(cluster, asked, place, &key),
        Some("status") => status(cluster, asked, &key),
        Some("scale") => scale(cluster, asked, &key),
        Some("log") => logs::answer(cluster, asked, &key).await,
        Some("exec") => exec::answer(cluster, asked, &key, head).await,
        Some("eviction") => eviction::answer(cluster, asked, &key),
        Some(_) => Err(Refusal::no_such_path()),
    }
}

fn collection(cluster: &Arc<Cluster>, asked: &Asked, place: &ObjectPlace) -> Result<Response, Refusal> {
    let wanted = Wanted::read(asked, place)?;
    let facts = place.kind.facts();
    match asked.method {
        Method::GET if asked.flag("watch") => watching::answer(cluster, asked, wanted),
        Method::GET => {
            let (objects, version) = wanted.list(cluster);
            if let Some(table) = table(asked, place.kind)? {
                return Ok(json_response(StatusCode::OK, &table.of(objects.iter().map(|object| &**object), &version.to_string())));
            }
            let list = json!({
                "kind": format!("{}List", facts.name), "apiVersion": place.kind.api_version(),
                "metadata": { "resourceVersion": version.to_string() },
                "items": objects.iter().map(|object| &**object).collect::<Vec<_>>(),
            });
            Ok(json_response(StatusCode::OK, &list))
        }
        Method::POST => {
            let mut object = asked.object()?;
            of_kind(place.kind, &object)?;
            check_fields(asked, place.kind, &object)?;
            in_namespace(place, &mut object)?;
            let made = cluster.store.create(place.kind, object, asked.is_dry_run())?;
            Ok(json_response(StatusCode::CREATED, &made))
        }
        Method::DELETE => {
            let how = deletion(asked)?;
            let (objects, version) = wanted.list(cluster);
            for object in &objects {
                // Gone in the meantime is as good as deleted.
                match cluster.store.delete(&Key::of(place.kind, object), &how) {
                    Err(refusal) if refusal.code != 404 => return Err(refusal),
                    _ => {}
                }
            }
            let list = json!({
                "kind": format!("{}List", facts.name), "apiVersion": place.kind.api_version(),
                "metadata": { "resourceVersion": version.to_string() },
                "items": objects.iter().map(|object| &**object).collect::<Vec<_>>(),
            });
            Ok(json_response(StatusCode::OK, &list))
        }
        _ => Err(Refusal::method_not_allowed()),
    }
}

fn one(cluster: &Arc<Cluster>, asked: &Asked, place: &ObjectPlace, key: &Key) -> Result<Response, Refusal> {
    let store = &cluster.store;
    let is_stuck = cluster.is_stuck(key);
    if let Some(pretended) = pretended(cluster, asked, key) {
        return pretended;
    }
    match asked.method {
        Method::GET if asked.flag("watch") => watching::answer(cluster, asked, Wanted::read(asked, place)?),
        Method::GET => {
            let object = store.get(key.kind, &key.namespace, &key.name).ok_or_else(|| Refusal::not_found(key.kind, &key.name))?;
            match table(asked, key.kind)? {
                Some(table) => Ok(json_response(StatusCode::OK, &table.of([&*object], object.text("/metadata/resourceVersion")))),
                None => Ok(json_response(StatusCode::OK, &object)),
            }
        }
        Method::PUT => {
            let mut body = asked.object()?;
            of_kind(key.kind, &body)?;
            check_fields(asked, key.kind, &body)?;
            in_namespace(place, &mut body)?;
            let is_meant_anew = key.kind == Kind::Lease && body.text("/metadata/uid").is_empty();
            if is_meant_anew && store.get(key.kind, &key.namespace, &key.name).is_none() {
                // Leases alone may be made by an update, as Kubernetes has it; not one that is to be the one with this uid.
                return Ok(json_response(StatusCode::CREATED, &*store.create(key.kind, body, asked.is_dry_run())?));
            }
            let object = store.update(key, Part::Main, asked.is_dry_run(), |object| {
                *object = body;
                refuse_uncordon(is_stuck, object)
            })?;
            Ok(json_response(StatusCode::OK, &object))
        }
        Method::PATCH => {
            let (style, change) = read_patch(asked)?;
            if style == Style::Apply && store.get(key.kind, &key.namespace, &key.name).is_none() {
                let mut object = change;
                of_kind(key.kind, &object)?;
                check_fields(asked, key.kind, &object)?;
                in_namespace(place, &mut object)?;
                object::default(&mut object, "/metadata/name", key.name.as_str());
                return Ok(json_response(StatusCode::CREATED, &*store.create(key.kind, object, asked.is_dry_run())?));
            }
            let object = store.update(key, Part::Main, asked.is_dry_run(), |object| {
                patch_object(style, object, &change)?;
                check_fields(asked, key.kind, object)?;
                refuse_uncordon(is_stuck, object)
            })?;
            Ok(json_response(StatusCode::OK, &object))
        }
        Method::DELETE => match store.delete(key, &deletion(asked)?)? {
            Deleted::Going(object) => Ok(json_response(StatusCode::OK, &object)),
            Deleted::Gone(object) if key.kind == Kind::Pod => Ok(json_response(StatusCode::OK, &object)),
            Deleted::Gone(object) => {
                let facts = key.kind.facts();
                let mut details = json!({ "name": key.name, "kind": facts.plural, "uid": object.uid() });
                if !facts.group.is_empty() {
                    details["group"] = facts.group.into();
                }
                let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details });
                Ok(json_response(StatusCode::OK, &status))
            }
        },
        _ => Err(Refusal::method_not_allowed()),
    }
}

/// What a sandbox that only pretends answers to a change that breaks something: what it would have been.
fn pretended(cluster: &Cluster, asked: &Asked, key: &Key) -> Option<Result<Response, Refusal>> {
    if cluster.defect != Some(Defect::FaultsDoNothing) {
        return None;
    }
    let now = cluster.store.get(key.kind, &key.namespace, &key.name)?;
    match asked.method {
        Method::DELETE if key.kind == Kind::Pod => Some(Ok(json_response(StatusCode::OK, &now))),
        Method::PATCH if matches!(key.kind, Kind::Node | Kind::Deployment | Kind::StatefulSet | Kind::Service) => {
            let (style, change) = read_patch(asked).ok()?;
            let mut object = (*now).clone();
            if style == Style::Apply || patch_object(style, &mut object, &change).is_err() {
                return None;
            }
            Some(Ok(json_response(StatusCode::OK, &object)))
        }
        _ => None,
    }
}

fn status(cluster: &Cluster, asked: &Asked, key: &Key) -> Result<Response, Refusal> {
    let store = &cluster.store;
    let object = match asked.method {
        Method::GET => store.get(key.kind, &key.namespace, &key.name).ok_or_else(|| Refusal::not_found(key.kind, &key.name))?,
        Method::PUT => {
            let body = asked.object()?;
            of_kind(key.kind, &body)?;
            store.update(key, Part::Status, asked.is_dry_run(), |object| {
                *object = body;
                Ok(())
            })?
        }
        Method::PATCH => {
            let (style, change) = read_patch(asked)?;
            store.update(key, Part::Status, asked.is_dry_run(), |object| patch_object(style, object, &change))?
        }
        _ => return Err(Refusal::method_not_allowed()),
    };
    Ok(json_response(StatusCode::OK, &object))
}

/// The `Scale` of a Deployment or `ReplicaSet`: how many there are to be and how many there are.
fn scale(cluster: &Cluster, asked: &Asked, key: &Key) -> Result<Response, Refusal> {
    let store = &cluster.store;
    let found = || store.get(key.kind, &key.namespace, &key.name).ok_or_else(|| Refusal::not_found(key.kind, &key.name));
    let object = match asked.method {
        Method::GET => found()?,
        Method::PUT | Method::PATCH => {
            let mut scale = scale_of(&*found()?);
            if asked.method == Method::PUT {
                scale = asked.object()?;
            } else {
                let (style, change) = read_patch(asked)?;
                patch_object(style, &mut scale, &change)?;
            }
            let replicas = scale.int("/spec/replicas").unwrap_or_default();
            store.update(key, Part::Main, asked.is_dry_run(), |object| {
                if scale.has("/metadata/resourceVersion") && !scale.text("/metadata/resourceVersion").is_empty() {
                    object::set(object, "/metadata/resourceVersion", scale.text("/metadata/resourceVersion"));
                }
                object::set(object, "/spec/replicas", replicas);
                Ok(())
            })?
        }
        _ => return Err(Refusal::method_not_allowed()),
    };
    Ok(json_response(StatusCode::OK, &scale_of(&object)))
}

fn scale_of(object: &Value) -> Value {
    let labels = object.pointer("/spec/selector/matchLabels").and_then(Value::as_object).into_iter().flatten();
    let selector: Vec<_> = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        metadata[field] = object["metadata"][field].clone();
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": { "replicas": object.int("/spec/replicas").unwrap_or_default() },
        "status": { "replicas": object.int("/status/replicas").unwrap_or_default(), "selector": selector.join(",") },
    })
}

fn read_patch(asked: &Asked) -> Result<(Style, Value), Refusal> {
    let style = Style::of(&asked.content_type).ok_or_else(|| Refusal::unsupported_media(&asked.content_type))?;
    let change = asked.json()?;
    if style != Style::Json && !change.is_object() {
        return Err(Refusal::bad_request("a patch of this kind must be a JSON object"));
    }
    Ok((style, change))
}

fn patch_object(style: Style, object: &mut Value, change: &Value) -> Result<(), Refusal> {
    // A version in the patch is a precondition; without one, the patch is for whatever is there now.
    patch::apply(style, object, change)?;
    if object.is_object() { Ok(()) } else { Err(Refusal::bad_request("the patch leaves no object")) }
}

/// Refuses unknown fields, if the client wants that.
fn check_fields(asked: &Asked, kind: Kind, object: &Value) -> Result<(), Refusal> {
    if asked.parameter("fieldValidation") == Some("Strict") { admission::check_fields(kind, object) } else { Ok(()) }
}

fn of_kind(kind: Kind, object: &Value) -> Result<(), Refusal> {
    for (field, expected) in [("kind", kind.facts().name.to_owned()), ("apiVersion", kind.api_version())] {
        let found = object[field].as_str().unwrap_or_default();
        if !found.is_empty() && found != expected {
            return Err(Refusal::bad_request(format!("the `{field}` of the object is `{found}`; this path takes `{expected}`")));
        }
    }
    Ok(())
}

fn in_namespace(place: &ObjectPlace, object: &mut Value) -> Result<(), Refusal> {
    if !place.kind.facts().namespaced {
        object::remove(object, "/metadata/namespace");
        return Ok(());
    }
    let Some(namespace) = &place.namespace else {
        return Err(Refusal::method_not_allowed());
    };
    let found = object.namespace();
    if !found.is_empty() && found != namespace {
        let why =
            format!("the namespace of the provided object does not match the namespace sent on the request (`{found}`, `{namespace}`)");
        return Err(Refusal::bad_request(why));
    }
    object::set(object, "/metadata/namespace", namespace.as_str());
    Ok(())
}

fn deletion(asked: &Asked) -> Result<Deletion, Refusal> {
    let mut how = deletion_options(&asked.json()?)?;
    if let Some(grace) = asked.number("gracePeriodSeconds")? {
        how.grace = Some(grace);
    }
    if let Some(policy) = asked.parameter("propagationPolicy") {
        how.dependents = dependents(policy)?;
    }
    how.dry_run |= asked.is_dry_run();
    check_grace(how.grace)?;
    Ok(how)
}

fn check_grace(grace: Option<i64>) -> Result<(), Refusal> {
    if grace.is_some_and(|grace| grace < 0) {
        return Err(Refusal::unprocessable("gracePeriodSeconds must be greater than or equal to 0"));
    }
    Ok(())
}

/// Reads the options of a deletion.
pub(super) fn deletion_options(options: &Value) -> Result<Deletion, Refusal> {
    if !options.is_object() && !options.is_null() {
        return Err(Refusal::bad_request("the options of a deletion must be a JSON object"));
    }
    let text = |at: &str| Some(options.text(at).to_owned()).filter(|text| !text.is_empty());
    let dependents = if options.flag("/orphanDependents") {
        Dependents::Orphan
    } else {
        text("/propagationPolicy").map_or(Ok(Dependents::Background), |policy| dependents(&policy))?
    };
    let grace = options.int("/gracePeriodSeconds");
    check_grace(grace)?;
    Ok(Deletion {
        grace,
        uid: text("/preconditions/uid"),
        version: text("/preconditions/resourceVersion"),
        dependents,
        dry_run: options.list("/dryRun").iter().any(|mode| mode == "All"),
    })
}

fn dependents(policy: &str) -> Result<Dependents, Refusal> {
    match policy {
        "Background" => Ok(Dependents::Background),
        "Foreground" => Ok(Dependents::Foreground),
        "Orphan" => Ok(Dependents::Orphan),
        other => Err(Refusal::unprocessable(format!("propagationPolicy `{other}` is not one of Background, Foreground, Orphan"))),
    }
}
