//! `comeback report`: writes the reports of a run again, from its record alone.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{exit::Exit, summary::show, term};
use crate::{check::judge, cluster::chain, measure::History, report, run::read_record};

/// Write the reports of a run again, from its `run.ndjson` alone: the same bytes, whether the run came to its end or was killed
///
/// The two files of rows are evidence as it was read and are left as they are.
///
/// Exit codes: 0 the reports are written, whatever they say; 2 there is no such record, or it is damaged; 4 a report could not be written.
#[derive(Debug, Args)]
pub(super) struct Report {
    /// The folder of the run.
    #[arg(value_name = "RUN_DIR")]
    folder: PathBuf,
}

impl Report {
    pub(super) fn run(self) -> ExitCode {
        let events = match read_record(&self.folder) {
            Ok(events) => events,
            Err(error) => return fail(&chain(&error), Exit::Invalid),
        };
        let result = judge(&History::of(events));
        if let Err(error) = report::write_all(&self.folder, &result) {
            return fail(&error.to_string(), Exit::Environment);
        }
        match show(&result, &self.folder) {
            Ok(()) => Exit::Passed.into(),
            Err(error) => fail(&format!("could not print the summary: {error}"), Exit::Environment),
        }
    }
}

fn fail(text: &str, exit: Exit) -> ExitCode {
    term::prose(&format!("error: {text}"));
    exit.into()
}
