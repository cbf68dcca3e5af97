//! The Kubernetes API over HTTPS.
//!
//! A request passes through: the token ([`authorise`]), its path ([`path`]), and then one of
//! - [`discovery`]: what is served here, for `kubectl` and other clients that ask first;
//! - [`objects`]: get, list, create, update, patch, delete, and the parts of objects that have a path of their own;
//! - [`watching`]: a stream of changes;
//! - [`logs`]: what a container said; [`exec`]: a command in it; [`eviction`]: a deletion that asks first;
//! - [`processes`], [`power`] and [`hurts`]: what Kubernetes lacks, under `/comeback/v1`.
//!
//! Every refusal is a Kubernetes `Status`. Bodies are JSON. Who asks for a [`table`] of objects gets one.

mod discovery;
mod eviction;
mod exec;
mod hurts;
mod logs;
mod objects;
mod path;
mod power;
mod processes;
mod table;
mod watching;

pub(super) use self::{
    discovery::{VERSION, architecture},
    processes::role,
};

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Query, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use subtle::ConstantTimeEq;

use self::path::Place;
use super::{Cluster, object::Look, refusal::Refusal};

/// The largest body that is read. Kubernetes has 3 MiB.
const LARGEST_BODY: usize = 3 * 1024 * 1024;

/// What the API needs to answer.
#[derive(Clone)]
pub(super) struct Api {
    /// The cluster behind it.
    pub(super) cluster: Arc<Cluster>,
    /// What a client must send.
    pub(super) token: Arc<str>,
}

/// One request, read.
struct Asked {
    method: Method,
    query: Vec<(String, String)>,
    content_type: String,
    /// The forms of an answer that the client takes, the best first.
    accept: String,
    body: Bytes,
}

impl Asked {
    /// The parameter of that name, if it says anything.
    fn parameter(&self, name: &str) -> Option<&str> {
        self.first(name).filter(|value| !value.is_empty())
    }

    /// The first value of that name, as it is.
    fn first(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of that name.
    fn all(&self, name: &str) -> Vec<String> {
        self.query.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
    }

    /// Whether a boolean parameter is set.
    fn flag(&self, name: &str) -> bool {
        self.first(name).is_some_and(|value| value == "true" || value == "1" || value.is_empty())
    }

    /// A number, if the parameter is there.
    fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let wrong = |value| Refusal::bad_request(format!("the parameter `{name}` is `{value}`, which is not a number"));
        self.parameter(name).map(|value| value.parse().map_err(|_| wrong(value))).transpose()
    }

    /// Whether the request is only to be checked.
    fn is_dry_run(&self) -> bool {
        self.parameter("dryRun") == Some("All")
    }

    /// The body as JSON; null if there is none.
    fn json(&self) -> Result<Value, Refusal> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        if self.content_type.contains("protobuf") || self.content_type.contains("cbor") {
            return Err(Refusal::unsupported_media(&self.content_type));
        }
        serde_json::from_slice(&self.body).map_err(|error| Refusal::bad_request(format!("could not read the body as JSON: {error}")))
    }

    /// The body as a JSON object.
    fn object(&self) -> Result<Value, Refusal> {
        let body = self.json()?;
        if body.is_object() { Ok(body) } else { Err(Refusal::bad_request("the body of the request must be a JSON object")) }
    }
}

/// The service that [`axum::serve`] serves.
pub(super) fn router(api: Api) -> Router {
    Router::new().fallback(answer).with_state(api)
}

async fn answer(State(api): State<Api>, request: Request) -> Response {
    match handle(&api, request).await {
        Ok(response) => response,
        Err(refusal) => refused(&refusal),
    }
}

async fn handle(api: &Api, request: Request) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    authorise(&head.headers, &api.token)?;
    let body =
        to_bytes(body, LARGEST_BODY).await.map_err(|_| Refusal::bad_request("the body of the request is too large or was cut off"))?;
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (content_type, accept) = (header(header::CONTENT_TYPE), header(header::ACCEPT));
    let asked = Asked { query: query(&head.uri)?, method: head.method.clone(), content_type, accept, body };
    let cluster = &api.cluster;
    let place = path::read(head.uri.path())?;
    let is_ours = matches!(place, Place::Container(_) | Place::Power(_) | Place::Hurts);
    if !is_ours && !cluster.hurts.api_answers() {
        return Err(Refusal::unavailable("the API server is stopped: a fault is in force"));
    }
    match place {
        Place::Health => Ok("ok".into_response()),
        Place::Discovery(document) => discovery::answer(&asked, &document),
        Place::Objects(place) => objects::answer(cluster, &asked, &place, head).await,
        Place::Container(place) => processes::answer(cluster, asked, place).await,
        Place::Power(node) => power::answer(cluster, &asked, &node).await,
        Place::Hurts => hurts::answer(cluster, &asked).await,
    }
}

fn query(uri: &Uri) -> Result<Vec<(String, String)>, Refusal> {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|error| Refusal::bad_request(error.to_string()))?;
    Ok(pairs.0)
}

/// The container of a pod that a client means: the one that it names, or the only one.
fn only_container<'a>(pod: &'a Value, wanted: Option<&'a str>) -> Result<&'a str, Refusal> {
    let containers: Vec<_> = pod.list("/spec/containers").iter().map(|container| container.text("/name")).collect();
    match (wanted, containers.as_slice()) {
        (Some(wanted), known) if known.contains(&wanted) => Ok(wanted),
        (Some(wanted), _) => Err(Refusal::bad_request(format!("container {wanted} is not valid for pod {}", pod.name()))),
        (None, [only]) => Ok(only),
        (None, known) => {
            let known = known.join(" ");
            Err(Refusal::bad_request(format!("a container name must be specified for pod {}, choose one of: [{known}]", pod.name())))
        }
    }
}

/// Lets in who knows the token. Comparing takes the same time whatever was sent.
fn authorise(headers: &HeaderMap, token: &str) -> Result<(), Refusal> {
    let sent = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let wanted = format!("Bearer {token}");
    if bool::from(sent.ct_eq(wanted.as_bytes())) { Ok(()) } else { Err(Refusal::unauthorized()) }
}

fn refused(refusal: &Refusal) -> Response {
    let code = StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(code, &refusal.status());
    if let Some(seconds) = refusal.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// A JSON answer.
fn json_response(code: StatusCode, body: &Value) -> Response {
    (code, [(header::CONTENT_TYPE, "application/json")], Body::from(body.to_string())).into_response()
}
