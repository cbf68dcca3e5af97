//! The life of a sandbox: several at once, and nothing left afterwards.

use comeback::sandbox::{Options, Sandbox, SandboxError};

use crate::support::{
    DEAD_WITHIN, PROGRAM, deploy, greeting, is_alive, pids, processes, ready_pod, sandbox, server, service_address, soon, until,
};

#[tokio::test]
async fn two_sandboxes_do_not_meet() {
    let ((one, first), (two, second)) = tokio::join!(sandbox(20), sandbox(20));
    assert_ne!(one.network(), two.network());
    tokio::join!(deploy(&first, server(), 30), deploy(&second, server(), 30));
    for client in [&first, &second] {
        let pod = ready_pod(client, "").await;
        let service = service_address(client).await;
        until("the service answers", crate::support::SOON, async || greeting(service).await.is_ok()).await;
        assert_eq!(greeting(service).await.unwrap(), pod.metadata.name.unwrap());
    }
    soon("both to stop", async { tokio::join!(one.stop(), two.stop()) }).await;
}

#[tokio::test]
async fn a_stopped_sandbox_leaves_nothing() {
    let (sandbox, client) = sandbox(20).await;
    deploy(&client, server(), 30).await;
    let pod = ready_pod(&client, "").await.metadata.name.unwrap();
    let started = pids(&processes(&client, &pod, "mssql").await.unwrap());
    assert!(started.iter().all(|pid| is_alive(*pid)));
    let dir = sandbox.dir().to_owned();
    soon("the sandbox to stop", sandbox.stop()).await;
    assert!(!started.iter().any(|pid| is_alive(*pid)));
    assert!(!dir.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_sandbox_leaves_nothing() {
    let (sandbox, client) = sandbox(20).await;
    deploy(&client, server(), 30).await;
    let pod = ready_pod(&client, "").await.metadata.name.unwrap();
    let started = pids(&processes(&client, &pod, "mssql").await.unwrap());
    let dir = sandbox.dir().to_owned();
    drop(sandbox);
    until("the processes are dead", DEAD_WITHIN, async || !started.iter().any(|pid| is_alive(*pid))).await;
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_sandbox_that_cannot_be_is_an_error() {
    let error = Sandbox::start(Options::new("/nonexistent/program")).await.unwrap_err();
    assert!(matches!(error, SandboxError::Binary(_)), "{error}");
    let error = Sandbox::start(Options { workers: 0, ..Options::new(PROGRAM) }).await.unwrap_err();
    assert!(matches!(error, SandboxError::Workers(0)), "{error}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Some(taken.local_addr().unwrap().port());
    let error = Sandbox::start(Options { port, ..Options::new(PROGRAM) }).await.unwrap_err();
    assert!(matches!(error, SandboxError::Listen { .. }), "{error}");
}
