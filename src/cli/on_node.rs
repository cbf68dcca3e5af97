//! `comeback on-node`: what the node helper does. Hidden: its pod runs it, privileged and in the process namespace of the node.

use std::{
    fs::File,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use clap::Args;
use nix::sched::{CloneFlags, setns};

use super::{exit::Exit, term};
use crate::platform::NODE_SCRIPT;

/// The namespaces of the node that are entered; the mounts last, because they take `/proc` away.
const NAMESPACES: [(&str, CloneFlags); 4] = [
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("net", CloneFlags::CLONE_NEWNET),
    ("mnt", CloneFlags::CLONE_NEWNS),
];

/// Hurt this node, mend it, or tell how it is.
#[derive(Debug, Args)]
pub(super) struct OnNodeArgs {
    /// The words for the script: `begin`, `end` or `look`, the seconds, and what.
    #[arg(value_name = "WORD", required = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

pub(super) fn run(args: &OnNodeArgs) -> ExitCode {
    // Opened before any is entered: behind them this process sees another /proc.
    let opened: Result<Vec<_>, _> = NAMESPACES
        .iter()
        .map(|(name, flag)| File::open(format!("/proc/1/ns/{name}")).map(|file| (*name, file, *flag)).map_err(|error| (*name, error)))
        .collect();
    let opened = match opened {
        Ok(opened) => opened,
        Err((name, error)) => {
            term::prose(&format!("error: could not open the `{name}` namespace of the node: {error}"));
            return Exit::Environment.into();
        }
    };
    for (name, file, flag) in opened {
        if let Err(error) = setns(file, flag) {
            term::prose(&format!("error: could not enter the `{name}` namespace of the node: {error}"));
            return Exit::Environment.into();
        }
    }
    let error = Command::new("/bin/bash").args(["-c", NODE_SCRIPT, "comeback-node"]).args(&args.words).current_dir("/").exec();
    term::prose(&format!("error: could not run bash on the node: {error}"));
    Exit::Environment.into()
}
