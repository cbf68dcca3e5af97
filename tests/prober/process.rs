//! A prober for a test, and what it told.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use comeback::{
    event::{Attempt, Clock, EventKind, LedgerEntry, Side, Stream, TimeBound},
    prober::{Dial, Likeness, Prober, message::OpenTrial, noted},
    scenario::{HumanDuration, Load, Probe, Rate},
};

use crate::server::{DEADLINE, PASSWORD, Server};

/// The session of all tests; each has a folder of its own.
pub(crate) const SESSION: &str = "run-1-session";

/// A prober's process. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    data: PathBuf,
}

impl Process {
    /// Starts one on this folder and waits until it listens.
    pub(crate) fn start(data: &Path, options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_comeback"))
            .env_clear()
            .envs([("MSSQL_SA_PASSWORD", PASSWORD), ("COMEBACK_PARENT", &std::process::id().to_string())])
            .args(["prober", "--session", SESSION, "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the prober starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().rsplit(' ').next().and_then(|address| address.parse().ok());
        Self { child, address: address.unwrap_or_else(|| panic!("no address in `{line}`")), data: data.to_owned() }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    /// The lines of its journal, as they are on the disk.
    pub(crate) fn journal(&self) -> Vec<String> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(&self.data)
            .expect("the folder of the journal")
            .map(|entry| entry.expect("a file").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "ndjson"))
            .collect();
        files.sort();
        files
            .iter()
            .flat_map(|file| std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All that was recorded.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<EventKind>>>);

impl Record {
    pub(crate) fn events(&self) -> Vec<EventKind> {
        self.0.lock().expect("no panic").clone()
    }

    /// Takes what is noted.
    pub(crate) fn taker(&self) -> impl FnMut(u32, EventKind) + Send + 'static + use<> {
        let events = self.0.clone();
        move |_, event| events.lock().expect("no panic").push(event)
    }

    /// How the clocks compared.
    pub(crate) fn clocks(&self) -> Vec<(Side, TimeBound)> {
        let compared = self.events().into_iter().filter_map(|event| match event {
            EventKind::TimesCompared(side, bound) => Some((side, bound)),
            _ => None,
        });
        compared.collect()
    }

    pub(crate) fn attempts(&self, stream: Stream) -> Vec<Attempt> {
        let attempts = self.events().into_iter().filter_map(|event| match event {
            EventKind::Attempt(attempt) if attempt.stream == stream => Some(*attempt),
            _ => None,
        });
        attempts.collect()
    }

    pub(crate) fn ledger(&self) -> Vec<LedgerEntry> {
        let entries = self.events().into_iter().filter_map(|event| match event {
            EventKind::Ledger(entry) => Some(entry),
            _ => None,
        });
        entries.collect()
    }

    /// The numbers of the attempts of a stream, in order.
    pub(crate) fn numbers(&self, stream: Stream) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.attempts(stream).iter().map(|attempt| attempt.number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Waits until so many attempts of the headline stream are recorded.
    pub(crate) async fn wait_for(&self, attempts: usize) {
        eventually(&format!("{attempts} attempts"), || self.attempts(Stream::WriteNew).len() >= attempts).await;
    }
}

/// Waits for what nobody tells of.
pub(crate) async fn eventually(what: &str, mut seen: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + DEADLINE;
    while !seen() {
        assert!(tokio::time::Instant::now() < end, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A runner's handle to the prober that `dial` finds, and its record.
pub(crate) fn connect<D: Dial>(dial: D, clock: Clock) -> (Prober, Record) {
    let record = Record::default();
    let (notes, task) = noted(record.taker());
    tokio::spawn(task);
    (Prober::there(dial, SESSION, Likeness::Version, clock, notes), record)
}

pub(crate) fn open(server: &Server) -> OpenTrial {
    OpenTrial {
        run: "run-1".into(),
        number: 1,
        host: server.address.ip().to_string(),
        port: server.address.port(),
        user: "sa".into(),
        application: "comeback run-1".into(),
        load_application: "comeback load run-1".into(),
    }
}

pub(crate) fn probe() -> Probe {
    // A machine that is busy must not make an attempt fail.
    Probe { every: HumanDuration::from_millis(20), timeout: HumanDuration::from_millis(15_000) }
}

pub(crate) fn load() -> Load {
    Load { writers: 3, rate: Rate { per_second: 100 }, rows_before: 2_000 }
}
