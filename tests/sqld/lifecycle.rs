//! How a server begins, and how it ends.

use std::{os::unix::process::ExitStatusExt, process::Stdio, time::Instant};

use nix::sys::signal::{Signal, kill};
use rstest::rstest;

use crate::server::{Server, command, error, number, process, processes, rows, run, until};

#[tokio::test]
async fn the_watchdog_and_the_engine_have_sql_servers_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let watchdog = process(server.watchdog().as_raw()).expect("it runs");
    assert_eq!(watchdog.name, "sqlservr");
    let engine = process(server.engine().as_raw()).expect("it runs");
    assert_eq!((engine.name.as_str(), engine.parent), ("sqlservr", server.watchdog()));
}

#[rstest]
#[case::killed(Signal::SIGKILL, 137)]
#[case::aborted(Signal::SIGABRT, 134)]
#[tokio::test]
async fn the_watchdog_ends_as_the_engine_did(#[case] signal: Signal, #[case] code: i32) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(folder.path(), &[]);
    kill(server.engine(), signal).expect("it is ours");
    assert_eq!(server.wait().code(), Some(code));
}

#[tokio::test]
async fn a_killed_watchdog_takes_the_engine_along() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(folder.path(), &[]);
    let engine = server.engine();
    assert_eq!(server.signal(Signal::SIGKILL).signal(), Some(9));
    until("the engine to end", || process(engine.as_raw()).is_none().then_some(()));
}

#[rstest]
#[case::terminate(Signal::SIGTERM)]
#[case::interrupt(Signal::SIGINT)]
#[tokio::test]
async fn a_server_that_is_told_to_stop_ends_in_good_order(#[case] signal: Signal) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(folder.path(), &[]);
    let mut idle = server.database("comeback").await;
    run(&mut idle, "CREATE TABLE t (a int); BEGIN TRAN; INSERT INTO t VALUES (1)").await;
    let mut busy = server.connect("master").await;
    let waiting = tokio::spawn(async move { busy.simple_query("WAITFOR DELAY '01:00:00'").await.err().map(|error| error.to_string()) });
    assert_eq!(server.signal(signal).code(), Some(0));
    waiting.await.expect("no panic");
    server.wait_for("SQL Server is terminating in response to a 'stop' request");
    assert!(!folder.path().join("data/master.db-wal").exists(), "the log is written back");
    let again = Server::start(folder.path(), &[]);
    let mut session = again.connect("comeback").await;
    assert_eq!(number(&mut session, "SELECT COUNT(*) FROM t").await, 0, "what was not committed is rolled back");
}

#[test]
fn a_killed_parent_leaves_no_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let inner = command(folder.path(), &[]);
    let mut parent = std::process::Command::new("/bin/sh");
    parent
        .env_clear()
        .envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))))
        .args(["-c", "export COMEBACK_PARENT=$$; \"$@\" & wait", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .stdout(Stdio::piped());
    let server = Server::spawn(&mut parent);
    let shell = server.watchdog();
    let watchdog = until("the watchdog", || processes().into_iter().find(|one| one.parent == shell && one.name == "sqlservr"));
    let engine = until("the engine", || processes().into_iter().find(|one| one.parent == watchdog.pid && one.name == "sqlservr"));
    kill(shell, Signal::SIGKILL).expect("it is ours");
    for process_id in [watchdog.pid, engine.pid] {
        until("it to end", || process(process_id.as_raw()).is_none().then_some(()));
    }
}

#[test]
fn an_orphan_ends_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = command(folder.path(), &[]).env("COMEBACK_PARENT", "1").output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("it must have died"));
}

#[rstest]
#[case::no_licence("ACCEPT_EULA", "N", "End-User License Agreement")]
#[case::short_password("MSSQL_SA_PASSWORD", "Ab1!", "it is too short")]
#[case::simple_password("MSSQL_SA_PASSWORD", "aaaaaaaaaaaa", "it is not complex enough")]
#[case::no_password("MSSQL_SA_PASSWORD", "", "it is too short")]
fn a_first_start_that_lacks_something_says_what(#[case] variable: &str, #[case] value: &str, #[case] says: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let output = command(folder.path(), &[]).env(variable, value).output().expect("it starts");
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains(says), "{log}");
    assert!(value.is_empty() || variable != "MSSQL_SA_PASSWORD" || !log.contains(value), "the log shows the password:\n{log}");
}

#[tokio::test]
async fn later_starts_ignore_the_password_of_the_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(Server::start(folder.path(), &[]));
    let again = Server::spawn(command(folder.path(), &[]).env("MSSQL_SA_PASSWORD", "Anoth3r-one"));
    again.connect("master").await;
}

#[tokio::test]
async fn a_second_instance_on_the_same_data_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Server::start(folder.path(), &[]);
    let output = command(folder.path(), &[]).output().expect("it starts");
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("error 5(Access is denied.) occurred while opening file"), "{log}");
    first.connect("master").await;
}

#[tokio::test]
async fn a_taken_port_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it has one").to_string();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_comeback"))
        .env_clear()
        .envs([("ACCEPT_EULA", "Y"), ("MSSQL_SA_PASSWORD", crate::server::PASSWORD)])
        .args(["sqld", "--listen", &address, "--data"])
        .arg(folder.path())
        .output()
        .expect("it starts");
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("failed to listen on"), "{log}");
}

#[tokio::test]
async fn two_starts_have_two_times_however_close_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut last = None;
    for _ in 0..3 {
        let mut server = Server::start(folder.path(), &[]);
        let mut session = server.connect("master").await;
        let row = rows(&mut session, "SELECT sqlserver_start_time FROM sys.dm_os_sys_info").await.remove(0);
        let tiberius::ColumnData::DateTime(Some(time)) = row.cells().next().expect("a column").1 else { panic!("it is a datetime") };
        let time = Some((time.days(), time.seconds_fragments()));
        assert!(time > last, "{time:?} is not later than {last:?}");
        last = time;
        server.kill_engine();
    }
}

#[tokio::test]
async fn a_database_that_is_being_recovered_refuses_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Server::start(folder.path(), &[]);
    first.database("comeback").await;
    drop(first);
    let mut server = Server::start_listening(folder.path(), &["--recover-slowly", "10m"]);
    let refused = server.try_connect(server.config("comeback")).await.expect_err("it is not recovered");
    assert_eq!(refused.code(), Some(4060));
    let mut master = server.connect("master").await;
    assert_eq!(error(&mut master, "USE comeback").await, (921, 14));
    let state = rows(&mut master, "SELECT state_desc FROM sys.databases WHERE name = 'comeback'").await;
    assert_eq!(state[0].get::<&str, _>(0), Some("RECOVERING"));
    let told = Instant::now();
    assert_eq!(server.signal(Signal::SIGTERM).code(), Some(0));
    assert!(told.elapsed() < crate::server::DEADLINE, "a recovery does not hold up the end");
}
