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

/// The journal of a run.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    next: u64,
    pending: watch::Sender<Vec<(u64, Undo)>>,
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
    pub fn begin(&mut self, undo: Undo) -> Result<(), JournalError> {
        let entry = self.next;
        self.next += 1;
        self.write(&Line { entry, state: State::Pending, undo: undo.clone() })?;
        self.pending.send_modify(|pending| pending.push((entry, undo)));
        Ok(())
    }

    /// The entry that is to be undone next: the last one.
    #[must_use]
    pub fn last(&self) -> Option<(u64, Undo)> {
        self.pending.borrow().last().cloned()
    }

    /// The entries that are still pending, the one to be undone first in front.
    #[must_use]
    pub fn pending(&self) -> Vec<(u64, Undo)> {
        self.pending.borrow().iter().rev().cloned().collect()
    }

    /// Strikes an entry that was undone, and seen to be.
    pub fn end(&mut self, entry: u64) -> Result<(), JournalError> {
        let undo = self.pending.borrow().iter().find(|(pending, _)| *pending == entry).map(|(_, undo)| undo.clone());
        if let Some(undo) = undo {
            self.write(&Line { entry, state: State::Done, undo })?;
            self.pending.send_modify(|pending| pending.retain(|(pending, _)| *pending != entry));
        }
        Ok(())
    }

    /// What is pending, for one who must name it while the run is busy (the second Ctrl-C).
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Vec<(u64, Undo)>> {
        self.pending.subscribe()
    }

    fn write(&mut self, line: &Line) -> Result<(), JournalError> {
        let mut text = serde_json::to_string(line).expect("a line of the journal has a JSON form");
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
        journal.begin(uncordon("a")).unwrap();
        journal.begin(uncordon("b")).unwrap();
        assert_eq!(lines(&path).len(), 2);
        assert_eq!(journal.last(), Some((1, uncordon("b"))));
        journal.end(1).unwrap();
        assert_eq!(journal.pending(), [(0, uncordon("a"))]);
        assert_eq!(lines(&path)[2], Line { entry: 1, state: State::Done, undo: uncordon("b") });
    }

    #[test]
    fn what_could_not_be_undone_stays_pending() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(&folder.path().join("journal.ndjson")).unwrap();
        journal.begin(uncordon("a")).unwrap();
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
