//! Two that do not belong together, and numbers that do not follow one another.

use std::net::SocketAddr;

use comeback::{
    event::Clock,
    prober::{Likeness, Prober, ProberError, message::Refusal, noted},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    process::{Process, SESSION, connect},
    server::within,
};

/// Sends one line to a prober and returns the first that comes back.
async fn say(address: SocketAddr, line: Value) -> Option<Value> {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(format!("{line}\n").as_bytes()).await.expect("it reads");
    let mut lines = BufReader::new(stream).lines();
    within(lines.next_line()).await.ok().flatten().map(|line| serde_json::from_str(&line).expect("JSON"))
}

fn hello(version: &str, session: &str, from: u64) -> Value {
    json!({"hello": {"version": version, "session": session, "from": from}})
}

#[tokio::test]
async fn another_version_another_session_and_lost_messages_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[]);
    let ours = env!("CARGO_PKG_VERSION");
    let refused = say(process.address, hello("0.0.0", SESSION, 1)).await.unwrap();
    assert_eq!(refused, json!({"refused": {"version": {"prober": ours, "runner": "0.0.0"}}}));
    let mut another_build = hello(ours, SESSION, 1);
    another_build["hello"]["program"] = json!("0123456789abcdef");
    let refused = say(process.address, another_build.clone()).await.unwrap();
    let its = &refused["refused"]["program"];
    let fingerprint = its["prober"].as_str().unwrap().to_owned();
    assert_eq!((its["runner"].as_str(), fingerprint.len()), (Some("0123456789abcdef"), 64), "{refused}");
    another_build["hello"]["program"] = json!(fingerprint);
    assert_eq!(say(process.address, another_build).await.unwrap()["welcome"]["program"], json!(fingerprint), "its own build is welcome");
    let refused = say(process.address, hello(ours, "another", 1)).await.unwrap();
    assert_eq!(refused, json!({"refused": {"session": {"prober": SESSION, "runner": "another"}}}));
    for from in [0, 2] {
        let refused = say(process.address, hello(ours, SESSION, from)).await.unwrap();
        assert_eq!(refused, json!({"refused": {"numbers": {"from": from, "first": 1, "next": 1}}}));
    }
    assert!(say(process.address, hello(ours, SESSION, 1)).await.unwrap()["welcome"].is_object());
    // Whoever does not say who they are is told nothing.
    assert_eq!(say(process.address, json!({"ping": {"t0": 1}})).await, None);
    assert_eq!(say(process.address, json!("GET / HTTP/1.1")).await, None);
}

/// A prober that greets and then says these lines, to each connection.
async fn fake(lines: Vec<Value>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let lines = lines.clone();
            tokio::spawn(async move {
                let (reader, mut writer) = stream.into_split();
                let mut heard = BufReader::new(reader).lines();
                let _ = heard.next_line().await;
                for line in lines {
                    let _ = writer.write_all(format!("{line}\n").as_bytes()).await;
                }
                while let Ok(Some(_)) = heard.next_line().await {}
            });
        }
    });
    address
}

async fn failure(lines: Vec<Value>) -> ProberError {
    let (prober, _record) = connect(fake(lines).await, Clock::new());
    within(prober.failed()).await
}

fn welcome() -> Value {
    json!({"welcome": {"life": "a", "next": 9}})
}

fn done(number: u64) -> Value {
    json!({"message": [number, {"reply": [1, "done"]}]})
}

#[tokio::test]
async fn a_gap_and_a_repeat_are_errors() {
    let gap = failure(vec![welcome(), done(1), done(3)]).await;
    assert_eq!(gap, ProberError::Numbers { expected: 2, got: 3 });
    assert_eq!(gap.to_string(), "the prober's messages do not follow one another: number 2 was due, and 3 came");
    assert_eq!(failure(vec![welcome(), done(1), done(2), done(2)]).await, ProberError::Numbers { expected: 3, got: 2 });
}

#[tokio::test]
async fn what_cannot_be_understood_is_an_error_and_not_passed_over() {
    assert!(matches!(failure(vec![welcome(), json!({"news": 1})]).await, ProberError::Garbled(_)));
    assert!(matches!(failure(vec![done(1)]).await, ProberError::Garbled(_)));
    // A moment before the clocks were compared cannot be placed.
    let held = json!({"message": [1, {"reply": [1, {"held": {"started": 1, "ended": 2, "found": true}}]}]});
    assert!(matches!(failure(vec![welcome(), held]).await, ProberError::Garbled(_)));
}

#[tokio::test]
async fn a_refusal_ends_it_at_once() {
    let refusal = Refusal::Version { prober: "0.0.0".into(), runner: "1.0.0".into() };
    let failed = failure(vec![json!({"refused": {"version": {"prober": "0.0.0", "runner": "1.0.0"}}})]).await;
    assert_eq!(failed, ProberError::Refused(refusal));
    let told = failed.to_string();
    assert!(told.starts_with("the prober is `comeback` 0.0.0, the runner is 1.0.0: both must be of one version"), "{told}");
    assert!(told.contains("run `comeback cluster up` again"), "{told}");
}

#[tokio::test]
async fn a_prober_of_another_build_is_refused_by_its_runner() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[]);
    // This test is another program than the prober, and an old prober says nothing of its build and greets everybody.
    for (address, known) in [(process.address, true), (fake(vec![welcome()]).await, false)] {
        let (notes, task) = noted(|_, _| {});
        tokio::spawn(task);
        let prober = Prober::there(address, SESSION, Likeness::Build, Clock::new(), notes);
        let failed = within(prober.failed()).await;
        assert!(matches!(&failed, ProberError::Refused(Refusal::Program { prober, .. }) if prober.is_empty() != known), "{failed:?}");
        assert!(failed.to_string().contains("run `comeback cluster up` again"), "{failed}");
    }
}
