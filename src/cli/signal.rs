//! `comeback signal`: sends a signal from inside of a container. Hidden: it is called by `exec`, in images that hold our binary.

use std::{
    io,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

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
    /// After how many seconds those that it stops go on by themselves, whatever becomes of whoever asked.
    #[arg(long, value_name = "SECONDS", requires = "signal")]
    revive_after: Option<u64>,
    /// So many seconds are waited before anything is done.
    #[arg(long, value_name = "SECONDS", hide = true)]
    delay: Option<u64>,
    /// Where the process files are.
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    root: PathBuf,
}

pub(super) fn run(args: &SignalArgs) -> ExitCode {
    if let Some(seconds) = args.delay {
        std::thread::sleep(Duration::from_secs(seconds));
    }
    // Before anything is stopped, so that nothing is stopped that nobody lets go on.
    if let Some(seconds) = args.revive_after
        && let Err(error) = revive(&args.process, seconds)
    {
        term::prose(&format!("error: could not start what lets `{}` go on after {seconds} s: {error}", args.process));
        return Exit::Environment.into();
    }
    let report = processes::signal(&args.root, &args.process, args.signal);
    let text = serde_json::to_string(&report).expect("a report has a JSON form");
    match term::data(&format!("{text}\n")) {
        Ok(()) => Exit::Passed.into(),
        Err(_) => Exit::Environment.into(),
    }
}

/// Starts a process of our own that lets those go on that were stopped, later, in a group of its own.
fn revive(process: &str, seconds: u64) -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["signal", "--process", process, "--signal", "SIGCONT", "--delay", &seconds.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().map(drop)
}
