//! The undo journal: what will have to be put right, written down before it is broken.
//!
//! One JSON object a line, on disk before [`Journal::begin`] returns. Entries are undone last in, first out; one that could not be undone
//! stays pending, so that it is named at the end and a later process finds it.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Undo;

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    entry: u64,
    trial: u32,
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

/// The journal could not be written, so nothing may be broken.
#[derive(Debug, thiserror::Error)]
#[error("could not write the undo journal `{}`", .path.display())]
pub struct JournalError {
    path: PathBuf,
    source: io::Error,
}

/// What will have to be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the journal.
    pub number: u64,
    /// The trial that broke it.
    pub trial: u32,
    /// How it is put right.
    pub undo: Undo,
}

/// The journal of a run.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    next: u64,
    pending: watch::Sender<Vec<Entry>>,
}

impl Journal {
    /// Begins an empty one.
    ///
    /// # Errors
    /// If the file cannot be created, or is there already.
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        let file = File::create_new(path).map_err(|source| JournalError { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file, next: 0, pending: watch::channel(Vec::new()).0 })
    }

    /// Writes down what will have to be undone. Only after this may it be broken.
    pub fn begin(&mut self, trial: u32, undo: Undo) -> Result<(), JournalError> {
        let entry = Entry { number: self.next, trial, undo };
        self.next += 1;
        self.write(&entry, State::Pending)?;
        self.pending.send_modify(|pending| pending.push(entry));
        Ok(())
    }

    /// The entries that are still pending, the one to be undone first in front: the last.
    #[must_use]
    pub fn pending(&self) -> Vec<Entry> {
        self.pending.borrow().iter().rev().cloned().collect()
    }

    /// Strikes an entry that was undone, and seen to be.
    pub fn end(&mut self, number: u64) -> Result<(), JournalError> {
        let entry = self.pending.borrow().iter().find(|entry| entry.number == number).cloned();
        if let Some(entry) = entry {
            self.write(&entry, State::Done)?;
            self.pending.send_modify(|pending| pending.retain(|entry| entry.number != number));
        }
        Ok(())
    }

    /// What is pending, for one who must name it while the run is busy (the second Ctrl-C).
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Vec<Entry>> {
        self.pending.subscribe()
    }

    fn write(&mut self, entry: &Entry, state: State) -> Result<(), JournalError> {
        let line = Line { entry: entry.number, trial: entry.trial, state, undo: entry.undo.clone() };
        let mut text = serde_json::to_string(&line).expect("a line of the journal has a JSON form");
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|source| JournalError { path: self.path.clone(), source })
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

    #[test]
    fn what_is_begun_is_on_disk_and_undone_last_in_first_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.ndjson");
        let mut journal = Journal::create(&path).unwrap();
        journal.begin(1, uncordon("a")).unwrap();
        journal.begin(2, uncordon("b")).unwrap();
        assert_eq!(lines(&path).len(), 2);
        let [a, b] = [(0, 1, "a"), (1, 2, "b")].map(|(number, trial, node)| Entry { number, trial, undo: uncordon(node) });
        assert_eq!(journal.pending(), [b, a.clone()]);
        journal.end(1).unwrap();
        assert_eq!(journal.pending(), [a]);
        assert_eq!(lines(&path)[2], Line { entry: 1, trial: 2, state: State::Done, undo: uncordon("b") });
    }

    #[test]
    fn what_could_not_be_undone_stays_pending() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(&folder.path().join("journal.ndjson")).unwrap();
        journal.begin(1, uncordon("a")).unwrap();
        assert_eq!(journal.watch().borrow().len(), 1);
        journal.end(7).unwrap();
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
