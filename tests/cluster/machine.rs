//! A machine with a docker and a kind of the test's own.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::{Value, json};

/// Stands for the folder of the cluster, as the mount of a node.
pub(crate) const OURS: &str = "(ours)";

const SOON: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// Writes down what it is asked, and does what the files beside it say: `<tool> <first word>.out`, `.fail`, `.hang`.
const PROGRAM: &str = r#"#!/bin/sh
me="${0##*/}"
here="${0%/*}/../answers"
echo "$me $*" >> "$here/log"
key="$here/$me $1"
case "$*" in *"--config -"*) /bin/cat > "$key.in" ;; esac
if [ -e "$key.hang" ]; then
  echo $$ > "$here/hanging.new" && /bin/mv "$here/hanging.new" "$here/hanging"
  exec /bin/sleep 600
fi
if [ -e "$key.fail" ]; then /bin/cat "$key.fail" >&2; exit 1; fi
if [ -e "$key.out" ]; then /bin/cat "$key.out"; fi
"#;

/// The machine, with a cluster name of its own.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
    name: String,
}

/// A command that has ended.
pub(crate) struct Ran {
    code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A command that goes on.
pub(crate) struct Running(Child);

/// A container as `docker container inspect` tells it.
pub(crate) fn node(role: &str, state: &str, folder: &str) -> Value {
    json!({
        "State": {"Status": state},
        "Config": {"Image": "kindest/node:v1", "Labels": {"io.x-k8s.kind.role": role}},
        "Mounts": [{"Type": "bind", "Source": folder, "Destination": "/var/comeback"}],
    })
}

impl Machine {
    /// Both programs are there; there is no cluster, no image and no network.
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        for sub in ["bin", "answers", "tmp"] {
            fs::create_dir(folder.path().join(sub)).expect("a folder");
        }
        for tool in ["docker", "kind"] {
            let program = folder.path().join("bin").join(tool);
            fs::write(&program, PROGRAM).expect("write a program");
            fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("make it one");
        }
        let machine = Self { folder, name };
        let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        machine.answers("docker version", &json!({"Os": "linux", "Arch": arch, "Version": "28"}).to_string());
        machine
    }

    fn answer(&self, file: &str) -> PathBuf {
        self.folder.path().join("answers").join(file)
    }

    /// One of the programs is not there.
    pub(crate) fn lacks(&self, tool: &str) {
        fs::remove_file(self.folder.path().join("bin").join(tool)).expect("it was there");
    }

    /// What a command (`docker image`) writes to its standard output.
    pub(crate) fn answers(&self, command: &str, text: &str) {
        fs::write(self.answer(&format!("{command}.out")), text).expect("write an answer");
    }

    /// A command fails with this.
    pub(crate) fn fails(&self, command: &str, text: &str) {
        fs::write(self.answer(&format!("{command}.fail")), text).expect("write an answer");
    }

    /// A command does not end.
    pub(crate) fn hangs(&self, command: &str) {
        fs::write(self.answer(&format!("{command}.hang")), "").expect("write an answer");
    }

    /// The process of the command that does not end, as soon as there is one.
    pub(crate) fn hanging(&self) -> Pid {
        let end = Instant::now() + SOON;
        loop {
            if let Ok(text) = fs::read_to_string(self.answer("hanging")) {
                return Pid::from_raw(text.trim().parse().expect("a process number"));
            }
            assert!(Instant::now() < end, "nothing was started: {}", self.log());
            sleep(POLL);
        }
    }

    /// These are the nodes; they are called n0, n1, and so on.
    pub(crate) fn has_nodes(&self, nodes: &[Value]) {
        let ours = self.folder().display().to_string();
        let named: Vec<Value> = nodes
            .iter()
            .enumerate()
            .map(|(n, node)| {
                let mut node: Value = serde_json::from_str(&node.to_string().replace(OURS, &ours)).expect("JSON");
                node["Name"] = format!("/n{n}").into();
                node
            })
            .collect();
        self.answers("docker ps", &nodes.iter().map(|_| "id\n").collect::<String>());
        self.answers("docker container", &Value::from(named).to_string());
    }

    /// The cluster was made to its end.
    pub(crate) fn is_made(&self) {
        fs::create_dir_all(self.folder()).expect("the folder of the cluster");
        fs::write(self.folder().join("made.json"), "{}").expect("the mark");
    }

    /// The folder of the cluster.
    pub(crate) fn folder(&self) -> PathBuf {
        Path::new("/var/tmp/comeback/kind").join(&self.name)
    }

    /// What was asked of the programs.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.answer("log")).unwrap_or_default()
    }

    /// Whether something that begins so was asked.
    pub(crate) fn asked(&self, start: &str) -> bool {
        self.log().lines().any(|line| line.starts_with(start))
    }

    /// What a command got on its standard input.
    pub(crate) fn input_of(&self, command: &str) -> String {
        fs::read_to_string(self.answer(&format!("{command}.in"))).expect("it was asked")
    }

    fn command(&self, command: &str, name: Option<&str>, args: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_comeback"));
        program.args(["cluster", command]);
        if let Some(name) = name {
            program.args(["--name", name]);
        }
        program.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        program.env("PATH", self.folder.path().join("bin")).env("TMPDIR", self.folder.path().join("tmp"));
        program.env("KUBECONFIG", self.folder.path().join("kubeconfig")).env_remove("KIND_EXPERIMENTAL_DOCKER_NETWORK");
        program.stdout(Stdio::piped()).stderr(Stdio::piped());
        program
    }

    /// Starts `comeback cluster <command>` for the cluster of this machine.
    pub(crate) fn start(&self, command: &str, args: &[&str]) -> Running {
        Running(self.command(command, Some(&self.name), args).spawn().expect("start comeback"))
    }

    /// Runs it to its end.
    pub(crate) fn cluster(&self, command: &str, args: &[&str]) -> Ran {
        self.start(command, args).wait()
    }

    /// Runs it for another name, or none.
    pub(crate) fn cluster_named(&self, command: &str, name: Option<&str>, args: &[&str]) -> Ran {
        Running(self.command(command, name, args).spawn().expect("start comeback")).wait()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What a failed test has left.
        if let Ok(text) = fs::read_to_string(self.answer("hanging")) {
            text.trim().parse().map(|pid| kill(Pid::from_raw(pid))).ok();
        }
        fs::remove_dir_all(self.folder()).ok();
        for parent in ["/var/tmp/comeback/kind", "/var/tmp/comeback"] {
            fs::remove_dir(parent).ok();
        }
    }
}

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().try_into().expect("a process number"));
        nix::sys::signal::kill(pid, signal).expect("send a signal");
    }

    /// Waits for its end. Its output is little, so that it fits into the pipes.
    pub(crate) fn wait(mut self) -> Ran {
        let end = Instant::now() + SOON;
        while self.0.try_wait().expect("ask after it").is_none() {
            if Instant::now() > end {
                self.0.kill().expect("kill it");
                panic!("it did not end within {SOON:?}");
            }
            sleep(POLL);
        }
        let code = self.0.wait().expect("it has ended").code();
        let read = |pipe: &mut dyn std::io::Read| {
            let mut bytes = vec![0; 64 * 1024];
            let mut length = 0;
            while let Ok(read @ 1..) = pipe.read(&mut bytes[length..]) {
                length += read;
            }
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        };
        let stdout = read(&mut self.0.stdout.take().expect("piped"));
        let stderr = read(&mut self.0.stderr.take().expect("piped"));
        Ran { code, stdout, stderr }
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn ended_with(&self, code: i32) {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
    }
}

/// Kills a process that the test started.
pub(crate) fn kill(pid: Pid) {
    nix::sys::signal::kill(pid, Signal::SIGKILL).ok();
}

/// Waits until a process is gone, or a zombie that nobody has asked after yet.
#[track_caller]
pub(crate) fn dead_within(deadline: Duration, pid: Pid) {
    let end = Instant::now() + deadline;
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < end, "process {pid} lives");
        sleep(POLL);
    }
}
