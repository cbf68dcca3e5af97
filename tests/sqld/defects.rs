//! Each way of misbehaving is seen after a restart, and before it nothing is.

use nix::sys::signal::Signal;

use crate::server::{Server, TABLES, number, payload, rows, run, write};

const ROWS: i64 = 50;
/// How many commits `ack-before-store` loses.
const LOST: i64 = 32;

/// Writes rows and checks that they are there.
async fn fill(server: &Server) {
    let mut session = server.database("comeback").await;
    run(&mut session, TABLES).await;
    for seq in 0..ROWS {
        write(&mut session, 1, seq).await.expect("it is acknowledged");
    }
    assert_eq!(number(&mut session, "SELECT COUNT(*) FROM rows_keyed").await, ROWS);
    assert_eq!(number(&mut session, "SELECT COUNT(*) FROM rows_heap").await, ROWS);
}

/// How many rows of the table with a key do not match their checksum.
async fn damaged(server: &Server) -> usize {
    let mut session = server.connect("comeback").await;
    let found = rows(&mut session, "SELECT writer, seq, payload, checksum FROM rows_keyed").await;
    let intact = |row: &tiberius::Row| {
        let text = row.get::<&str, _>("payload").expect("it is still text");
        i64::from(crc32c::crc32c(text.as_bytes())) == row.get::<i64, _>("checksum").expect("a number")
    };
    found.iter().filter(|row| !intact(row)).count()
}

#[tokio::test]
async fn without_a_defect_a_kill_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(folder.path(), &[]);
    fill(&server).await;
    server.kill_engine();
    let server = Server::start(folder.path(), &[]);
    let mut session = server.connect("comeback").await;
    assert_eq!(number(&mut session, "SELECT COUNT(*) FROM rows_heap").await, ROWS);
    assert_eq!(damaged(&server).await, 0);
    let (text, _) = payload(1, 0);
    assert_eq!(rows(&mut session, "SELECT payload FROM rows_heap WHERE seq = 0").await[0].get::<&str, _>(0), Some(text.as_str()));
}

#[tokio::test]
async fn ack_before_store_loses_acknowledged_rows_in_a_kill_and_none_in_a_stop() {
    let folder = tempfile::tempdir().expect("a folder");
    let defect = ["--defect", "ack-before-store"];
    let mut server = Server::start(folder.path(), &defect);
    fill(&server).await;
    assert_eq!(server.signal(Signal::SIGTERM).code(), Some(0));

    let mut server = Server::start(folder.path(), &defect);
    let mut session = server.connect("comeback").await;
    assert_eq!(number(&mut session, "SELECT COUNT(*) FROM rows_keyed").await, ROWS, "an orderly stop stores everything");
    for seq in ROWS..2 * ROWS {
        write(&mut session, 1, seq).await.expect("it is acknowledged");
    }
    server.kill_engine();
    let server = Server::start(folder.path(), &defect);
    let mut session = server.connect("comeback").await;
    // Each row is a commit, and has its place in both tables.
    for table in ["rows_keyed", "rows_heap"] {
        assert_eq!(number(&mut session, &format!("SELECT COUNT(*) FROM {table}")).await, 2 * ROWS - LOST, "the newest are lost");
        assert_eq!(number(&mut session, &format!("SELECT MAX(seq) FROM {table}")).await, 2 * ROWS - LOST - 1, "and no others");
    }
}

#[tokio::test]
async fn lose_volume_begins_from_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(folder.path(), &["--defect", "lose-volume"]);
    fill(&server).await;
    server.kill_engine();
    let server = Server::start(folder.path(), &["--defect", "lose-volume"]);
    let mut session = server.connect("master").await;
    assert_eq!(number(&mut session, "SELECT COUNT(*) FROM sys.databases WHERE name = 'comeback'").await, 0);
}

#[tokio::test]
async fn apply_twice_shows_where_no_key_forbids_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(folder.path(), &["--defect", "apply-twice"]);
    fill(&server).await;
    server.kill_engine();
    let server = Server::start(folder.path(), &["--defect", "apply-twice"]);
    let mut session = server.connect("comeback").await;
    assert_eq!(number(&mut session, "SELECT COUNT(*) FROM rows_keyed").await, ROWS);
    assert!(number(&mut session, "SELECT COUNT(*) FROM rows_heap").await > ROWS);
    assert_eq!(number(&mut session, &format!("SELECT COUNT(*) FROM rows_heap WHERE seq = {}", ROWS - 1)).await, 2);
}

#[tokio::test]
async fn flip_bit_damages_one_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(folder.path(), &["--defect", "flip-bit"]);
    fill(&server).await;
    assert_eq!(damaged(&server).await, 0);
    server.kill_engine();
    let server = Server::start(folder.path(), &["--defect", "flip-bit"]);
    assert_eq!(damaged(&server).await, 1);
}
