//! kubectl itself, the same commands in both places: what it prints is compared as a sequence of lines is, command by command.
//!
//! Names, ages, addresses, sizes and hashes are replaced by what they are; of `describe` the headings and keys are compared, not what they hold.

use std::{
    collections::BTreeMap,
    env,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use comeback::deploy::shape;
use k8s_openapi::api::core::v1::Node;
use kube::{ResourceExt as _, api::ListParams};
use serde_json::Value;

use crate::{
    bed::Bed,
    drive,
    golden::{Sequence, Told},
};

/// The oldest kubectl that says the same things.
const OLDEST_MINOR: u64 = 30;
/// How long kubectl itself may wait for something.
const PATIENCE: Duration = Duration::from_secs(90);

/// A kubectl.
pub(crate) struct Kubectl {
    program: PathBuf,
    /// Its minor version.
    pub(crate) minor: u64,
}

impl Kubectl {
    /// The name of its golden file: releases word things differently.
    pub(crate) fn story(&self) -> String {
        format!("kubectl-1.{}", self.minor)
    }
}

/// A kubectl that is new enough, or why there is none: `COMEBACK_KUBECTL`, or the one on the `PATH`.
pub(crate) fn find() -> Result<Kubectl, String> {
    let (program, named) = match env::var_os("COMEBACK_KUBECTL") {
        Some(program) => (PathBuf::from(program), true),
        None => (PathBuf::from("kubectl"), false),
    };
    let shown = program.display();
    let output = Command::new(&program).args(["version", "--client", "-o", "json"]).stdin(Stdio::null()).output();
    let found = output.map_err(|error| format!("`{shown}` cannot be started: {error}")).and_then(|output| {
        let version: Value = serde_json::from_slice(&output.stdout).map_err(|_| format!("`{shown}` does not tell its version"))?;
        let minor: u64 = version["clientVersion"]["minor"].as_str().unwrap_or_default().trim_end_matches('+').parse().unwrap_or_default();
        if minor >= OLDEST_MINOR { Ok(minor) } else { Err(format!("`{shown}` is 1.{minor}, and 1.{OLDEST_MINOR} is the oldest of use")) }
    });
    match found {
        Ok(minor) => Ok(Kubectl { program, minor }),
        Err(why) if named => panic!("COMEBACK_KUBECTL: {why}"),
        Err(why) => Err(why),
    }
}

/// What does not depend on kubectl itself, but on the server: tables, and whether a command succeeds.
pub(crate) fn of_the_server(told: Told) -> Told {
    let keep = |(name, mut lines): (String, Sequence)| {
        if !name.starts_with("$ kubectl get") {
            lines.drain(..lines.len().saturating_sub(1));
        }
        (name, lines)
    };
    told.into_iter().map(keep).collect()
}

/// kubectl on a bed, and what it said so far.
struct Session<'a> {
    program: &'a PathBuf,
    bed: &'a Bed,
    /// What is replaced by what; the longest first.
    words: BTreeMap<(std::cmp::Reverse<usize>, String), String>,
    told: Told,
}

/// How what a command prints is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    /// As a table: columns and cells.
    Table,
    /// The headings and keys of a description.
    Description,
    /// Every line.
    Lines,
    /// Only that there is something.
    Something,
}

impl Session<'_> {
    fn call(&mut self, name: &str, how: As, arguments: &[&str]) {
        let timeout = format!("--request-timeout={}s", PATIENCE.as_secs());
        let output = Command::new(self.program)
            .arg("--kubeconfig")
            .arg(&self.bed.kubeconfig)
            .args(["--namespace", &self.bed.cluster.target.namespace, &timeout])
            .args(arguments)
            .stdin(Stdio::null())
            .env_remove("KUBECONFIG")
            .output()
            .expect("kubectl can be started");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let mut lines: Sequence = match how {
            As::Description => keys(&out),
            As::Table | As::Lines => out.lines().filter(|line| !line.trim().is_empty()).map(|line| self.cells(line)).collect(),
            As::Something => vec![if out.trim().is_empty() { "nothing" } else { "something" }.to_owned()],
        };
        lines.extend(err.lines().filter(|line| !line.starts_with("Warning:")).map(|line| format!("stderr: {}", self.cells(line))));
        lines.push(format!("exit code {}", output.status.code().unwrap_or(-1)));
        self.told.push((format!("$ kubectl {name}"), lines));
    }

    fn word(&mut self, text: &str, what: &str) {
        if !text.is_empty() {
            self.words.insert((std::cmp::Reverse(text.len()), text.to_owned()), what.to_owned());
        }
    }

    /// The cells of a line, with what differs from place to place replaced.
    fn cells(&self, line: &str) -> String {
        let cells: Vec<String> = split(line).into_iter().map(|cell| self.cell(cell)).collect();
        cells.join(" | ")
    }

    fn cell(&self, cell: &str) -> String {
        let mut cell = cell.to_owned();
        for ((_, word), what) in &self.words {
            cell = cell.replace(word.as_str(), what);
        }
        general(&cell)
    }
}

/// The cells of a line: two spaces or more are between them.
fn split(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

/// What every place has its own of.
fn general(cell: &str) -> String {
    let is_age = cell.len() < 12
        && cell.starts_with(|c: char| c.is_ascii_digit())
        && cell.ends_with(['s', 'm', 'h', 'd'])
        && cell.chars().all(|c| c.is_ascii_digit() || "smhd".contains(c));
    if is_age {
        return "AGE".to_owned();
    }
    if cell.parse::<std::net::IpAddr>().is_ok() {
        return "ADDRESS".to_owned();
    }
    cell.to_owned()
}

/// The headings and keys of a description, in their order, each once.
fn keys(text: &str) -> Sequence {
    let mut keys = Sequence::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if line.starts_with("Events:") {
            // What happened is another matter.
            keys.push("Events:".to_owned());
            break;
        }
        let Some((key, _)) = line.trim_start().split_once(':') else { continue };
        // Which sizes of pages there are is the machine's.
        let is_of_the_machine = key.starts_with("hugepages-");
        if is_of_the_machine || key.contains("  ") || key.contains('/') || key.contains('=') || key.is_empty() || key.len() > 40 {
            continue;
        }
        let key = format!("{}{key}:", "· ".repeat(indent / 2));
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// Goes through what people do with kubectl, on a fresh Deployment. A node that it cordons is uncordoned whatever comes.
pub(crate) async fn tell(kubectl: &Kubectl, bed: &Bed) -> Told {
    let pod = drive::pods(bed).await.remove(0);
    let home = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).expect("it is on a node");
    let nodes = bed.cluster.all::<Node>().list(&ListParams::default()).await.expect("the cluster answers");
    let told = tokio::task::block_in_place(|| {
        let mut session = Session { program: &kubectl.program, bed, words: BTreeMap::new(), told: Told::new() };
        for node in &nodes {
            session.word(&node.name_any(), "NODE");
            if let Some(info) = node.status.as_ref().and_then(|status| status.node_info.as_ref()) {
                for (word, what) in [
                    (&info.os_image, "SYSTEM"),
                    (&info.kernel_version, "KERNEL"),
                    (&info.container_runtime_version, "RUNTIME"),
                    (&info.kubelet_version, "VERSION"),
                ] {
                    session.word(word, what);
                }
            }
        }
        let image = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.clone()).unwrap_or_default();
        session.word(&image, "IMAGE");
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| session.go_through(&pod.name_any(), &home)));
        if done.is_err() {
            session.call("uncordon (after a failure)", As::Lines, &["uncordon", &home]);
        }
        done.map(|()| session.told)
    });
    told.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Session<'_> {
    fn go_through(&mut self, pod: &str, home: &str) {
        let name = shape::name(self.bed.shape);
        self.word(pod, "POD");
        self.word(home, "HOME");
        let selector = format!("app={name}");
        let all = ["-o", "wide"];
        self.call("get pods -o wide", As::Table, &[&["get", "pods", "-l", &selector], &all[..]].concat());
        self.call("get deployments -o wide", As::Table, &[&["get", "deployments", name], &all[..]].concat());
        self.call("get services -o wide", As::Table, &[&["get", "services", name], &all[..]].concat());
        let claim = shape::claim_name(self.bed.shape);
        self.call("get pvc -o wide", As::Table, &[&["get", "pvc", claim], &all[..]].concat());
        self.call("get pv -o wide", As::Table, &[&["get", "pv", shape::volume_name(self.bed.shape)], &all[..]].concat());
        self.call("get node -o wide", As::Table, &[&["get", "node", home], &all[..]].concat());
        self.call("describe pod", As::Description, &["describe", "pod", pod]);
        self.call("describe node", As::Description, &["describe", "node", home]);
        self.call("describe deployment", As::Description, &["describe", "deployment", name]);
        self.call("logs", As::Something, &["logs", pod]);
        self.call("logs of a container that is not there", As::Lines, &["logs", pod, "-c", "nosuch"]);
        self.call("exec", As::Lines, &["exec", pod, "--", "/comeback", "--version"]);
        self.call("get pod that is not there", As::Lines, &["get", "pod", "nosuch"]);
        self.call("rollout status", As::Lines, &["rollout", "status", &format!("deployment/{name}"), "--timeout=60s"]);
        self.call("cordon", As::Lines, &["cordon", home]);
        self.call("cordon again", As::Lines, &["cordon", home]);
        self.call("get node that is cordoned", As::Table, &["get", "node", home]);
        self.call(
            "drain",
            As::Lines,
            &["drain", home, "--ignore-daemonsets", "--delete-emptydir-data", "--pod-selector", &selector, "--timeout=80s"],
        );
        self.call("uncordon", As::Lines, &["uncordon", home]);
        self.call("uncordon again", As::Lines, &["uncordon", home]);
        self.settle(&selector, name);
        self.call("delete pod", As::Lines, &["delete", "pod", "-l", &selector]);
        self.settle(&selector, name);
    }

    /// Waits until the new pod is ready, as people do; the old one's name no longer matters.
    fn settle(&mut self, selector: &str, name: &str) {
        self.call(
            &format!("rollout status, {}", self.told.len()),
            As::Something,
            &["rollout", "status", &format!("deployment/{name}"), "--timeout=80s"],
        );
        let output = Command::new(self.program)
            .arg("--kubeconfig")
            .arg(&self.bed.kubeconfig)
            .args(["--namespace", &self.bed.cluster.target.namespace, "get", "pods", "-l", selector])
            .args(["-o", "jsonpath={.items[0].metadata.name}"])
            .env_remove("KUBECONFIG")
            .output()
            .expect("kubectl can be started");
        let pod = String::from_utf8_lossy(&output.stdout).into_owned();
        self.word(&pod, "POD");
        let number = self.told.len();
        self.call(
            &format!("wait --for=condition=Ready, {number}"),
            As::Lines,
            &["wait", "--for=condition=Ready", "pod", "-l", selector, "--timeout=80s"],
        );
    }
}
