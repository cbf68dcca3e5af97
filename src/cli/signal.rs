//! `comeback signal`: sends a signal from inside of a container. Hidden: it is called by `exec`, in images that hold our binary.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{exit::Exit, term};
use crate::platform::processes;

/// Look at the processes of this container, and send a signal to those that are meant.
#[derive(Debug, Args)]
pub(super) struct SignalArgs {
    /// `engine`, `watchdog`, or the kernel's name of a process.
    #[arg(long, value_name = "NAME")]
    process: String,
    /// The signal, e.g. SIGKILL; without it nothing is sent.
    #[arg(long, value_name = "SIGNAL")]
    signal: Option<nix::sys::signal::Signal>,
    /// Where the process files are.
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    root: PathBuf,
}

pub(super) fn run(args: &SignalArgs) -> ExitCode {
    let report = processes::signal(&args.root, &args.process, args.signal);
    let text = serde_json::to_string(&report).expect("a report has a JSON form");
    match term::data(&format!("{text}\n")) {
        Ok(()) => Exit::Passed.into(),
        Err(_) => Exit::Environment.into(),
    }
}
