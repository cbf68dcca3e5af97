//! Watches: a stream of changes, one JSON line each.
//!
//! With selectors, a watch is told of a *set*: an object that begins to match is `ADDED` to it, one that no longer matches is `DELETED` from it,
//! whatever happened to the object itself.
//!
//! A client that allows bookmarks is told every minute, divided by the speed, up to which version it has been told everything, so that it can go on from there
//! although nothing that it wants has changed for long. A watch from further back than is remembered gets one event with the code 410: list again.

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
        Cluster,
        object::{self, Look},
        refusal::Refusal,
        store::{Change, What},
    },
    Asked,
    objects::{Wanted, table},
    table::Table,
};

/// How often a watch is bookmarked.
const BOOKMARK: Duration = Duration::from_mins(1);
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
    /// When the next bookmark is due, if the client wants any.
    bookmark: Option<Instant>,
    /// The form of the objects.
    form: Form,
    over: bool,
}

/// The form in which a watch sends objects.
struct Form {
    table: Option<Table>,
    /// Whether the head of the table was sent.
    has_head: bool,
}

impl Form {
    /// One event.
    fn line(&mut self, what: &str, object: &Value) -> Bytes {
        let Some(table) = self.table else { return line(what, object) };
        let version = object.text("/metadata/resourceVersion");
        let has_head = std::mem::replace(&mut self.has_head, true);
        let table = if has_head { table.rows([object], version) } else { table.of([object], version) };
        line(what, &table)
    }
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
        bookmark: asked.flag("allowWatchBookmarks").then(|| Instant::now() + cluster.speed.period(BOOKMARK)),
        form: Form { table: table(asked, wanted.kind)?, has_head: false },
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
            for object in &objects {
                let line = watching.form.line("ADDED", object);
                watching.ready.push_back(line);
            }
            watching.told = version;
            if initial {
                let line = watching.bookmark(true);
                watching.ready.push_back(line);
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
            match self.cluster.store.changes_after(self.wanted.kind, self.told) {
                Err(refusal) => {
                    self.over = true;
                    return Some(line("ERROR", &refusal.status()));
                }
                Ok((changes, version)) => {
                    for change in &changes {
                        let line = self.of_interest(change);
                        self.ready.extend(line);
                    }
                    self.told = version;
                }
            }
            if !self.ready.is_empty() {
                continue;
            }
            tokio::select! {
                biased;
                () = self.cluster.stopping.cancelled() => return None,
                () = self.cluster.hurts.until_api_stops() => return None,
                () = tokio::time::sleep_until(self.ends) => {
                    self.over = true;
                    return self.bookmark.is_some().then(|| self.bookmark(false));
                }
                () = tokio::time::sleep_until(self.bookmark.unwrap_or(self.ends)), if self.bookmark.is_some() => {
                    self.bookmark = Some(Instant::now() + self.cluster.speed.period(BOOKMARK));
                    return Some(self.bookmark(false));
                }
                changed = self.latest.changed() => if changed.is_err() { return None },
            }
        }
    }

    fn of_interest(&mut self, change: &Change) -> Option<Bytes> {
        let was = change.previous.as_ref().is_some_and(|previous| self.wanted.includes(previous));
        let is = change.what != What::Deleted && self.wanted.includes(&change.object);
        match (was, is) {
            (false, false) => None,
            (false, true) => Some(self.form.line("ADDED", &change.object)),
            (true, true) => Some(self.form.line("MODIFIED", &change.object)),
            (true, false) => Some(self.form.line("DELETED", &change.object)),
        }
    }

    /// An event that says only up to which version everything was told.
    fn bookmark(&self, initial: bool) -> Bytes {
        let kind = self.wanted.kind;
        let mut object = json!({
            "kind": kind.facts().name, "apiVersion": kind.api_version(),
            "metadata": { "resourceVersion": self.told.to_string(), "creationTimestamp": null },
        });
        if initial {
            object::set(&mut object, "/metadata/annotations/k8s.io~1initial-events-end", "true");
        }
        match self.form.table {
            None => line("BOOKMARK", &object),
            Some(table) => line("BOOKMARK", &table.bookmark(&object)),
        }
    }
}

fn line(what: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({ "type": what, "object": object })).into()
}
