//! A process of ours on this machine that mends a kind node when nobody else is left to do it.
//!
//! The power of a kind node, and whether it stands still, is docker's, and a node that is off or stands still mends nothing by itself. So before it is
//! hurt, a process is started that outlives the run, has a deadline of its own, and does one thing when that has come: `docker unpause` or
//! `docker start`. Whoever mends the node earlier ends it, so that it does not come in between somebody's later fault. It is the only thing that may
//! outlive a run.

use std::{
    fs, io,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Its name on the command line, by which it is found again.
pub const COMMAND: &str = "dead-man";

/// What it does when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// Lets a container that stands still go on.
    Unpause,
    /// Starts a container.
    Start,
}

impl Deed {
    const fn word(self) -> &'static str {
        match self {
            Self::Unpause => "unpause",
            Self::Start => "start",
        }
    }
}

/// Starts one for this node, in the place of those that are there.
pub(super) fn set(docker: &str, deed: Deed, node: &str, after: Duration) -> io::Result<()> {
    cancel(node);
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.args([COMMAND, "--after", &format!("{}ms", after.as_millis()), "--node", node, "--docker", docker, deed.word()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // In a group of its own: what ends the run at its terminal does not end this.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.env_remove("COMEBACK_PARENT").spawn().map(drop)
}

/// Ends those for this node.
pub(super) fn cancel(node: &str) {
    for pid in of(node) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        // One that we started ourselves is to be reaped by us; another's parent is not us, and then there is nothing to reap.
        let _ = nix::sys::wait::waitpid(Pid::from_raw(pid), None);
    }
}

/// Their process numbers.
fn of(node: &str) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| is_for(&line, node))).collect()
}

fn is_for(line: &[u8], node: &str) -> bool {
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    words.get(1) == Some(&COMMAND.as_bytes()) && words.windows(2).any(|pair| pair[0] == b"--node" && pair[1] == node.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_by_its_command_and_its_node() {
        let line = |words: &[&str]| words.join("\0").into_bytes();
        assert!(is_for(&line(&["/x/comeback", "dead-man", "--after", "5ms", "--node", "w1", "start"]), "w1"));
        assert!(!is_for(&line(&["/x/comeback", "dead-man", "--after", "5ms", "--node", "w12", "start"]), "w1"));
        assert!(!is_for(&line(&["/x/comeback", "run", "dead-man", "--node", "w1"]), "w1"));
        assert!(!is_for(b"", "w1"));
    }
}
