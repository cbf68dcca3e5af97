//! A server for a test, and clients of it.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tiberius::{AuthMethod, Client, Config, EncryptionLevel};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

/// The password of `sa` in all tests.
pub(crate) const PASSWORD: &str = "C0me-back!";
/// Nothing that a test waits for takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// What the log says when all databases are there.
const RECOVERED: &str = "Recovery is complete.";

/// A client.
pub(crate) type Session = Client<Compat<TcpStream>>;

/// The lines of a log, as they come.
#[derive(Default)]
struct Lines {
    lines: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

/// A server: the watchdog, and through it the engine. Both are killed when it is dropped.
pub(crate) struct Server {
    watchdog: Child,
    log: Arc<Lines>,
    pub(crate) address: SocketAddr,
}

/// The command that starts a server on a folder; the environment is the one that a container gives.
pub(crate) fn command(folder: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_comeback"));
    command
        .env_clear()
        .envs([("ACCEPT_EULA", "Y"), ("MSSQL_SA_PASSWORD", PASSWORD), ("HOSTNAME", "stand-in")])
        .env("COMEBACK_PARENT", std::process::id().to_string())
        .args(["sqld", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

impl Server {
    /// Starts a server and waits until all its databases are recovered.
    pub(crate) fn start(folder: &Path, options: &[&str]) -> Self {
        let server = Self::start_listening(folder, options);
        server.wait_for(RECOVERED);
        server
    }

    /// Starts a server and waits until it listens.
    pub(crate) fn start_listening(folder: &Path, options: &[&str]) -> Self {
        Self::spawn(&mut command(folder, options))
    }

    /// Starts a server by a command of the caller's and waits until it listens.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut watchdog = command.spawn().expect("the server starts");
        let output = watchdog.stdout.take().expect("its output is a pipe");
        let log = Arc::new(Lines::default());
        thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    log.lines.lock().expect("no panic").0.push(line);
                    log.changed.notify_all();
                }
                log.lines.lock().expect("no panic").1 = true;
                log.changed.notify_all();
            }
        });
        let mut server = Self { watchdog, log, address: ([127, 0, 0, 1], 0).into() };
        let line = server.wait_for("Server is listening on [");
        let mut words = line.rsplit('[').next().expect("the line was found").split_whitespace();
        let ip = words.next().expect("the line names an address");
        let port = words.nth(1).expect("the line names a port");
        server.address = format!("{ip}:{port}").parse().expect("they are an address");
        server
    }

    /// Waits for a line that contains `text`.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut lines = self.log.lines.lock().expect("no panic");
        loop {
            if let Some(line) = lines.0.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!lines.1 && !left.is_zero(), "`{text}` is not in the log:\n{}", lines.0.join("\n"));
            lines = self.log.changed.wait_timeout(lines, left).expect("no panic").0;
        }
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lines.lock().expect("no panic").0.join("\n")
    }

    /// The watchdog's process.
    pub(crate) fn watchdog(&self) -> Pid {
        Pid::from_raw(self.watchdog.id().try_into().expect("it is a pid"))
    }

    /// The engine's process: the `sqlservr` whose parent is a `sqlservr`.
    pub(crate) fn engine(&self) -> Pid {
        until("the engine to be there", || {
            processes()
                .into_iter()
                .find(|process| process.parent == self.watchdog() && process.name == "sqlservr")
                .map(|process| process.pid)
        })
    }

    /// Kills the engine and waits for the watchdog to end, too.
    pub(crate) fn kill_engine(&mut self) -> ExitStatus {
        kill(self.engine(), Signal::SIGKILL).expect("it is ours");
        self.wait()
    }

    /// Sends a signal to the watchdog and waits for it to end.
    pub(crate) fn signal(&mut self, signal: Signal) -> ExitStatus {
        kill(self.watchdog(), signal).expect("it is ours");
        self.wait()
    }

    /// Waits for the watchdog to end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("the watchdog to end", || self.watchdog.try_wait().expect("it is our child"))
    }

    /// What a client needs to know.
    pub(crate) fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host(self.address.ip());
        config.port(self.address.port());
        config.authentication(AuthMethod::sql_server("sa", PASSWORD));
        config.encryption(EncryptionLevel::NotSupported);
        config.database(database);
        config.application_name("tests");
        config
    }

    /// A session in a database.
    pub(crate) async fn connect(&self, database: &str) -> Session {
        self.try_connect(self.config(database)).await.expect("the login is accepted")
    }

    /// A session, or why there is none.
    pub(crate) async fn try_connect(&self, config: Config) -> tiberius::Result<Session> {
        let stream = TcpStream::connect(self.address).await.expect("the server listens");
        stream.set_nodelay(true).expect("it is a TCP stream");
        within(Box::pin(Client::connect(config, stream.compat_write()))).await
    }

    /// A session in a database that is created first, if it is not there.
    pub(crate) async fn database(&self, name: &str) -> Session {
        let mut master = self.connect("master").await;
        run(&mut master, &format!("IF DB_ID(N'{name}') IS NULL CREATE DATABASE [{name}]")).await;
        self.connect(name).await
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "a failed test shows the server's log, captured with the rest of its output")]
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        if thread::panicking() {
            eprintln!("--- the server's log\n{}\n---", self.log());
        }
    }
}

/// A process of this machine.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) parent: Pid,
    pub(crate) name: String,
}

/// The processes of this machine.
pub(crate) fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").expect("there is a /proc");
    entries.filter_map(|entry| process(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}

/// A process, if it is there and not only waits to be collected.
pub(crate) fn process(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let mut tail = tail.split_whitespace();
    let state = tail.next()?;
    let parent = tail.next()?.parse().ok()?;
    let name = head.split_once('(')?.1.to_owned();
    (state != "Z").then_some(Process { pid: Pid::from_raw(pid), parent: Pid::from_raw(parent), name })
}

/// Looks again and again until there is something, or it takes too long.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Awaits something that must not take long.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it does not take that long")
}

/// Runs a batch that must succeed, and returns the rows of its first result.
pub(crate) async fn rows(session: &mut Session, sql: &str) -> Vec<tiberius::Row> {
    try_rows(session, sql).await.unwrap_or_else(|error| panic!("`{sql}` fails: {error}"))
}

/// Runs a batch, and returns the rows of its first result, or its first error.
pub(crate) async fn try_rows(session: &mut Session, sql: &str) -> tiberius::Result<Vec<tiberius::Row>> {
    within(async { session.simple_query(sql).await?.into_first_result().await }).await
}

/// Runs a batch that must succeed.
pub(crate) async fn run(session: &mut Session, sql: &str) {
    within(async { session.simple_query(sql).await?.into_results().await }).await.unwrap_or_else(|error| panic!("`{sql}` fails: {error}"));
}

/// The first error of a batch: its number and class.
pub(crate) async fn error(session: &mut Session, sql: &str) -> (u32, u8) {
    match within(async { session.simple_query(sql).await?.into_results().await }).await {
        Err(tiberius::error::Error::Server(token)) => (token.code(), token.class()),
        other => panic!("`{sql}` gives {other:?} and no error of the server's"),
    }
}

/// The only number of the only row of a query.
pub(crate) async fn number(session: &mut Session, sql: &str) -> i64 {
    let rows = rows(session, sql).await;
    let row = rows.first().unwrap_or_else(|| panic!("`{sql}` gives no row"));
    match row.cells().next().expect("it has a column").1 {
        tiberius::ColumnData::I32(Some(number)) => i64::from(*number),
        tiberius::ColumnData::I64(Some(number)) => *number,
        tiberius::ColumnData::I16(Some(number)) => i64::from(*number),
        other => panic!("`{sql}` gives {other:?}"),
    }
}

/// The tables of the harness.
pub(crate) const TABLES: &str = "
    IF OBJECT_ID(N'dbo.rows_keyed', N'U') IS NULL CREATE TABLE dbo.rows_keyed (trial varchar(64) NOT NULL, writer int NOT NULL,
        seq bigint NOT NULL, payload varchar(64) NOT NULL, checksum bigint NOT NULL, incarnation varchar(40) NULL,
        CONSTRAINT pk_rows_keyed PRIMARY KEY (trial, writer, seq));
    IF OBJECT_ID(N'dbo.rows_heap', N'U') IS NULL CREATE TABLE dbo.rows_heap (id bigint IDENTITY(1,1) NOT NULL, trial varchar(64) NOT NULL,
        writer int NOT NULL, seq bigint NOT NULL, payload varchar(64) NOT NULL, checksum bigint NOT NULL, incarnation varchar(40) NULL)";

/// A transaction of the harness: a row in each table, and the incarnation that took it.
pub(crate) const WRITE: &str = "SET NOCOUNT ON; SET XACT_ABORT ON;
    DECLARE @i varchar(40) = (SELECT CONVERT(varchar(33), sqlserver_start_time, 126) FROM sys.dm_os_sys_info);
    BEGIN TRANSACTION;
    INSERT INTO dbo.rows_keyed (trial, writer, seq, payload, checksum, incarnation) VALUES (@P1, @P2, @P3, @P4, @P5, @i);
    INSERT INTO dbo.rows_heap (trial, writer, seq, payload, checksum, incarnation) VALUES (@P1, @P2, @P3, @P4, @P5, @i);
    COMMIT TRANSACTION;
    SELECT @i AS incarnation";

/// The payload of a row, and the number that must go with it.
pub(crate) fn payload(writer: i32, seq: i64) -> (String, i64) {
    let text = format!("writer {writer} wrote {seq}");
    let sum = i64::from(crc32c::crc32c(text.as_bytes()));
    (text, sum)
}

/// Writes a row as the harness does; the incarnation that took it.
pub(crate) async fn write(session: &mut Session, writer: i32, seq: i64) -> tiberius::Result<String> {
    let (text, sum) = payload(writer, seq);
    let row = within(async { session.query(WRITE, &[&"trial", &writer, &seq, &text, &sum]).await?.into_row().await }).await?;
    Ok(row.and_then(|row| row.get::<&str, _>(0).map(ToOwned::to_owned)).unwrap_or_default())
}
