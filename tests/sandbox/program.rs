//! `comeback sandbox` as a program: its kubeconfig, its end, and what stock `kubectl` makes of it.

use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use comeback::sandbox::{Options, Sandbox};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::LogParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::support::{
    DEAD_WITHIN, PROGRAM, SOON, create, deploy, is_alive, is_ready, pids, processes, ready_pod, server, soon, until, wait_for_pod,
};

/// Starts the program with a temporary directory of its own, and reads the path of the kubeconfig that it prints.
async fn program(temporary: &Path) -> (Child, PathBuf) {
    let mut child = Command::new(PROGRAM)
        .args(["sandbox", "--speed", "20"])
        .env("TMPDIR", temporary)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let path = soon("the path of the kubeconfig", lines.next_line()).await.unwrap().expect("it prints a line");
    (child, path.into())
}

async fn client_of(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("the kubeconfig can be read");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

fn directories(temporary: &Path) -> usize {
    std::fs::read_dir(temporary).unwrap().count()
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id().expect("it runs")).unwrap()), signal).unwrap();
}

#[tokio::test]
async fn a_killed_program_leaves_no_process_and_its_directory_is_removed_by_the_next() {
    let temporary = tempfile::tempdir().unwrap();
    let (mut child, kubeconfig) = program(temporary.path()).await;
    let client = client_of(&kubeconfig).await;
    deploy(&client, server(), 30).await;
    let pod = ready_pod(&client, "").await.metadata.name.unwrap();
    let started = pids(&processes(&client, &pod, "mssql").await.unwrap());
    assert_eq!(started.len(), 2);
    assert!(started.iter().all(|pid| is_alive(*pid)));

    send(&child, Signal::SIGKILL);
    soon("the program to be reaped", child.wait()).await.unwrap();
    until("no process is left", DEAD_WITHIN, async || !started.iter().any(|pid| is_alive(*pid))).await;
    assert_eq!(directories(temporary.path()), 1, "nobody was left to remove it");

    let (mut next, _) = program(temporary.path()).await;
    assert_eq!(directories(temporary.path()), 1, "the next one removed it, and made its own");
    send(&next, Signal::SIGTERM);
    assert!(soon("the program to stop", next.wait()).await.unwrap().success());
    assert_eq!(directories(temporary.path()), 0);
}

#[tokio::test]
async fn a_container_of_any_subcommand_dies_with_the_program() {
    let temporary = tempfile::tempdir().unwrap();
    let (mut child, kubeconfig) = program(temporary.path()).await;
    let client = client_of(&kubeconfig).await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let spec = json!({ "containers": [{
        "name": "c", "image": "comeback", "args": ["sandbox", "--speed", "77"], "env": [{ "name": "TMPDIR", "value": temporary.path() }],
    }] });
    create(&pods, json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    wait_for_pod(&pods, "the pod to be ready", is_ready).await;
    until("the inner sandbox is up", SOON, async || {
        pods.logs("p", &LogParams::default()).await.is_ok_and(|log| log.contains("The sandbox is up"))
    })
    .await;
    let started = pids(&processes(&client, "p", "c").await.unwrap());
    assert!(!started.is_empty() && started.iter().all(|pid| is_alive(*pid)));
    send(&child, Signal::SIGKILL);
    soon("the program to be reaped", child.wait()).await.unwrap();
    until("no process is left", DEAD_WITHIN, async || !started.iter().any(|pid| is_alive(*pid))).await;
}

#[tokio::test]
async fn the_kubeconfig_is_for_its_owner_only() {
    let temporary = tempfile::tempdir().unwrap();
    let (_child, kubeconfig) = program(temporary.path()).await;
    assert_eq!(std::fs::metadata(kubeconfig).unwrap().permissions().mode() & 0o777, 0o600);
}

async fn kubectl(kubeconfig: &Path, args: &[&str]) -> Option<Output> {
    let command = Command::new("kubectl").arg("--kubeconfig").arg(kubeconfig).args(args).output();
    soon("kubectl", command).await.ok()
}

#[tokio::test]
async fn stock_kubectl_works() {
    if kubectl(Path::new("/dev/null"), &["version", "--client"]).await.is_none_or(|output| !output.status.success()) {
        let reason = "`kubectl` is not installed (apt-get install kubernetes-client)";
        assert!(std::env::var("COMEBACK_REQUIRE_CLIENTS").as_deref() != Ok("1"), "{reason}, and COMEBACK_REQUIRE_CLIENTS=1 wants it");
        // Not `eprintln`, which the harness keeps to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "skipped: {reason}");
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(Options { speed: 20, ..Options::new(PROGRAM) }).await.unwrap();
    let kubeconfig = temporary.path().join("kubeconfig");
    std::fs::write(&kubeconfig, sandbox.kubeconfig_text()).unwrap();
    let client = sandbox.client().await.unwrap();
    deploy(&client, server(), 30).await;
    let pod = ready_pod(&client, "").await;
    let (name, node) = (pod.metadata.name.clone().unwrap(), pod.spec.unwrap().node_name.unwrap());
    for (args, says) in [
        (vec!["get", "nodes"], "worker-1"),
        (vec!["get", "pods", "-A", "-o", "name"], name.as_str()),
        (vec!["describe", "pod", &name], "Successfully assigned"),
        (vec!["logs", &name], "waiting as"),
        (vec!["rollout", "status", "deployment/mssql", "--timeout=20s"], "successfully rolled out"),
        (vec!["wait", "--for=condition=Available", "deployment/mssql", "--timeout=20s"], "condition met"),
        (vec!["label", "node", "worker-1", "a=b"], "labeled"),
        // Newer ones go on to say "drained", older ones say it of the node, too.
        (vec!["drain", &node, "--timeout=20s"], "evicted"),
        (vec!["rollout", "status", "deployment/mssql", "--timeout=20s"], "successfully rolled out"),
        (vec!["uncordon", &node], "uncordoned"),
        (vec!["delete", "pod", "-l", "app=mssql", "--timeout=20s"], "deleted"),
        (vec!["delete", "deployment", "mssql", "--cascade=foreground", "--timeout=20s"], "deleted"),
    ] {
        let output = kubectl(&kubeconfig, &args).await.expect("it ran a moment ago");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && text.contains(says), "kubectl {args:?}: {}\n{text}\n{errors}", output.status);
    }
    sandbox.stop().await;
}
