//! `comeback on-node`: what the node helper does. Hidden: its pod runs it, privileged and in the process namespace of the node.

use std::{
    fs::File,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use clap::Args;
use nix::sched::{CloneFlags, setns};

use super::{exit::Exit, term};
use crate::platform::NodeScript;

/// The namespaces of the node that are entered; the mounts last, because they take `/proc` away.
const NAMESPACES: [(&str, CloneFlags); 4] = [
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("net", CloneFlags::CLONE_NEWNET),
    ("mnt", CloneFlags::CLONE_NEWNS),
];

/// Run one of our scripts on this node.
#[derive(Debug, Args)]
pub(super) struct OnNodeArgs {
    /// Which: `hurt` hurts this node, mends it or tells how it is; `signal` lists the processes of a container and sends a signal.
    #[arg(value_name = "SCRIPT", value_parser = script)]
    script: NodeScript,
    /// The words for it.
    #[arg(value_name = "WORD", allow_hyphen_values = true)]
    words: Vec<String>,
}

fn script(name: &str) -> Result<NodeScript, String> {
    let names = NodeScript::ALL.map(NodeScript::name);
    NodeScript::ALL.into_iter().find(|script| script.name() == name).ok_or_else(|| format!("there are {}", names.join(", ")))
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
    let error = Command::new("/bin/bash").args(args.script.command()).args(&args.words).current_dir("/").exec();
    term::prose(&format!("error: could not run bash on the node: {error}"));
    Exit::Environment.into()
}
