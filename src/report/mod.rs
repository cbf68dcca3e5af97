//! The reports: what a run found, once for each kind of reader.
//!
//! Every report is a pure function of a [`RunResult`]: no clock, no environment, no order that differs from one time to the next. So
//! `comeback report` makes the same bytes again from `run.ndjson`, and a golden file is a whole test.
//!
//! | file | for | made by |
//! |---|---|---|
//! | `result.json` | programs; its form is `reports/result.schema.json` | [`json`] |
//! | `junit.xml` | a CI system | [`junit`] |
//! | `probes.csv` | a spreadsheet, a plot | [`probes`] |
//! | `summary.md` | a pull request, a job summary | [`summary`] |
//! | (the terminal) | the one who waits | [`terminal`] |
//!
//! How a figure is printed is decided in [`figure`], for all of them; what a text from outside may contain, in `text`; what the summary and
//! the terminal say alike, in `headline`.
//!
//! [`write_all`] is called before the run with what is known then, so that a bad folder is found in the first second, and again after each
//! trial. A file is replaced whole or not at all: a crash leaves the old one, which is valid and says how far the run had come.
//!
//! To add a report:
//! 1. a file `src/report/<name>.rs` with `pub fn render(&RunResult) -> String`; its module doc says for whom it is and what it promises;
//! 2. a variant of [`Format`]: the compiler leads from there to its file name and to `render`; and its name in [`Format::ALL`];
//! 3. a line in the table above, and in the README's list of reports;
//! 4. in `tests/reports/`: its golden files, and a test that parses it back with somebody else's parser.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::result::RunResult;

pub mod figure;
mod headline;
pub mod json;
pub mod junit;
pub mod probes;
pub mod summary;
pub mod terminal;
pub(crate) mod text;

/// A report that is a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// All of it, for programs.
    Json,
    /// For a CI system.
    Junit,
    /// Every attempt of the probes.
    Probes,
    /// For a pull request.
    Summary,
}

impl Format {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 4] = [Self::Json, Self::Junit, Self::Probes, Self::Summary];

    /// The name of its file in the folder of the run.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Json => "result.json",
            Self::Junit => "junit.xml",
            Self::Probes => "probes.csv",
            Self::Summary => "summary.md",
        }
    }

    /// The report as text.
    #[must_use]
    pub fn render(self, result: &RunResult) -> String {
        match self {
            Self::Json => json::render(result),
            Self::Junit => junit::render(result),
            Self::Probes => probes::render(result),
            Self::Summary => summary::render(result),
        }
    }
}

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The folder of the run cannot be made.
    #[error("could not create the folder of the reports `{}`: {cause} (hint: {})", .folder.display(), hint(.cause))]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file in it cannot be written; the old one, if there was one, is still there.
    #[error("could not write the report `{}`: {cause} (hint: {})", .file.display(), hint(.cause))]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space; `comeback report` writes the reports again from `run.ndjson`"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "make the folder writable for this user, or choose another with `--out`"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists | io::ErrorKind::IsADirectory => {
            "something else has that name; move it away, or choose another folder with `--out`"
        }
        _ => "choose another folder with `--out`; `comeback report` writes the reports again from `run.ndjson`",
    }
}

/// Writes every report into `folder`, which is created if need be.
///
/// Each file is written under another name in the same folder, flushed to the disk, and renamed, so it is replaced whole or not at all.
///
/// # Errors
/// The first failure. The other reports are written all the same: one that cannot be written must not take the rest with it.
pub fn write_all(folder: &Path, result: &RunResult) -> Result<(), ReportError> {
    fs::create_dir_all(folder).map_err(|cause| ReportError::Folder { folder: folder.to_owned(), cause })?;
    let mut first = Ok(());
    for format in Format::ALL {
        let file = folder.join(format.file_name());
        let written = replace(&file, format.render(result).as_bytes()).map_err(|cause| ReportError::File { file, cause });
        first = first.and(written);
    }
    first
}

/// Replaces a file by one with these contents, whole or not at all.
fn replace(file: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = file.parent().expect("a report lies in a folder");
    let name = file.file_name().expect("a report has a name").to_string_lossy();
    // The process id keeps two writers apart (`comeback report` on a run that is going on).
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = File::create(&temporary)
        .and_then(|mut open| {
            open.write_all(contents)?;
            open.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, file))
        // The new name is on the disk only once the folder is.
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        // After a failure the temporary file is of no use; that it may not be there is no second failure.
        let _ = fs::remove_file(&temporary);
    }
    written
}
