//! `comeback exhaust-memory`: takes all the memory that a container may have. Hidden: it is called by `exec`, in images that hold our binary.
//!
//! The memory is taken by many small processes, and the server is made the one that the kernel kills first: a process may always offer itself, or one of its own
//! user, to be killed earlier. So it is the server that dies, and not whoever took the memory.

use std::{
    fs,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use clap::Args;

use super::{exit::Exit, term};
use crate::platform::processes::{self, Report};

/// How much each of the processes takes: less than any server.
const EACH: usize = 8 << 20;
/// How many there are at most: more than any limit that a database has.
const MOST: usize = 4_096;
/// The most that a process can be offered to the kernel.
const FIRST_TO_DIE: &str = "1000";
/// How long is waited for the end when all is taken.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Take all the memory that this container may have, until the kernel kills its server.
#[derive(Debug, Args)]
pub(super) struct ExhaustMemoryArgs {
    /// Take this much and wait to be killed.
    #[arg(long, value_name = "BYTES", hide = true)]
    hold: Option<usize>,
}

pub(super) fn run(args: &ExhaustMemoryArgs) -> ExitCode {
    if let Some(bytes) = args.hold {
        // Written to, page by page, so that it is really there.
        let held = vec![1_u8; bytes];
        thread::sleep(Duration::from_mins(1));
        return if held.iter().all(|byte| *byte == 1) { Exit::Passed.into() } else { Exit::Environment.into() };
    }
    let Report { meant, .. } = processes::signal("/proc".as_ref(), "engine", None);
    for pid in &meant {
        if let Err(error) = fs::write(format!("/proc/{pid}/oom_score_adj"), FIRST_TO_DIE) {
            term::prose(&format!("error: the kernel does not let process {pid} be killed first: {error}"));
            return Exit::Environment.into();
        }
    }
    if meant.is_empty() {
        term::prose("error: there is no `engine` in this container");
        return Exit::Environment.into();
    }
    let mut holders: Vec<Child> = Vec::new();
    let is_there = |pid: &i32| fs::metadata(format!("/proc/{pid}")).is_ok();
    let code = loop {
        if !meant.iter().all(is_there) {
            break Exit::Passed;
        }
        if holders.len() >= MOST {
            thread::sleep(END_WITHIN);
            term::prose(&format!("error: {MOST} processes of {EACH} bytes each were started, and the kernel killed nobody"));
            break Exit::Environment;
        }
        let holder = Command::new("/proc/self/exe")
            .args(["exhaust-memory", "--hold", &EACH.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match holder {
            Ok(holder) => holders.push(holder),
            Err(error) => {
                term::prose(&format!("error: could not take more memory: {error}"));
                break Exit::Environment;
            }
        }
    };
    for mut holder in holders {
        let _ = holder.kill();
        let _ = holder.wait();
    }
    code.into()
}
