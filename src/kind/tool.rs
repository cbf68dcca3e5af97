//! Other people's programs, as commands with a name and a deadline.
//!
//! A command runs in a process group of its own: Ctrl-C on the terminal reaches us alone, and when we give it up (its deadline has passed, or the
//! future is dropped) the whole group is killed, with whatever the program has started.

use std::{
    env,
    ffi::OsString,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
};

/// How many of the last lines of a failed command are told.
const TOLD_LINES: usize = 4;

/// A program that is installed on this machine.
#[derive(Clone, Debug)]
pub struct Tool {
    name: &'static str,
    path: PathBuf,
}

/// A program is not installed.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` is not on the PATH (hint: {hint})")]
pub struct Missing {
    name: &'static str,
    hint: &'static str,
}

/// A command did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be started.
    #[error("could not {what}: could not start `{tool}`")]
    Start {
        /// What was being done.
        what: String,
        /// The program.
        tool: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It did not end in time, and was killed.
    #[error("could not {what}: `{tool}` did not end within {}{}", humantime::format_duration(*.deadline), said(.last))]
    Deadline {
        /// What was being done.
        what: String,
        /// The program.
        tool: &'static str,
        /// How long it had.
        deadline: Duration,
        /// The last that it said.
        last: String,
    },
    /// It failed.
    #[error("could not {what}: `{tool}` failed ({status}){}", said(.last))]
    Failed {
        /// What was being done.
        what: String,
        /// The program.
        tool: &'static str,
        /// How it ended.
        status: String,
        /// The last that it said.
        last: String,
    },
    /// It answered with something else than what it is known to.
    #[error("could not {what}: `{tool}` answered with something unexpected: {why}")]
    Answer {
        /// What was being done.
        what: String,
        /// The program.
        tool: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

fn said(last: &str) -> String {
    if last.is_empty() { String::new() } else { format!(": {last}") }
}

impl ToolError {
    /// The last that the program said, if it was started.
    #[must_use]
    pub fn last(&self) -> &str {
        match self {
            Self::Deadline { last, .. } | Self::Failed { last, .. } => last,
            Self::Start { .. } | Self::Answer { .. } => "",
        }
    }
}

/// One command. Nothing happens until it is [run](Call::run).
#[derive(Debug)]
#[must_use = "nothing happens until it is run"]
pub struct Call<'a> {
    tool: &'a Tool,
    what: String,
    deadline: Duration,
    args: Vec<OsString>,
    environment: Vec<(&'static str, String)>,
    input: Option<String>,
}

impl Tool {
    /// Looks for the program on the `PATH`. The hint says how to get it.
    ///
    /// # Errors
    /// If it is not there.
    pub fn find(name: &'static str, hint: &'static str) -> Result<Self, Missing> {
        let path = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_program(file));
        found.map(|path| Self { name, path }).ok_or(Missing { name, hint })
    }

    /// A command that does `what` (which fits behind "could not") within `deadline`.
    pub fn call<A: Into<OsString>>(&self, what: impl Into<String>, deadline: Duration, args: impl IntoIterator<Item = A>) -> Call<'_> {
        let args = args.into_iter().map(Into::into).collect();
        Call { tool: self, what: what.into(), deadline, args, environment: Vec::new(), input: None }
    }
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

impl Call<'_> {
    /// With this variable.
    pub fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// With this text on its standard input; without, it gets nothing to read.
    pub fn input(mut self, text: String) -> Self {
        self.input = Some(text);
        self
    }

    /// Runs it and returns what it wrote to its standard output.
    ///
    /// # Errors
    /// If it could not be started, failed, or met its deadline; the last lines that it wrote are in the error.
    pub async fn run(self) -> Result<String, ToolError> {
        self.run_telling(&|_| {}).await
    }

    /// As [`run`](Self::run), and hands on each line of its standard error as it comes.
    pub async fn run_telling(self, told: &(dyn Fn(&str) + Sync)) -> Result<String, ToolError> {
        let Self { tool, what, deadline, args, environment, input } = self;
        let name = tool.name;
        let start = |source| ToolError::Start { what: what.clone(), tool: name, source };
        let mut command = Command::new(&tool.path);
        command.args(args).envs(environment).process_group(0).kill_on_drop(true);
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() }).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(start)?;
        let mut group = Group(child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw));
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());

        let mut out = String::new();
        let mut last = Vec::new();
        let running = async {
            let feed = async {
                if let (Some(mut stdin), Some(text)) = (stdin, input) {
                    // A program that does not read to the end says so by its exit.
                    let _ = stdin.write_all(text.as_bytes()).await;
                }
            };
            let ((), (), (), status) = tokio::join!(feed, whole(stdout, &mut out), lines(stderr, told, &mut last), child.wait());
            status
        };
        let ended = tokio::time::timeout(deadline, running).await;
        let last = |out: &str| {
            let lines = if last.is_empty() { out.lines().map(ToOwned::to_owned).collect() } else { last.clone() };
            lines[lines.len().saturating_sub(TOLD_LINES)..].join(" ")
        };
        match ended {
            Ok(Ok(status)) => {
                // Reaped: its number may belong to another by now.
                group.0 = None;
                if status.success() {
                    return Ok(out);
                }
                Err(ToolError::Failed { what, tool: name, status: status.to_string(), last: last(&out) })
            }
            Ok(Err(source)) => Err(start(source)),
            Err(_) => Err(ToolError::Deadline { what, tool: name, deadline, last: last(&out) }),
        }
    }

    /// Runs it and reads its standard output as JSON.
    pub async fn json(self) -> Result<serde_json::Value, ToolError> {
        let (what, tool) = (self.what.clone(), self.tool.name);
        let out = self.run().await?;
        serde_json::from_str(&out).map_err(|error| ToolError::Answer { what, tool, why: error.to_string() })
    }
}

async fn whole(stream: Option<impl AsyncRead + Unpin>, text: &mut String) {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // What was read before an error is what there is.
        let _ = stream.read_to_end(&mut bytes).await;
    }
    *text = String::from_utf8_lossy(&bytes).into_owned();
}

/// Keeps the last lines that say something.
async fn lines(stream: Option<impl AsyncRead + Unpin>, told: &(dyn Fn(&str) + Sync), last: &mut Vec<String>) {
    let Some(stream) = stream else { return };
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).await.is_ok_and(|read| read > 0) {
        let line = String::from_utf8_lossy(&bytes).trim().to_owned();
        bytes.clear();
        if line.is_empty() {
            continue;
        }
        told(&line);
        if last.len() == TOLD_LINES {
            last.remove(0);
        }
        last.push(line);
    }
}

/// A process group that is killed when it is given up.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // It may have ended meanwhile, which is what is wanted.
            let _ = killpg(pid, Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn shell() -> Tool {
        Tool::find("sh", "it is everywhere").unwrap()
    }

    #[tokio::test]
    async fn what_it_writes_is_returned_and_what_it_says_is_told() {
        let told = std::sync::Mutex::new(Vec::new());
        let tell = |line: &str| told.lock().unwrap().push(line.to_owned());
        let shell = shell();
        let call = shell.call("try", SOON, ["-c", "cat; echo a >&2; echo b >&2"]).input("in".to_owned());
        assert_eq!(call.run_telling(&tell).await.unwrap(), "in");
        assert_eq!(told.into_inner().unwrap(), ["a", "b"]);
    }

    #[tokio::test]
    async fn a_failure_tells_what_was_tried_and_the_last_lines() {
        let shell = shell();
        let script = "for i in 1 2 3 4 5 6; do echo line $i >&2; done; exit 3";
        let error = shell.call("make it so", SOON, ["-c", script]).run().await.unwrap_err();
        assert_eq!(error.to_string(), "could not make it so: `sh` failed (exit status: 3): line 3 line 4 line 5 line 6");
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_killed_with_what_it_started() {
        let shell = shell();
        let begin = Instant::now();
        let script = "sleep 600 & echo $! >&2; wait";
        let error = shell.call("wait", Duration::from_millis(500), ["-c", script]).run().await.unwrap_err();
        assert!(begin.elapsed() < SOON, "{error}");
        let pid: i32 = error.last().parse().expect("it told the number of what it started");
        let dead = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.map_or(true, |stat| stat.contains(") Z "))
        };
        while !dead() {
            assert!(begin.elapsed() < SOON, "process {pid} outlives the command");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn one_that_is_not_there_is_missed_with_a_hint() {
        let error = Tool::find("no-such-program-anywhere", "get it").unwrap_err();
        assert_eq!(error.to_string(), "`no-such-program-anywhere` is not on the PATH (hint: get it)");
    }
}
