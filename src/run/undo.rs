//! An undo, and what the record says of it.

use super::Recorder;
use crate::{
    cluster::{Cluster, chain},
    event::{EventKind, Undone},
    fault::{Entry, Journal},
    platform::Platform,
};

/// Undoes an entry of the journal, and records what became of it as part of the trial that broke it.
pub(super) async fn undo(cluster: &Cluster, platform: &Platform, recorder: &Recorder, journal: &Journal, entry: &Entry) {
    let mut error = entry.undo.perform(cluster, platform).await.err();
    if error.is_none() {
        error = journal.end(entry.number).await.err().map(|error| chain(&error));
    }
    let what = entry.undo.to_string();
    // The call has often the same name.
    let told_twice = format!("could not {what}: ");
    let error = error.map(|error| error.strip_prefix(&told_twice).map(ToOwned::to_owned).unwrap_or(error));
    let undone = Undone { entry: entry.number, what, error };
    recorder.record(Some(entry.trial), EventKind::Undone(undone)).await;
}
