//! Watches: a stream of changes, one JSON line each.
//!
//! With selectors, a watch is told of a *set*: an object that begins to match is `ADDED` to it, one that no longer matches is `DELETED` from it,
//! whatever happened to the object itself.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{
    super::{
        Cluster, object,
        refusal::Refusal,
        store::{Change, What},
    },
    Asked,
    objects::Wanted,
};

/// How long a watch lasts if the client does not say. Kubernetes has 30 to 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(30);

struct Watching {
    cluster: Arc<Cluster>,
    wanted: Wanted,
    latest: watch::Receiver<u64>,
    /// The last version that the client has been told of.
    told: u64,
    /// Lines that are ready to go.
    ready: VecDeque<Bytes>,
    /// When the client wants the stream to end.
    ends: Instant,
    bookmarks: bool,
    over: bool,
}

/// Starts a watch.
pub(super) fn answer(cluster: &Arc<Cluster>, asked: &Asked, wanted: Wanted) -> Result<Response, Refusal> {
    let timeout =
        asked.number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok()).map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let from = asked.parameter("resourceVersion").filter(|version| *version != "0");
    let from =
        from.map(|version| version.parse::<u64>().map_err(|_| Refusal::bad_request(format!("invalid resource version `{version}`"))));
    let initial = asked.flag("sendInitialEvents");
    let mut watching = Watching {
        // The receiver before the list: what changes between the two is found in the history.
        latest: cluster.store.latest(),
        cluster: cluster.clone(),
        told: 0,
        ready: VecDeque::new(),
        ends: Instant::now() + timeout,
        bookmarks: asked.flag("allowWatchBookmarks"),
        over: false,
        wanted,
    };
    match from.transpose()? {
        Some(version) if !initial => {
            watching.told = version;
            if version > cluster.store.version() {
                return Err(Refusal::expired(version, cluster.store.version()));
            }
        }
        _ => {
            let (objects, version) = watching.wanted.list(cluster);
            watching.ready.extend(objects.iter().map(|object| line("ADDED", object)));
            watching.told = version;
            if initial {
                watching.ready.push_back(bookmark(&watching.wanted, version, true));
            }
        }
    }
    let lines = stream::unfold(watching, |mut watching| async move {
        let line = watching.next().await?;
        Some((Ok::<_, std::convert::Infallible>(line), watching))
    });
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response())
}

impl Watching {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.over {
                return None;
            }
            self.latest.mark_unchanged();
            match self.cluster.store.changes_after(self.told) {
                Err(refusal) => {
                    self.over = true;
                    return Some(line("ERROR", &refusal.status()));
                }
                Ok(changes) => {
                    for change in &changes {
                        self.told = change.version;
                        self.ready.extend(self.of_interest(change));
                    }
                }
            }
            if !self.ready.is_empty() {
                continue;
            }
            tokio::select! {
                biased;
                () = self.cluster.stopping.cancelled() => return None,
                () = tokio::time::sleep_until(self.ends) => {
                    self.over = true;
                    if self.bookmarks {
                        return Some(bookmark(&self.wanted, self.told, false));
                    }
                    return None;
                }
                changed = self.latest.changed() => if changed.is_err() { return None },
            }
        }
    }

    fn of_interest(&self, change: &Change) -> Option<Bytes> {
        if change.kind != self.wanted.kind {
            return None;
        }
        let was = change.previous.as_ref().is_some_and(|previous| self.wanted.includes(previous));
        let is = change.what != What::Deleted && self.wanted.includes(&change.object);
        match (was, is) {
            (false, false) => None,
            (false, true) => Some(line("ADDED", &change.object)),
            (true, true) => Some(line("MODIFIED", &change.object)),
            (true, false) => Some(line("DELETED", &change.object)),
        }
    }
}

fn line(what: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({ "type": what, "object": object })).into()
}

fn bookmark(wanted: &Wanted, version: u64, initial: bool) -> Bytes {
    let mut object = json!({
        "kind": wanted.kind.facts().name, "apiVersion": wanted.kind.api_version(),
        "metadata": { "resourceVersion": version.to_string(), "creationTimestamp": null },
    });
    if initial {
        object::set(&mut object, "/metadata/annotations/k8s.io~1initial-events-end", "true");
    }
    line("BOOKMARK", &object)
}
