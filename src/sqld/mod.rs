//! The stand-in database: TDS, the protocol of SQL Server, in front of SQLite.
//!
//! It takes SQL Server's place where there is none: on the sandbox and in closed networks. It says so in `@@VERSION`. What it promises is what
//! the harness tests: an acknowledged commit is on the disk, a restart brings it back, and it recovers as a database does, after SIGKILL
//! too. With a [`Defect`] it breaks a promise on purpose, so that the tester can be tested.
//!
//! ```text
//!   watchdog ── starts, and ends with ──> engine
//!                                           │ server: the instance, takes connections
//!                                           │
//!   client ══ packet ══ prelogin, tls, login ══ connection   (async: moves bytes)
//!                                                   │
//!                                                session     (a thread that may block)
//!                                                   │ batch or rpc ── tsql ──> SQLite's SQL
//!                                                   │ write_queue: one writer at a time
//!                                                   │ storage: a file for each database
//!                                                 token ── rows, errors, DONE ──> connection
//! ```
//!
//! - Beginning and end: `init`, `watchdog`, `engine`, `surroundings`, `conditions`, `log`.
//! - The protocol: `packet`, `prelogin`, `tls`, `login`, `rpc`, `token`, `types`, `codepage`, `moment`, `connection`.
//! - The language: `tsql`, `convert`, `functions`, `catalog`, `errors`.
//! - The rows: `session`, `storage`, `schema`, `write_queue`, `signal`, `defect`.
//!
//! # Caveats
//!
//! It is not SQL Server: no procedures, triggers, views or foreign keys, no temporary tables, one schema (`dbo`), one collation
//! (`SQL_Latin1_General_CP1_CI_AS`, without accents and beyond ASCII only roughly), `decimal` exact to some 15 digits, all writers of a
//! database one after the other. What it does not know it refuses with error 40510, and of the options that `SET` knows it takes those that
//! change nothing here.
//!
//! Where it differs without saying so:
//!
//! - A key is checked row by row: `UPDATE t SET a = a + 1` over the keys 1, 2, 3 is refused with 2627, because 2 is still there.
//! - In a key, as in every comparison, blanks at the end count: `'a'` and `'a '` are two keys. A unique key takes any number of NULLs.
//! - The identity numbers of an INSERT that failed, or that was open when the instance died, are given again; those of a rollback are not.
//! - A write that an attention interrupts takes its whole transaction along; the client is told so, and `@@TRANCOUNT` is 0.
//! - A client that asks for another isolation level when it begins a transaction gets `READ COMMITTED` all the same.

#![expect(clippy::doc_markdown, reason = "SQLite, FreeTDS and their like are names, not code")]

mod catalog;
mod codepage;
mod conditions;
mod connection;
mod convert;
mod defect;
mod engine;
mod errors;
mod functions;
mod init;
mod log;
mod login;
mod moment;
mod packet;
mod prelogin;
mod rpc;
mod schema;
mod server;
mod session;
mod signal;
mod storage;
mod surroundings;
mod tls;
mod token;
mod tsql;
mod types;
mod watchdog;
mod write_queue;

use std::{path::PathBuf, process::ExitCode, time::Duration};

pub use defect::Defect;
pub use init::Init;
use surroundings::{PROCESS_NAME, Surroundings};

/// What `comeback sqld` is told on its command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The folder of the data; the default is SQL Server's, `/var/opt/mssql`.
    pub data: Option<PathBuf>,
    /// Address, port, or both with a colon between; the default is every address and port 1433.
    pub listen: Option<String>,
    /// How to misbehave.
    pub defect: Option<Defect>,
    /// Views and commands that clients may not use, such as `sys.dm_os_sys_info` or `dbcc checkdb`.
    pub deny: Vec<String>,
    /// How much longer the recovery of each user database takes.
    pub recover_slowly: Option<Duration>,
    /// What the first process is, if not the watchdog.
    pub init: Option<Init>,
    /// Whether this process is the watchdog that such a process started.
    pub watchdog: bool,
    /// Whether this process is the engine that a watchdog started.
    pub engine: bool,
}

/// Runs the watchdog, or the engine if [`Options::engine`] says so, until it is told to stop; or what [`Options::init`] puts before them, until they end.
///
/// Must be called on the main thread and outside of any async runtime: the name of the process and the kernel's signal at the death of a
/// parent both belong to threads.
///
/// The exit code is 0 after SIGTERM, 1 if it could not start, and 128 + n after the engine was killed by signal n.
#[must_use]
pub fn main(options: &Options) -> ExitCode {
    let surroundings = Surroundings::from_environment();
    let init = options.init.filter(|_| !options.engine && !options.watchdog);
    if let Err(why) = surroundings.become_child_of_parent(init.map_or(PROCESS_NAME, Init::comm)) {
        log::line("Server", &format!("{why}."));
        return ExitCode::FAILURE;
    }
    match init {
        Some(init) => init::main(init),
        None if options.engine => engine::main(options, &surroundings),
        None => watchdog::main(),
    }
}
