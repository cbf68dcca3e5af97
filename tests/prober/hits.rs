//! A prober that is itself hit, or left alone.

use std::{collections::BTreeSet, time::Duration};

use comeback::{
    event::{Clock, Stream},
    prober::ProberError,
};

use crate::{
    process::{Process, connect, eventually, load, open, probe},
    proxy::{Mode, Proxy},
    server::{Server, within},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_prober_that_was_killed_tells_what_it_had_recorded_and_then_that_it_was_hit() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("db"), &[]);
    let mut process = Process::start(&folder.path().join("prober"), &[]);
    let proxy = Proxy::start(process.address, None, 0).await;
    let (prober, record) = connect(proxy.address, Clock::new());
    prober.open(open(&server)).await.unwrap();
    prober.create_tables("m", Duration::from_secs(30)).await.unwrap();
    prober.start_streams(&probe(), &load()).await.unwrap();
    record.wait_for(20).await;
    // The runner is away, the streams go on, the journal grows; then it is killed.
    proxy.set(Mode::Shut);
    let seen = record.attempts(Stream::WriteNew).len();
    let on_disk = |process: &Process| -> BTreeSet<u64> {
        let lines = process.journal();
        let headline = lines.iter().filter_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            let attempt = &message["message"][1]["attempt"][1];
            (attempt["stream"] == "write-new").then(|| attempt["number"].as_u64().expect("a number"))
        });
        headline.collect()
    };
    eventually("the journal grows without a runner", || on_disk(&process).len() >= seen + 50).await;
    process.kill();
    let known = on_disk(&process);
    let again = Process::start(&folder.path().join("prober"), &[]);
    proxy.aim(again.address);
    proxy.set(Mode::Open);

    let failure = within(prober.failed()).await;
    assert_eq!(failure, ProberError::Hit);
    assert!(failure.to_string().contains("the prober was hit"), "{failure}");
    // All that was on the disk is recorded, and nothing twice.
    let numbers = record.numbers(Stream::WriteNew);
    assert_eq!(numbers.iter().copied().collect::<BTreeSet<_>>().len(), numbers.len());
    assert_eq!(numbers.into_iter().collect::<BTreeSet<_>>(), known);
    // It stays failed: no question is answered, none hangs.
    assert_eq!(within(prober.life()).await, Err(ProberError::Hit));
    assert_eq!(within(prober.close_trial()).await, Err(ProberError::Hit));
    within(prober.close()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_on_an_empty_folder_is_not_taken_for_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(&folder.path().join("prober"), &[]);
    let proxy = Proxy::start(process.address, None, 0).await;
    let (prober, _record) = connect(proxy.address, Clock::new());
    let trial = comeback::prober::message::OpenTrial {
        run: "run-1".into(),
        number: 1,
        host: "127.0.0.1".into(),
        port: 1,
        user: "sa".into(),
        application: "a".into(),
        load_application: "b".into(),
    };
    prober.open(trial).await.unwrap();
    process.kill();
    let other = Process::start(&folder.path().join("other"), &[]);
    proxy.aim(other.address);
    let failure = within(prober.failed()).await;
    assert!(matches!(failure, ProberError::Refused(_) | ProberError::Hit), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_stops_the_streams_and_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("db"), &[]);
    let process = Process::start(&folder.path().join("prober"), &["--most-on-disk", "40000"]);
    let proxy = Proxy::start(process.address, None, 0).await;
    let (prober, record) = connect(proxy.address, Clock::new());
    prober.open(open(&server)).await.unwrap();
    prober.create_tables("m", Duration::from_secs(30)).await.unwrap();
    prober.start_streams(&probe(), &load()).await.unwrap();
    record.wait_for(5).await;
    proxy.set(Mode::Shut);
    eventually("the limit is reached", || process.journal().last().is_some_and(|line| line.contains(r#""full""#))).await;
    proxy.set(Mode::Open);
    assert_eq!(within(prober.failed()).await, ProberError::Full { limit: 40_000 });
    // What came before is recorded all the same, and once.
    let numbers = record.numbers(Stream::WriteNew);
    assert_eq!(numbers.iter().copied().collect::<BTreeSet<_>>().len(), numbers.len());
    assert!(numbers.len() > 5);
    // Nobody probes any more.
    let ended = process.journal().len();
    let mut session = server.connect("master").await;
    let count = "SELECT COUNT(*) FROM sys.dm_exec_sessions WHERE program_name = N'comeback load run-1'";
    let mut open = 1;
    while open > 0 {
        open = within(crate::server::number(&mut session, count)).await;
    }
    assert_eq!(process.journal().len(), ended);
}
