//! `comeback cluster` with the real docker and kind, and with the stand-in database.
//!
//! The clusters have names of their own and are deleted also when a test fails. It takes `comeback/kind-node:v1.37` if that is on this machine, and
//! else what kind pulls.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// A cluster is up within this on any machine.
const UP_WITHIN: Duration = Duration::from_mins(15);
const POLL: Duration = Duration::from_millis(50);

/// A cluster that goes away.
struct Bed {
    folder: tempfile::TempDir,
    name: &'static str,
}

impl Bed {
    fn new(name: &'static str) -> Self {
        let bed = Self { folder: tempfile::tempdir().expect("a folder"), name };
        // What an earlier run has left.
        bed.cluster("down", &[]);
        bed
    }

    fn command(&self, command: &str, args: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_comeback"));
        // From an empty folder: what it needs is in it.
        program.args(["cluster", command, "--name", self.name]).args(args).current_dir(self.folder.path());
        program.env("KUBECONFIG", self.folder.path().join("kubeconfig")).stdin(Stdio::null());
        program
    }

    fn start(&self, args: &[&str]) -> Child {
        self.command("up", args).process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start comeback")
    }

    fn cluster(&self, command: &str, args: &[&str]) -> Output {
        self.command(command, args).output().expect("start comeback")
    }

    #[track_caller]
    fn ends_with(&self, code: i32, command: &str, args: &[&str]) -> String {
        let output = self.cluster(command, args);
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{command} {args:?}: {told}");
        told
    }

    #[track_caller]
    fn status(&self) -> Value {
        let output = self.cluster("status", &["-o", "json"]);
        let told = String::from_utf8_lossy(&output.stderr);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("the status is no JSON: {error}: {told}"));
        assert_eq!(output.status.success(), status["up"] == true, "{status}");
        status
    }

    fn kind(&self, args: &[&str]) -> ExitStatus {
        let kubeconfig = self.folder.path().join("theirs");
        Command::new("kind").args(args).env("KUBECONFIG", kubeconfig).stderr(Stdio::null()).status().expect("start kind")
    }

    fn docker(args: &[&str]) -> String {
        let output = Command::new("docker").args(args).output().expect("start docker");
        assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn containers(&self) -> usize {
        let filter = format!("label=io.x-k8s.kind.cluster={}", self.name);
        Self::docker(&["ps", "--all", "--quiet", "--filter", &filter]).lines().count()
    }

    fn kubectl(&self, args: &[&str]) -> String {
        let node = format!("{}-control-plane", self.name);
        let kubectl = ["exec", &node, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"];
        Self::docker(&[&kubectl, args].concat())
    }

    #[track_caller]
    fn is_gone(&self) {
        assert_eq!(self.containers(), 0);
        let devices = Command::new("losetup").args(["--list", "--noheadings", "--output", "BACK-FILE"]).output().expect("start losetup");
        let devices = String::from_utf8_lossy(&devices.stdout).into_owned();
        assert!(!devices.contains("(deleted)"), "its loop devices are given back: {devices}");
        assert!(!Path::new("/var/tmp/comeback/kind").join(self.name).exists(), "its folder is gone");
        let kubeconfig = fs::read_to_string(self.folder.path().join("kubeconfig")).unwrap_or_default();
        assert!(!kubeconfig.contains(self.name), "{kubeconfig}");
        assert!(!Path::new("/var/tmp/comeback/kind").join(format!("{}.lock", self.name)).exists(), "its lock is gone");
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.cluster("down", &[]);
        // Also what a failed test has made by hand.
        self.kind(&["delete", "cluster", "--name", self.name]);
    }
}

#[test]
#[ignore = "needs docker and kind; makes and deletes a cluster"]
fn a_cluster_comes_up_is_mended_changes_its_shape_and_goes() {
    let bed = Bed::new("test-up");
    bed.ends_with(4, "status", &[]);
    let told = bed.ends_with(0, "up", &["--engine", "sqld", "--workers", "2"]);
    assert!(told.contains("A write was acknowledged through the service address") && told.contains("not SQL Server"), "{told}");
    let first = bed.status();
    assert_eq!((&first["up"], &first["engine"], &first["shape"]), (&true.into(), &"sqld".into(), &"deployment".into()), "{first}");
    assert_eq!(first["nodes"].as_array().map(Vec::len), Some(3));
    assert_eq!(bed.kubectl(&["get", "namespace", "comeback", "-o", "jsonpath={.metadata.labels.comeback\\.dev/chaos}"]), "allowed");
    let consumers = bed.kubectl(&["get", "pods", "-n", "comeback", "-o", "name"]);
    assert_eq!(consumers.lines().count(), 1, "nothing of the client is left: {consumers}");

    // Again: nothing is built, loaded or replaced.
    let told = bed.ends_with(0, "up", &[]);
    assert!(!told.contains("loading") && !told.contains("making the cluster"), "{told}");
    assert_eq!(bed.status(), first);

    // Each shape, one at a time, each at an address and on a volume of its own.
    for shape in ["statefulSet", "guide"] {
        bed.ends_with(0, "up", &["--shape", shape]);
        let status = bed.status();
        assert_eq!((&status["up"], &status["shape"]), (&true.into(), &shape.into()), "{status}");
        assert_ne!(status["volume"], first["volume"]);
        assert_eq!(bed.kubectl(&["get", "pods", "-n", "comeback", "-o", "name"]).lines().count(), 1);
    }
    bed.ends_with(0, "up", &["--shape", "deployment"]);
    let again = bed.status();
    for same in ["service_address", "volume", "image"] {
        assert_eq!(again[same], first[same], "{same}");
    }

    // A node that lost its power is started again.
    let node = again["node"].as_str().expect("the database is somewhere");
    Bed::docker(&["kill", node]);
    let status = bed.status();
    assert!(status["problems"].to_string().contains("exited"), "{status}");
    let told = bed.ends_with(0, "up", &[]);
    assert!(told.contains(&format!("started: {node}")), "{told}");

    // A password that nobody has any more.
    bed.kubectl(&["delete", "namespace", "comeback", "--wait"]);
    assert_eq!(bed.status()["up"], false);
    let told = bed.ends_with(0, "up", &["--engine", "sqld"]);
    assert!(told.contains("whose password is gone, are emptied"), "{told}");
    assert_eq!(bed.status()["up"], true);

    // It cannot come up, and says why; what was there before comes back.
    let image = first["own_image"].as_str().expect("it has one");
    let told = bed.ends_with(4, "up", &["--engine", "mssql-2022", "--engine-image", image]);
    assert!(told.contains("CrashLoopBackOff") && told.contains("the last line of its log"), "{told}");
    assert_eq!(bed.status()["up"], false);
    bed.ends_with(0, "up", &["--engine", "sqld"]);

    bed.ends_with(0, "down", &[]);
    bed.is_gone();
    bed.ends_with(0, "down", &[]);
    bed.ends_with(4, "status", &[]);
}

#[test]
#[ignore = "needs docker and kind; makes and deletes a cluster"]
fn an_up_that_was_cut_short_is_made_anew() {
    let bed = Bed::new("test-cut");
    let mut up = bed.start(&["--engine", "sqld", "--workers", "2"]);
    let end = Instant::now() + UP_WITHIN;
    let running = format!("label=io.x-k8s.kind.cluster={}", bed.name);
    while Bed::docker(&["ps", "--quiet", "--filter", &running]).lines().count() < 3 {
        assert!(Instant::now() < end && up.try_wait().expect("ask after it").is_none(), "no cluster was begun");
        sleep(POLL);
    }
    kill(Pid::from_raw(up.id().try_into().expect("a process number")), Signal::SIGINT).expect("send a signal");
    assert_eq!(up.wait().expect("it ends").code(), Some(130));
    assert_eq!(bed.status()["up"], false);
    let told = bed.ends_with(0, "up", &["--engine", "sqld", "--workers", "2"]);
    assert!(told.contains("never finished"), "{told}");
    assert_eq!(bed.status()["up"], true);
    // What kind alone removes leaves the folder, and the devices of the volumes in it.
    assert!(bed.kind(&["delete", "cluster", "--name", bed.name]).success());
    bed.ends_with(0, "down", &[]);
    bed.is_gone();
}

#[test]
#[ignore = "needs docker and kind; makes and deletes a cluster"]
fn a_cluster_of_somebody_else_is_left_alone() {
    let bed = Bed::new("test-theirs");
    // Made by hand, even from our own configuration, it is theirs.
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/kind-config/cluster.yaml");
    let mut args = vec!["create", "cluster", "--name", bed.name, "--config", config];
    let image = "comeback/kind-node:v1.37";
    if !Bed::docker(&["image", "ls", "--quiet", image]).trim().is_empty() {
        args.extend(["--image", image]);
    }
    assert!(bed.kind(&args).success());
    for command in ["up", "down", "status"] {
        let told = bed.ends_with(4, command, &[]);
        assert!(told.contains("did not make, so it is left alone"), "{told}");
    }
    assert_eq!(bed.containers(), 4);
    assert!(bed.kind(&["delete", "cluster", "--name", bed.name]).success());
}
