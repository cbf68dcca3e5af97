//! `comeback dead-man`: mends a kind node when the run that hurt it is gone. Hidden: a run starts it before it hurts a node, and ends it afterwards.

use std::{
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use clap::Args;
use nix::sys::signal::{SigHandler, Signal, signal};

use super::exit::Exit;

/// How often it is tried, and how long is waited in between, ten minutes in all: docker may be restarted just then, or the machine be busy.
const TRIES: u32 = 120;
const BETWEEN: Duration = Duration::from_secs(5);

/// Wait, and then let a node of kind go on, or start it.
#[derive(Debug, Args)]
pub(super) struct DeadManArgs {
    /// How long is waited.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    after: Duration,
    /// The node.
    #[arg(long, value_name = "NAME")]
    node: String,
    /// The docker command.
    #[arg(long, value_name = "PROGRAM", default_value = "docker")]
    docker: String,
    /// What is done.
    #[arg(value_name = "DEED", value_parser = ["unpause", "start"])]
    deed: String,
}

pub(super) fn run(args: &DeadManArgs) -> ExitCode {
    ignore_hangup();
    thread::sleep(args.after);
    for _ in 0..TRIES {
        let mut command = Command::new(&args.docker);
        command.args([args.deed.as_str(), args.node.as_str()]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if command.status().is_ok_and(|status| status.success()) {
            return Exit::Passed.into();
        }
        thread::sleep(BETWEEN);
    }
    Exit::Environment.into()
}

/// A terminal that is closed does not end it.
#[expect(unsafe_code, reason = "a disposition without a handler of ours cannot run any code at the wrong time")]
fn ignore_hangup() {
    // SAFETY: SIG_IGN installs no handler, and this program has one thread here.
    let _ = unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) };
}
