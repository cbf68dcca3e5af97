//! Our binary in a folder of its own.

use std::{
    fmt::Write as _,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

/// The longest that a whole run may take on a busy machine before the test gives up on it.
const RUN_DEADLINE: Duration = Duration::from_mins(4);
const POLL: Duration = Duration::from_millis(20);

/// An empty folder with our binary at hand.
pub(crate) struct Cli {
    folder: tempfile::TempDir,
}

/// A run that has ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The folder of the run; it is in the folder of the [`Cli`].
    pub(crate) folder: PathBuf,
}

/// A run that goes on.
pub(crate) struct Running {
    child: Child,
    out: PathBuf,
}

impl Cli {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, e.g. a scenario.
    pub(crate) fn write(&self, name: &str, text: &str) -> &Self {
        fs::write(self.path().join(name), text).expect("write a file of the test");
        self
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_comeback"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null()).env_remove("COLUMNS");
        command
    }

    /// Runs a command to its end.
    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("start comeback")
    }

    /// Starts a run and lets it go on.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let mut command = self.command(&["run"]);
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running { child: command.spawn().expect("start comeback"), out: self.path().join("reports") }
    }

    /// Makes a run to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.start(args).wait()
    }
}

impl Running {
    pub(crate) fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.child.id().try_into().expect("a process number"))
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(self.pid(), signal).expect("send a signal to the run");
    }

    /// The folder of the run, as soon as there is one.
    pub(crate) fn folder(&self) -> PathBuf {
        until("the folder of the run", || fs::read_dir(&self.out).ok()?.next()?.ok().map(|entry| entry.path()))
    }

    /// Waits until the record holds an event of this kind.
    pub(crate) fn wait_for(&mut self, event: &str) {
        self.wait_for_line(event, |line| kind(line).as_deref() == Some(event));
    }

    /// Waits until the record holds this text.
    pub(crate) fn wait_for_text(&mut self, text: &str) {
        self.wait_for_line(text, |line| line.contains(text));
    }

    fn wait_for_line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        let record = self.folder().join("run.ndjson");
        let found = until_some(|| {
            let text = fs::read_to_string(&record).ok()?;
            if text.lines().any(&wanted) {
                return Some(Ok(()));
            }
            self.child.try_wait().expect("ask after the run").map(Err)
        });
        match found {
            Some(Ok(())) => {}
            Some(Err(status)) => panic!("the run ended ({status}) before `{what}`\n{}", self.tell()),
            None => panic!("the run came to no `{what}`"),
        }
    }

    fn tell(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }

    pub(crate) fn wait(mut self) -> Ran {
        let out = self.out.clone();
        let (mut stdout, mut stderr) = (self.child.stdout.take().expect("piped"), self.child.stderr.take().expect("piped"));
        let read = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let read_out = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stdout.read_to_string(&mut text);
            text
        });
        let status: ExitStatus = until("the end of the run", || self.child.try_wait().expect("ask after the run"));
        let folder = fs::read_dir(&out).ok().and_then(|mut entries| entries.next()?.ok()).map(|entry| entry.path()).unwrap_or_default();
        Ran { code: status.code(), stdout: read_out.join().expect("read stdout"), stderr: read.join().expect("read stderr"), folder }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that fails must not leave its run behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kind(line: &str) -> Option<String> {
    match serde_json::from_str::<Value>(line).ok()?.get("event")? {
        Value::String(name) => Some(name.clone()),
        Value::Object(one) => one.keys().next().cloned(),
        _ => None,
    }
}

fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_some(look).unwrap_or_else(|| panic!("{what} did not come within {RUN_DEADLINE:?}"))
}

fn until_some<T>(look: impl FnMut() -> Option<T>) -> Option<T> {
    within(RUN_DEADLINE, look)
}

/// Looks until there is something, or the deadline has passed.
pub(crate) fn within<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > end {
            return None;
        }
        sleep(POLL);
    }
}

impl Ran {
    /// The run ended with this exit code.
    #[track_caller]
    pub(crate) fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.tell());
        self
    }

    /// All that can be said of it when a test fails.
    pub(crate) fn tell(&self) -> String {
        let mut text = format!("exit code {:?}\n--- stdout\n{}\n--- stderr\n{}\n", self.code, self.stdout, self.stderr);
        if let Ok(summary) = fs::read_to_string(self.folder.join("summary.md")) {
            let _ = write!(text, "--- summary.md\n{summary}");
        }
        text
    }

    /// The text of a file of the run.
    #[track_caller]
    pub(crate) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}\n{}", self.tell()))
    }

    /// `result.json`.
    #[track_caller]
    pub(crate) fn result(&self) -> Value {
        serde_json::from_str(&self.file("result.json")).expect("result.json is JSON")
    }

    /// The trial with this number of `result.json`, from 0.
    #[track_caller]
    pub(crate) fn trial(&self, index: usize) -> Value {
        let mut trial = self.result()["trials"][index].take();
        assert!(trial.is_object(), "there is no trial {index}\n{}", self.tell());
        trial["told"] = self.tell().into();
        trial
    }

    /// The events of the record, each with its kind.
    pub(crate) fn events(&self) -> Vec<(String, Value)> {
        let record = self.file("run.ndjson");
        record.lines().filter_map(|line| Some((kind(line)?, serde_json::from_str(line).ok()?))).collect()
    }
}

/// What a law says in a trial of `result.json`.
#[track_caller]
pub(crate) fn law<'a>(trial: &'a Value, name: &str) -> &'a str {
    let laws = trial["laws"].as_array().expect("a trial has laws");
    let law = laws.iter().find(|law| law["law"] == name).unwrap_or_else(|| panic!("there is no law `{name}`"));
    law["verdict"].as_str().expect("a law has a verdict")
}

/// A piece of evidence in a trial of `result.json`: before, after, role.
#[track_caller]
pub(crate) fn evidence<'a>(trial: &'a Value, what: &str) -> (&'a Value, &'a Value, &'a str) {
    let all = trial["evidence"].as_array().expect("a trial has evidence");
    let one = all.iter().find(|one| one["what"] == what).unwrap_or_else(|| panic!("there is no evidence `{what}`"));
    (&one["before"], &one["after"], one["role"].as_str().expect("evidence has a role"))
}

/// The smallest scenario with these faults, as quick as it can be, and further lines.
pub(crate) fn scenario(name: &str, faults: &str, further: &str) -> String {
    format!(
        "version: 1\nname: {name}\nload: {{ writers: 2, rate: 40/s, rowsBefore: 100 }}\nprobe: {{ every: 50ms, timeout: 1s }}\n\
         faults: [{faults}]\n{further}\n"
    )
}
