//! The folder of a run: opened before anything is touched, so that a bad path fails in the first second.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};

use crate::{
    event::Event,
    fault::{Journal, JournalError},
    workload::final_read::RowFile,
};

/// The record of a run.
pub(super) const RECORD: &str = "run.ndjson";
/// The undo journal of a run.
pub(super) const JOURNAL: &str = "journal.ndjson";

/// The folder of a run could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file or folder cannot be created.
    #[error("could not create `{}` (choose another folder with `--out`)", .path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The undo journal cannot be created.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The record cannot be read.
    #[error("could not read the record `{}` (name the folder of a run, such as `reports/…`)", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of the record is not an event.
    #[error("line {line} of the record `{}` is not an event of this version", .path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// The record is empty.
    #[error("the record `{}` is empty: the run ended before its first event", .path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
}

/// The folder of a run, with its files open.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// `run.ndjson`.
    pub record: File,
    /// `journal.ndjson`.
    pub journal: Journal,
    /// `rows-before.csv`.
    pub rows_before: RowFile,
    /// `rows-after.csv`.
    pub rows_after: RowFile,
}

impl Folder {
    /// Makes `<out>/<time>-<name>/` and opens its files. A folder that is there already is never touched: a number is put behind the name.
    pub fn create(out: &Path, started: DateTime<Utc>, name: &str) -> Result<Self, FolderError> {
        let create = |path: &Path| {
            let path = path.to_owned();
            move |source| FolderError::Create { path, source }
        };
        fs::create_dir_all(out).map_err(create(out))?;
        let stem = format!("{}-{name}", started.format("%Y%m%dT%H%M%SZ"));
        let mut path = out.join(&stem);
        let mut number = 2;
        loop {
            match fs::create_dir(&path) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    path = out.join(format!("{stem}-{number}"));
                    number += 1;
                }
                Err(error) => return Err(create(&path)(error)),
            }
        }
        let open = |name: &str| {
            let path = path.join(name);
            File::create_new(&path).map_err(create(&path))
        };
        let rows = |name: &str| {
            let path = path.join(name);
            RowFile::create(&path).map_err(create(&path))
        };
        Ok(Self {
            record: open(RECORD)?,
            journal: Journal::create(&path.join(JOURNAL))?,
            rows_before: rows("rows-before.csv")?,
            rows_after: rows("rows-after.csv")?,
            path,
        })
    }
}

/// Reads the record of a run. A last line that breaks off (the run was killed in the middle of it) is passed over.
pub fn read_record(folder: &Path) -> Result<Vec<Event>, FolderError> {
    let path = folder.join(RECORD);
    let text = fs::read(&path).map_err(|source| FolderError::Read { path: path.clone(), source })?;
    let mut events = Vec::new();
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        match serde_json::from_slice(line) {
            Ok(event) => events.push(event),
            Err(_) if lines.peek().is_none() && !line.ends_with(b"\n") => {}
            Err(source) => return Err(FolderError::Line { path, line: index + 1, source }),
        }
    }
    if events.is_empty() { Err(FolderError::Empty { path }) } else { Ok(events) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"at":"2026-01-01T00:00:00Z","t":5,"trial":1,"event":"trial_started"}"#;

    fn record(text: &str) -> Result<Vec<Event>, FolderError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(RECORD), text).unwrap();
        read_record(folder.path())
    }

    #[test]
    fn a_last_line_that_breaks_off_is_passed_over() {
        assert_eq!(record(&format!("{LINE}\n{}", &LINE[..30])).unwrap().len(), 1);
    }

    #[test]
    fn any_other_line_that_is_no_event_is_an_error_with_its_place() {
        assert!(matches!(record(&format!("{LINE}\nnonsense\n{LINE}\n")), Err(FolderError::Line { line: 2, .. })));
        assert!(matches!(record(&format!("{LINE}\nnonsense\n")), Err(FolderError::Line { line: 2, .. })));
    }

    #[test]
    fn an_empty_record_is_no_run() {
        assert!(matches!(record(""), Err(FolderError::Empty { .. })));
    }

    #[test]
    fn two_runs_in_one_second_have_two_folders() {
        let out = tempfile::tempdir().unwrap();
        let first = Folder::create(out.path(), DateTime::UNIX_EPOCH, "suite").unwrap();
        let second = Folder::create(out.path(), DateTime::UNIX_EPOCH, "suite").unwrap();
        assert!(first.path.ends_with("19700101T000000Z-suite"));
        assert!(second.path.ends_with("19700101T000000Z-suite-2"));
    }
}
