//! The processes of a container, from `/proc`, and which of them a name means.
//!
//! SQL Server runs as two processes of one name: a watchdog, and the engine that is its child. So the engine is the `sqlservr` whose parent
//! is a `sqlservr`; never the one with the highest number, because numbers are used again.
//!
//! Two programs walk `/proc`: this one, which is in our own image as `comeback signal`, and a script for images that have bash. Neither
//! needs `ps` or `pkill`, which database images lack. Both say what they saw in [`Report`]'s terms.

use std::{fs, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// What means the first process of a container; no process is called so.
pub const FIRST_NAME: &str = "@first";

/// The kernel's name for both processes of SQL Server.
const SERVER: &str = "sqlservr";

/// The first process of a container: from inside, the kernel drops what it has no handler for, even SIGKILL, and says that all is well.
pub const FIRST: i32 = 1;

/// Walks `/proc` with what bash itself can do. Arguments: the root of the process files, the process that is meant, the signal or `list`,
/// the id of a container or nothing, after how many seconds what was stopped goes on by itself or nothing. Prints a line a process: number, parent,
/// what was done to it, its state, name.
pub(super) const SCRIPT: &str = include_str!("signal.bash");

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's number.
    pub parent: i32,
    /// The kernel's name for it.
    pub comm: String,
    /// Whether it stands still: it was stopped by a signal.
    #[serde(default)]
    pub stopped: bool,
}

/// What was seen of the processes of a container, and done to those that are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// All that run there.
    pub running: Vec<Process>,
    /// Those that are meant.
    pub meant: Vec<i32>,
    /// Those that got the signal.
    pub signalled: Vec<i32>,
}

impl Report {
    /// The processes with these numbers.
    #[must_use]
    pub fn named(&self, pids: &[i32]) -> Vec<Process> {
        self.running.iter().filter(|process| pids.contains(&process.pid)).cloned().collect()
    }

    /// All that run there, for people.
    #[must_use]
    pub fn list(&self) -> String {
        let all: Vec<String> = self.running.iter().map(|process| format!("{} ({})", process.comm, process.pid)).collect();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    }

    /// Reads what [`SCRIPT`] printed.
    pub(super) fn of_script(text: &str) -> Option<Self> {
        let mut report = Self::default();
        for line in text.lines() {
            let mut fields = line.splitn(5, ' ');
            let pid = fields.next()?.parse().ok()?;
            let parent = fields.next()?.parse().ok()?;
            match fields.next()? {
                "other" => {}
                "meant" => report.meant.push(pid),
                "signalled" => {
                    report.meant.push(pid);
                    report.signalled.push(pid);
                }
                _ => return None,
            }
            let stopped = matches!(fields.next()?, "T" | "t");
            report.running.push(Process { pid, parent, comm: fields.next()?.to_owned(), stopped });
        }
        report.running.sort_by_key(|process| process.pid);
        Some(report)
    }
}

/// Looks which processes run and which are meant; with a signal it is sent to those, but never to the first process of the container.
///
/// `root` is `/proc`, or a likeness of it.
#[must_use]
pub fn signal(root: &Path, wanted: &str, signal: Option<Signal>) -> Report {
    let ourselves = i32::try_from(std::process::id()).unwrap_or(0);
    let mut running: Vec<Process> = all(root).into_iter().filter(|process| process.pid != ourselves).collect();
    running.sort_by_key(|process| process.pid);
    let meant: Vec<i32> = running.iter().filter(|process| is_meant(process, &running, wanted)).map(|process| process.pid).collect();
    let signalled = match signal {
        Some(signal) => meant.iter().copied().filter(|pid| *pid != FIRST && kill(Pid::from_raw(*pid), signal).is_ok()).collect(),
        None => Vec::new(),
    };
    Report { running, meant, signalled }
}

fn is_meant(process: &Process, all: &[Process], wanted: &str) -> bool {
    if process.comm == wanted || (wanted == FIRST_NAME && process.pid == FIRST) {
        return true;
    }
    if process.comm != SERVER {
        return false;
    }
    let of_a_server = all.iter().any(|other| other.pid == process.parent && other.comm == SERVER);
    wanted == if of_a_server { "engine" } else { "watchdog" }
}

fn all(root: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(|pid: i32| one(root, pid)).collect()
}

/// The process with that number, unless it has ended and only waits to be noticed.
fn one(root: &Path, pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(root.join(pid.to_string()).join("stat")).ok()?;
    // The name is in brackets and may itself hold brackets and spaces: the last one closes it.
    let (_, rest) = stat.split_once(" (")?;
    let (comm, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let ended = matches!(state, "Z" | "X" | "x");
    let parent = fields.next()?.parse().ok()?;
    (!ended).then(|| Process { pid, parent, comm: comm.to_owned(), stopped: matches!(state, "T" | "t") })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rstest::rstest;

    use super::*;

    /// A likeness of `/proc` with these processes: number, parent, state, name, container.
    fn proc(processes: &[(i32, i32, char, &str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (pid, parent, state, comm, container) in processes {
            let folder = root.path().join(pid.to_string());
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("stat"), format!("{pid} ({comm}) {state} {parent} 1 1 0 -1")).unwrap();
            fs::write(
                folder.join("status"),
                format!("Name:\t{comm}\nState:\t{state} (x)\nPid:\t{pid}\nPPid:\t{parent}\nNSpid:\t900{pid}\t{pid}\n"),
            )
            .unwrap();
            fs::write(folder.join("comm"), format!("{comm}\n")).unwrap();
            fs::write(folder.join("cgroup"), format!("0::/kubepods/pod1/cri-containerd-{container}.scope\n")).unwrap();
        }
        fs::write(root.path().join("uptime"), "1 1\n").unwrap();
        root
    }

    fn by_script(root: &Path, wanted: &str, signal: &str, container: &str) -> Report {
        let output = Command::new("bash")
            .args(["-c", SCRIPT, "comeback-signal", root.to_str().unwrap(), wanted, signal, container, ""])
            .output()
            .expect("the tests need bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Report::of_script(&String::from_utf8(output.stdout).unwrap()).expect("the script prints what is read")
    }

    /// Edge as it is: a shell is the first process, with the launcher and the watchdog below it.
    const EDGE: &[(i32, i32, char, &str, &str)] = &[
        (1, 0, 'S', "sh", "c1"),
        (9, 1, 'S', "launchpadd", "c1"),
        (30, 1, 'S', "sqlservr", "c1"),
        // Its number is lower than its parent's: numbers are used again.
        (12, 30, 'S', "sqlservr", "c1"),
        (40, 30, 'Z', "sqlservr", "c1"),
        (50, 1, 'S', "a (b) c", "c1"),
    ];

    #[rstest]
    #[case::the_child_whatever_its_number("engine", &[12])]
    #[case::the_parent("watchdog", &[30])]
    #[case::both("sqlservr", &[12, 30])]
    #[case::by_name("launchpadd", &[9])]
    #[case::a_name_with_brackets("a (b) c", &[50])]
    #[case::the_first("sh", &[1])]
    #[case::the_first_by_its_place(FIRST_NAME, &[1])]
    #[case::none_of_that_name("postgres", &[])]
    fn a_name_means_the_same_to_both_walkers(#[case] wanted: &str, #[case] meant: &[i32]) {
        let root = proc(EDGE);
        let ours = signal(root.path(), wanted, None);
        assert_eq!(ours.meant, meant);
        assert_eq!(ours.running.len(), 5, "what has ended is not listed");
        let mut theirs = by_script(root.path(), wanted, "list", "");
        theirs.meant.sort_unstable();
        assert_eq!(theirs, ours);
    }

    #[test]
    fn on_the_node_only_the_container_counts() {
        let mut all = EDGE.to_vec();
        all.extend([(100, 1, 'S', "sqlservr", "c2"), (101, 100, 'S', "sqlservr", "c2")]);
        let root = proc(&all);
        assert_eq!(by_script(root.path(), "engine", "list", "c2").meant, [101]);
        assert_eq!(by_script(root.path(), "engine", "list", "c3"), Report::default());
    }

    #[test]
    fn the_first_process_is_never_signalled_from_inside() {
        let root = proc(EDGE);
        let report = signal(root.path(), "sh", Some(Signal::SIGKILL));
        assert_eq!((report.meant, report.signalled), (vec![1], vec![]));
        let report = by_script(root.path(), "sh", "KILL", "");
        assert_eq!((report.meant, report.signalled), (vec![1], vec![]));
    }

    #[test]
    fn what_is_meant_gets_the_signal() {
        let sleeper = || Command::new("sleep").arg("600").spawn().unwrap();
        for by in ["us", "bash"] {
            let mut victim = sleeper();
            let pid = i32::try_from(victim.id()).unwrap();
            let root = proc(&[(1, 0, 'S', "sh", "c1"), (pid, 1, 'S', "victim", "c1")]);
            let report = match by {
                "us" => signal(root.path(), "victim", Some(Signal::SIGTERM)),
                _ => by_script(root.path(), "victim", "SIGTERM", ""),
            };
            assert_eq!(report.signalled, [pid], "{by}");
            let ended = victim.wait().unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(15), "{by}");
        }
    }

    /// On a node it is systemd that lets a process go on; here a program of that name which keeps what it was told, and ends with this code.
    #[rstest]
    #[case::it_will_go_on("0", true)]
    #[case::nobody_would_let_it_go_on("1", false)]
    fn on_the_node_nothing_is_stopped_that_does_not_go_on_by_itself(#[case] code: &str, #[case] stops: bool) {
        let mut victim = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = i32::try_from(victim.id()).unwrap();
        let root = proc(&[(pid, 1, 'S', "victim", "c1")]);
        let told = root.path().join("told");
        let stub = root.path().join("systemd-run");
        fs::write(&stub, format!("#!/bin/bash\nprintf '%s ' \"$@\" >'{}'\nexit {code}\n", told.display())).unwrap();
        fs::set_permissions(&stub, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", root.path().display(), std::env::var("PATH").unwrap());
        let output = Command::new("bash")
            .args(["-c", SCRIPT, "comeback-signal", root.path().to_str().unwrap(), "victim", "SIGSTOP", "c1", "7"])
            .env("PATH", path)
            .output()
            .unwrap();
        let report = Report::of_script(&String::from_utf8(output.stdout).unwrap()).unwrap();
        assert_eq!(report.signalled, if stops { vec![pid] } else { vec![] });
        if stops {
            // It says that it was stopped, whenever that is.
            let waited = nix::sys::wait::waitpid(Pid::from_raw(pid), Some(nix::sys::wait::WaitPidFlag::WUNTRACED)).unwrap();
            assert_eq!(waited, nix::sys::wait::WaitStatus::Stopped(Pid::from_raw(pid), Signal::SIGSTOP));
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        let told = fs::read_to_string(told).unwrap();
        assert!(told.contains("--on-active=7") && told.contains(&format!("kill -s CONT {pid}")), "{told}");
    }

    #[test]
    fn a_text_that_is_no_answer_is_not_read() {
        assert_eq!(Report::of_script("bash: kill: (1) - Operation not permitted"), None);
        assert_eq!(Report::of_script(""), Some(Report::default()));
    }

    #[test]
    fn what_was_stopped_is_seen_to_stand_still() {
        let mut all = EDGE.to_vec();
        all[3].2 = 'T';
        let root = proc(&all);
        for report in [signal(root.path(), "engine", None), by_script(root.path(), "engine", "list", "")] {
            let stopped: Vec<i32> = report.running.iter().filter(|process| process.stopped).map(|process| process.pid).collect();
            assert_eq!(stopped, [12]);
        }
    }

    #[test]
    fn we_never_mean_ourselves() {
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        let report = signal(Path::new("/proc"), comm.trim(), None);
        assert!(!report.running.iter().any(|process| process.pid == i32::try_from(std::process::id()).unwrap()));
    }
}
