//! The undo journal: what will have to be put right, written down before it is broken.
//!
//! It stands in two places. The file in the folder of the run has one JSON object a line, on disk before [`Journal::begin`] returns. The
//! `ConfigMap` in the cluster ([`Mirror`]) has one key an entry, so that `comeback heal` puts things right from any machine; it is written
//! before [`Journal::begin`] returns too, so what cannot be written there is not broken. Entries are undone last in, first out; one that
//! could not be undone stays pending, so that it is named at the end and a later process finds it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

use super::Undo;
use crate::cluster::{Cluster, ClusterError};

/// The label that says that a `ConfigMap` is a journal.
pub const JOURNAL_LABEL: &str = "comeback.dev/journal";
/// The label that names the run that made an object.
pub const RUN_LABEL: &str = "comeback.dev/run";

const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    entry: u64,
    trial: u32,
    #[serde(default)]
    fault: usize,
    state: State,
    #[serde(flatten)]
    undo: Undo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Pending,
    Done,
}

/// An entry as it stands in the cluster.
#[derive(Serialize, Deserialize)]
struct Pending {
    trial: u32,
    #[serde(default)]
    fault: usize,
    #[serde(flatten)]
    undo: Undo,
}

/// The journal could not be written, so nothing may be broken.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file.
    #[error("could not write the undo journal `{}`", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The `ConfigMap`.
    #[error("the undo journal cannot be kept in the cluster, so nothing is broken")]
    Mirror(#[source] ClusterError),
    /// The `ConfigMap` of a run that has nothing left to undo.
    #[error(
        "the undo journal `{name}` in namespace `{namespace}` has nothing pending, and could not be removed (hint: `comeback heal` does)"
    )]
    Close {
        /// Its name.
        name: String,
        /// Where.
        namespace: String,
        /// Why.
        source: ClusterError,
    },
}

/// What will have to be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the journal.
    pub number: u64,
    /// The trial that broke it.
    pub trial: u32,
    /// Which fault of the scenario did, from 0.
    pub fault: usize,
    /// How it is put right.
    pub undo: Undo,
}

/// The journal of a run.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    book: Mutex<Book>,
    pending: watch::Sender<Vec<Entry>>,
}

#[derive(Debug)]
struct Book {
    file: File,
    next: u64,
    mirror: Option<Mirror>,
}

impl Journal {
    /// Begins an empty one, in a file alone.
    ///
    /// # Errors
    /// If the file cannot be created, or is there already.
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        let file = File::create_new(path).map_err(|source| JournalError::File { path: path.to_owned(), source })?;
        let book = Mutex::new(Book { file, next: 0, mirror: None });
        Ok(Self { path: path.to_owned(), book, pending: watch::channel(Vec::new()).0 })
    }

    /// Keeps it in this cluster too from now on, before anything is broken there.
    pub async fn keep_in(&self, cluster: &Cluster, run: &str) {
        self.book.lock().await.mirror = Some(Mirror::new(cluster.clone(), &cluster.target.namespace, run));
    }

    /// Writes down what will have to be undone. Only after this may it be broken.
    ///
    /// # Errors
    /// If either place cannot be written; then it must not be broken.
    pub async fn begin(&self, trial: u32, fault: usize, undo: Undo) -> Result<(), JournalError> {
        let mut book = self.book.lock().await;
        let entry = Entry { number: book.next, trial, fault, undo };
        book.next += 1;
        self.write(&mut book, &entry, State::Pending)?;
        if let Some(mirror) = &book.mirror
            && let Err(error) = mirror.add(&entry).await
        {
            // It will not be broken, so nothing is pending. What may stand in the cluster all the same undoes nothing that is not broken.
            self.write(&mut book, &entry, State::Done)?;
            return Err(JournalError::Mirror(error));
        }
        self.pending.send_modify(|pending| pending.push(entry));
        Ok(())
    }

    /// The entries that are still pending, the one to be undone first in front: the last.
    #[must_use]
    pub fn pending(&self) -> Vec<Entry> {
        self.pending.borrow().iter().rev().cloned().collect()
    }

    /// Strikes an entry that was undone, and seen to be. In the cluster that is tried: an entry that stands there for longer is undone once
    /// more by whoever finds it, which changes nothing, and goes with the rest in [`Journal::close`].
    pub async fn end(&self, number: u64) -> Result<(), JournalError> {
        let mut book = self.book.lock().await;
        let entry = self.pending.borrow().iter().find(|entry| entry.number == number).cloned();
        if let Some(entry) = entry {
            self.write(&mut book, &entry, State::Done)?;
            self.pending.send_modify(|pending| pending.retain(|entry| entry.number != number));
            if let Some(mirror) = &book.mirror {
                let _ = mirror.strike(&key(number)).await;
            }
        }
        Ok(())
    }

    /// Ends the journal of a run that breaks nothing more: what stands in the cluster is removed, unless something is pending.
    pub async fn close(&self) -> Result<(), JournalError> {
        let book = self.book.lock().await;
        match &book.mirror {
            Some(mirror) if self.pending.borrow().is_empty() => mirror.remove().await.map_err(|source| {
                let (name, namespace) = (mirror.name.clone(), mirror.namespace.clone());
                JournalError::Close { name, namespace, source }
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// What is pending, for one who must name it while the run is busy (the second Ctrl-C).
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Vec<Entry>> {
        self.pending.subscribe()
    }

    fn write(&self, book: &mut Book, entry: &Entry, state: State) -> Result<(), JournalError> {
        let line = Line { entry: entry.number, trial: entry.trial, fault: entry.fault, state, undo: entry.undo.clone() };
        let mut text = serde_json::to_string(&line).expect("a line of the journal has a JSON form");
        text.push('\n');
        book.file
            .write_all(text.as_bytes())
            .and_then(|()| book.file.sync_data())
            .map_err(|source| JournalError::File { path: self.path.clone(), source })
    }
}

/// The key of an entry: sorted as text they are in order.
fn key(number: u64) -> String {
    format!("{number:06}")
}

/// A journal as it stands in a cluster.
#[derive(Clone, Debug)]
pub struct Mirror {
    cluster: Cluster,
    namespace: String,
    name: String,
    /// The run whose journal it is.
    pub run: String,
    /// When it was made, as the API server tells it.
    made: String,
    entries: BTreeMap<String, String>,
}

impl Mirror {
    fn new(cluster: Cluster, namespace: &str, run: &str) -> Self {
        let (name, namespace) = (format!("comeback-journal-{run}"), namespace.to_owned());
        Self { cluster, namespace, name, run: run.to_owned(), made: String::new(), entries: BTreeMap::new() }
    }

    /// All journals that stand in this cluster, in every namespace; the youngest first, because it was written on top of the others.
    pub async fn all(cluster: &Cluster) -> Result<Vec<Self>, ClusterError> {
        let params = ListParams::default().labels(&format!("{JOURNAL_LABEL}=true"));
        let found = cluster.call("list the undo journals", cluster.all::<ConfigMap>().list(&params)).await?;
        let mut journals: Vec<Self> = found
            .items
            .into_iter()
            .map(|map| Self {
                cluster: cluster.clone(),
                namespace: map.metadata.namespace.unwrap_or_default(),
                name: map.metadata.name.unwrap_or_default(),
                run: map.metadata.labels.and_then(|mut labels| labels.remove(RUN_LABEL)).unwrap_or_default(),
                made: map.metadata.creation_timestamp.map(|stamp| stamp.0.to_string()).unwrap_or_default(),
                entries: map.data.unwrap_or_default(),
            })
            .collect();
        journals.sort_by(|a, b| (&b.made, &b.name).cmp(&(&a.made, &a.name)));
        Ok(journals)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What is pending, with the keys to strike it by, the one to be undone first in front.
    ///
    /// # Errors
    /// In words: an entry that a younger version of this program has written, or that somebody has changed.
    #[must_use]
    pub fn pending(&self) -> Vec<(String, Result<Undo, String>)> {
        let read = |text: &str| serde_json::from_str::<Pending>(text).map(|value| value.undo);
        let entries = self.entries.iter().rev();
        entries
            .map(|(key, text)| (key.clone(), read(text).map_err(|error| format!("entry `{key}` cannot be read ({error}): {text}"))))
            .collect()
    }

    /// Writes an entry; only after this may it be broken.
    async fn add(&self, entry: &Entry) -> Result<(), ClusterError> {
        let value = Pending { trial: entry.trial, fault: entry.fault, undo: entry.undo.clone() };
        let text = serde_json::to_string(&value).expect("an entry of the journal has a JSON form");
        let data = json!({ key(entry.number): text });
        match self.patch(&data).await {
            Err(error) if error.status() == Some(NOT_FOUND) => match self.create(&data).await {
                // It came into being in between: a try that was given up on was done after all.
                Err(error) if error.status() == Some(CONFLICT) => self.patch(&data).await,
                created => created,
            },
            patched => patched,
        }
    }

    /// Strikes an entry that was undone. One that is not there any more, somebody else has struck.
    pub async fn strike(&self, key: &str) -> Result<(), ClusterError> {
        match self.patch(&json!({ key: null })).await {
            Err(error) if error.status() == Some(NOT_FOUND) => Ok(()),
            patched => patched,
        }
    }

    /// Removes the journal. That it is not there is no error.
    pub async fn remove(&self) -> Result<(), ClusterError> {
        let what = format!("remove the undo journal `{}` in namespace `{}`", self.name, self.namespace);
        match self.cluster.call(what, self.maps().delete(&self.name, &DeleteParams::default())).await {
            Ok(_) => Ok(()),
            Err(error) if error.status() == Some(NOT_FOUND) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn patch(&self, data: &Value) -> Result<(), ClusterError> {
        let what = format!("write the undo journal `{}` in namespace `{}`", self.name, self.namespace);
        let patch = Patch::Merge(json!({ "data": data }));
        self.cluster.call(what, self.maps().patch(&self.name, &PatchParams::default(), &patch)).await.map(drop)
    }

    async fn create(&self, data: &Value) -> Result<(), ClusterError> {
        let what = format!("create the undo journal `{}` in namespace `{}`", self.name, self.namespace);
        let labels = json!({"app.kubernetes.io/managed-by": "comeback", JOURNAL_LABEL: "true", RUN_LABEL: self.run});
        let map = json!({"metadata": {"name": self.name, "namespace": self.namespace, "labels": labels}, "data": data});
        let map: ConfigMap = serde_json::from_value(map).expect("a journal is a ConfigMap");
        self.cluster.call(what, self.maps().create(&PostParams::default(), &map)).await.map(drop)
    }

    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.cluster.client(), &self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uncordon(node: &str) -> Undo {
        Undo::Uncordon { node: node.into() }
    }

    fn lines(path: &Path) -> Vec<Line> {
        std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_is_begun_is_on_disk_and_undone_last_in_first_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.ndjson");
        let journal = Journal::create(&path).unwrap();
        journal.begin(1, 0, uncordon("a")).await.unwrap();
        journal.begin(2, 0, uncordon("b")).await.unwrap();
        assert_eq!(lines(&path).len(), 2);
        let [a, b] = [(0, 1, "a"), (1, 2, "b")].map(|(number, trial, node)| Entry { number, trial, fault: 0, undo: uncordon(node) });
        assert_eq!(journal.pending(), [b, a.clone()]);
        journal.end(1).await.unwrap();
        assert_eq!(journal.pending(), [a]);
        assert_eq!(lines(&path)[2], Line { entry: 1, trial: 2, fault: 0, state: State::Done, undo: uncordon("b") });
    }

    #[tokio::test]
    async fn what_could_not_be_undone_stays_pending() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::create(&folder.path().join("journal.ndjson")).unwrap();
        journal.begin(1, 0, uncordon("a")).await.unwrap();
        assert_eq!(journal.watch().borrow().len(), 1);
        journal.end(7).await.unwrap();
        assert_eq!(journal.watch().borrow().len(), 1);
    }

    #[test]
    fn a_journal_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.ndjson");
        Journal::create(&path).unwrap();
        assert!(Journal::create(&path).is_err());
    }
}
