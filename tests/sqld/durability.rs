//! What was acknowledged is there, whoever is killed; and writers do not get in each other's way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::sys::signal::Signal;
use rstest::rstest;
use tokio::sync::Notify;

use crate::{
    server::{Server, Session, TABLES, number, payload, rows, run, within, write},
    wire::{END, Wire, is_attention},
};

const WRITERS: i32 = 4;
const STOPS: usize = 12;

/// What clients know of the rows that they wrote.
#[derive(Default)]
struct Ledger {
    acknowledged: Mutex<BTreeMap<(i32, i64), String>>,
    attempted: Mutex<BTreeSet<(i32, i64)>>,
    count: AtomicU64,
    changed: Notify,
}

/// The rows of a table, by key; a key that comes twice is a failure.
async fn read(session: &mut Session, table: &str) -> BTreeMap<(i32, i64), String> {
    let mut found = BTreeMap::new();
    for row in rows(
        session,
        &format!("SELECT writer, seq, payload, checksum, incarnation FROM {table} WHERE trial = 'trial' ORDER BY writer, seq"),
    )
    .await
    {
        let key = (row.get::<i32, _>(0).expect("a writer"), row.get::<i64, _>(1).expect("a number"));
        let (text, sum) = payload(key.0, key.1);
        assert_eq!((row.get::<&str, _>(2), row.get::<i64, _>(3)), (Some(text.as_str()), Some(sum)), "row {key:?} of {table} is damaged");
        let before = found.insert(key, row.get::<&str, _>(4).unwrap_or_default().to_owned());
        assert_eq!(before, None, "row {key:?} of {table} is there twice");
    }
    found
}

#[rstest]
#[case::killed(Signal::SIGKILL, 137)]
#[case::told_to_stop(Signal::SIGTERM, 0)]
#[tokio::test]
async fn acknowledged_rows_survive_stop_after_stop(#[case] signal: Signal, #[case] code: i32) {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = Arc::new(Ledger::default());
    let mut next = [0_i64; WRITERS as usize];
    for round in 0..STOPS {
        let mut server = Server::start(folder.path(), &[]);
        let mut session = server.database("comeback").await;
        run(&mut session, TABLES).await;
        let (keyed, heap) = (read(&mut session, "rows_keyed").await, read(&mut session, "rows_heap").await);
        assert_eq!(keyed, heap, "a transaction is torn");
        for (key, incarnation) in ledger.acknowledged.lock().expect("no panic").iter() {
            assert_eq!(keyed.get(key), Some(incarnation), "row {key:?} was acknowledged before stop {round} and is lost");
        }
        let attempted = ledger.attempted.lock().expect("no panic").clone();
        assert!(keyed.keys().all(|key| attempted.contains(key)), "there are rows that nobody wrote");

        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let mut session = server.connect("comeback").await;
            let (ledger, first) = (Arc::clone(&ledger), next[usize::try_from(writer).expect("it is small")]);
            writers.push(tokio::spawn(async move {
                for seq in first.. {
                    ledger.attempted.lock().expect("no panic").insert((writer, seq));
                    let Ok(incarnation) = write(&mut session, writer, seq).await else { return seq + 1 };
                    ledger.acknowledged.lock().expect("no panic").insert((writer, seq), incarnation);
                    ledger.count.fetch_add(1, Ordering::SeqCst);
                    ledger.changed.notify_one();
                }
                unreachable!("the stop ends it")
            }));
        }
        // The stop comes after so many acknowledgements, at whatever point the other writers are.
        let enough = ledger.count.load(Ordering::SeqCst) + 7 + 5 * u64::try_from(round).expect("it is small");
        within(async {
            while ledger.count.load(Ordering::SeqCst) < enough {
                ledger.changed.notified().await;
            }
        })
        .await;
        let ended = if signal == Signal::SIGKILL { server.kill_engine() } else { server.signal(signal) };
        assert_eq!(ended.code(), Some(code));
        for (writer, task) in writers.into_iter().enumerate() {
            next[writer] = within(task).await.expect("no panic");
        }
    }
    assert!(ledger.count.load(Ordering::SeqCst) > u64::try_from(STOPS).expect("it is small") * 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_at_once_all_get_their_turn() {
    const SESSIONS: i32 = 8;
    const EACH: i64 = 25;
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut first = server.database("comeback").await;
    run(&mut first, TABLES).await;
    let mut tasks = Vec::new();
    for writer in 0..SESSIONS {
        let mut session = server.connect("comeback").await;
        tasks.push(tokio::spawn(async move {
            for seq in 0..EACH {
                write(&mut session, writer, seq).await.expect("nobody is locked out");
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    let expected = i64::from(SESSIONS) * EACH;
    assert_eq!(number(&mut first, "SELECT COUNT_BIG(*) FROM rows_keyed").await, expected);
    assert_eq!(number(&mut first, "SELECT COUNT_BIG(DISTINCT id) FROM rows_heap").await, expected);
}

#[tokio::test]
async fn a_client_that_dies_in_a_transaction_is_rolled_back_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut survivor = server.database("comeback").await;
    run(&mut survivor, "CREATE TABLE t (a int)").await;
    let mut doomed = server.connect("comeback").await;
    run(&mut doomed, "BEGIN TRAN; INSERT INTO t VALUES (1)").await;
    assert_eq!(number(&mut survivor, "SELECT COUNT(*) FROM t").await, 0);
    drop(doomed);
    // The survivor's write has to wait for the turn, and gets it when the dead client's transaction is gone.
    run(&mut survivor, "INSERT INTO t VALUES (2)").await;
    assert_eq!(number(&mut survivor, "SELECT SUM(a) FROM t").await, 2);
}

#[rstest]
#[case::one_request_ahead(1)]
#[case::two_requests_ahead(2)]
#[tokio::test]
async fn a_client_that_asks_ahead_and_dies_is_rolled_back_at_once(#[case] ahead: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut survivor = server.database("comeback").await;
    run(&mut survivor, "CREATE TABLE t (a int)").await;
    let mut doomed = Wire::connect(server.address, "comeback");
    doomed.run("BEGIN TRAN; INSERT INTO t VALUES (1)");
    doomed.batch(END, "WAITFOR DELAY '00:10:00'");
    for _ in 0..ahead {
        doomed.batch(END, "INSERT INTO t VALUES (2)");
    }
    drop(doomed);
    run(&mut survivor, "INSERT INTO t VALUES (4)").await;
    assert_eq!(number(&mut survivor, "SELECT SUM(a) FROM t").await, 4);
}

#[tokio::test]
async fn an_attention_stops_what_was_asked_ahead_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut watcher = server.database("comeback").await;
    run(&mut watcher, "CREATE TABLE t (a int)").await;
    let mut hasty = Wire::connect(server.address, "comeback");
    hasty.batch(END, "WAITFOR DELAY '00:10:00'");
    hasty.batch(END, "INSERT INTO t VALUES (1)");
    hasty.attention();
    assert!(is_attention(&hasty.answer()));
    hasty.run("INSERT INTO t VALUES (2)");
    assert_eq!(number(&mut watcher, "SELECT SUM(a) FROM t").await, 2);
}

#[tokio::test]
async fn a_writer_that_waits_too_long_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut holder = server.database("comeback").await;
    run(&mut holder, "CREATE TABLE t (a int); BEGIN TRAN; INSERT INTO t VALUES (1)").await;
    let mut other = server.connect("comeback").await;
    run(&mut other, "SET LOCK_TIMEOUT 20").await;
    assert_eq!(crate::server::error(&mut other, "INSERT INTO t VALUES (2)").await, (1222, 16));
    run(&mut holder, "COMMIT").await;
    run(&mut other, "INSERT INTO t VALUES (2)").await;
    assert_eq!(number(&mut other, "SELECT SUM(a) FROM t").await, 3);
}
