//! Commands in a container that runs, as `kubectl exec` runs them.

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{
    Api, Client,
    api::{AttachParams, AttachedProcess},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{SOON, code, is_alive, is_ready, pids, processes, run_pod, sandbox, server, soon, switch, until, wait_for_pod};

async fn pod(client: &Client) -> Api<Pod> {
    let pods = Api::<Pod>::default_namespaced(client.clone());
    run_pod(client, "p", server(), 30).await;
    wait_for_pod(&pods, "the pod to be ready", is_ready).await;
    pods
}

async fn run(pods: &Api<Pod>, command: &[&str], params: &AttachParams) -> AttachedProcess {
    soon("the connection", pods.exec("p", command.to_vec(), params)).await.expect("it is accepted")
}

async fn end(mut process: AttachedProcess) -> (String, String, Status) {
    let status = process.take_status().expect("asked once");
    let (mut out, mut err) = (String::new(), String::new());
    soon("the output", async {
        process.stdout().expect("asked once").read_to_string(&mut out).await.unwrap();
        process.stderr().expect("asked once").read_to_string(&mut err).await.unwrap();
    })
    .await;
    let status = soon("the status", status).await.expect("there is a status");
    soon("the end", process.join()).await.expect("it ends in order");
    (out, err, status)
}

fn exit_code(status: &Status) -> Option<String> {
    let causes = status.details.as_ref()?.causes.as_ref()?;
    causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"))?.message.clone()
}

#[tokio::test]
async fn a_command_has_its_streams_and_its_exit_code() {
    let (_sandbox, client) = sandbox(20).await;
    let pods = pod(&client).await;
    let (out, err, status) = end(run(&pods, &["comeback", "--version"], &AttachParams::default()).await).await;
    assert!(out.starts_with("comeback ") && err.is_empty(), "{out} {err}");
    assert_eq!(status.status.as_deref(), Some("Success"));
    let (_, _, status) = end(run(&pods, &["/comeback", "sandbox-pause", "--exit", "7"], &AttachParams::default()).await).await;
    assert_eq!((status.reason.as_deref(), exit_code(&status).as_deref()), (Some("NonZeroExitCode"), Some("7")));
    let (out, err, status) = end(run(&pods, &["comeback", "nosuch"], &AttachParams::default()).await).await;
    assert!(out.is_empty() && err.contains("nosuch"), "what it says of the mistake is on its own channel: {out} {err}");
    assert_eq!(exit_code(&status).as_deref(), Some("2"));
}

#[tokio::test]
async fn a_program_that_is_not_in_the_image_is_not_found() {
    let (_sandbox, client) = sandbox(20).await;
    let pods = pod(&client).await;
    for (program, why) in [
        ("sh", "exec: \"sh\": executable file not found in $PATH"),
        ("/bin/sh", "exec: \"/bin/sh\": stat /bin/sh: no such file or directory"),
    ] {
        let (_, _, status) = end(run(&pods, &[program, "-c", "true"], &AttachParams::default()).await).await;
        assert_eq!((status.reason.as_deref(), exit_code(&status)), (Some("InternalError"), None));
        assert!(status.message.as_ref().unwrap().ends_with(why), "{status:?}");
    }
    assert!(pods.exec("nosuch", ["comeback"], &AttachParams::default()).await.is_err());
}

#[tokio::test]
async fn a_command_dies_with_the_connection_and_with_its_node() {
    let (_sandbox, client) = sandbox(20).await;
    let pods = pod(&client).await;
    let there = async || pids(&processes(&client, "p", "c").await.unwrap());
    until("both processes of the container run", SOON, async || there().await.len() == 2).await;
    let before = there().await;
    let started = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i64>().ok());
        let ours = |pid: &i64| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            is_alive(*pid) && String::from_utf8_lossy(&line).contains("exec-test-marker")
        };
        all.filter(ours).collect::<Vec<_>>()
    };
    let waits = ["comeback", "sandbox-pause", "--comm", "exec-test-marker"];
    let process = run(&pods, &waits, &AttachParams::default()).await;
    until("the command runs", SOON, async || started().len() == 1).await;
    drop(process);
    until("the command is gone", SOON, async || started().is_empty()).await;
    assert_eq!(there().await, before, "the container is as it was");

    let _process = run(&pods, &waits, &AttachParams::default()).await;
    until("the command runs", SOON, async || started().len() == 1).await;
    let node = pods.get("p").await.unwrap().spec.unwrap().node_name.unwrap();
    switch(&client, &node, "off").await.unwrap();
    assert!(started().is_empty(), "off is off for it, too");
    let error = pods.exec("p", ["comeback", "--version"], &AttachParams::default()).await.err().expect("nobody is there");
    assert!(!error.to_string().is_empty());
}

#[tokio::test]
async fn what_is_written_to_a_command_arrives_and_its_input_can_be_closed() {
    let (_sandbox, client) = sandbox(20).await;
    let pods = pod(&client).await;
    let mut process = run(&pods, &["comeback", "sandbox-pause", "--stdin"], &AttachParams::default().stdin(true)).await;
    let mut stdin = process.stdin().expect("asked for");
    soon("the input", async {
        stdin.write_all(b"one\ntwo\n").await.unwrap();
        stdin.shutdown().await.unwrap();
    })
    .await;
    drop(stdin);
    let (out, err, status) = end(process).await;
    assert_eq!((out.as_str(), err.as_str(), status.status.as_deref()), ("one\ntwo\n", "", Some("Success")));
    let request = http::Request::get("/api/v1/namespaces/default/pods/p/exec?stdout=true").body(Vec::new()).unwrap();
    assert_eq!(code(&client.request::<serde_json::Value>(request).await.unwrap_err()), 400, "no command");
    let request = http::Request::post("/api/v1/namespaces/default/pods/p/exec?stdout=true&command=comeback").body(Vec::new()).unwrap();
    assert_eq!(code(&client.request::<serde_json::Value>(request).await.unwrap_err()), 400, "no WebSocket");
}
