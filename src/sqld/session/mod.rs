//! A session: what one client asks, one request after the other.
//!
//! A session runs on a thread that may block. Reads see what is committed, each statement anew, as `READ COMMITTED` has it. The first
//! write of a transaction waits for its turn ([`super::write_queue`]) and begins a transaction of SQLite's, which ends with the client's;
//! until then nothing is locked. An acknowledgement is written only after SQLite's commit has returned.

mod changes;
mod requests;
mod rows;
mod statements;
mod transactions;

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::sqld::{
    errors,
    errors::SqlError,
    login::Login,
    packet::{Message, PacketType, Reset},
    server::Instance,
    signal::{Cancel, Signal},
    storage::{Database, Handle},
    token::{EnvChange, Gone, Response},
    write_queue::Turn,
};

/// How long a writer waits for its turn. SQL Server waits for ever unless told otherwise; a stand-in that hangs would only hide a fault.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// How deep texts may execute texts.
const MAX_EXECUTE_DEPTH: usize = 32;
/// The first handle of a prepared statement.
const FIRST_HANDLE: i64 = 1;

/// Why the statements do not go on.
#[derive(Debug)]
enum Stop {
    /// An error that nobody handled yet.
    Error(SqlError),
    /// An error that was reported and ends the batch.
    Aborted {
        /// Whether it ends the connection, too.
        fatal: bool,
    },
    /// The session was told to stop.
    Cancelled(Cancel),
    /// The client is gone.
    Gone,
    /// RETURN
    Return,
    /// BREAK
    Break,
    /// CONTINUE
    Continue,
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Self {
        Self::Error(error)
    }
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Whether the answer acknowledges an attention.
    pub(crate) attention: bool,
    /// Whether the connection must end.
    pub(crate) close: bool,
}

/// What `SET` changes.
#[derive(Clone, Debug)]
struct Options {
    no_count: bool,
    abort_on_error: bool,
    implicit_transactions: bool,
    lock_wait: Duration,
    identity_insert: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { no_count: false, abort_on_error: false, implicit_transactions: false, lock_wait: LOCK_WAIT, identity_insert: None }
    }
}

/// One client's session.
#[derive(Debug)]
pub(crate) struct Session {
    instance: Arc<Instance>,
    spid: u16,
    login: Login,
    packet_size: usize,
    home: Arc<Database>,
    database: Arc<Database>,
    handle: Option<Handle>,
    signal: Arc<Signal>,
    turn: Option<Turn>,
    transactions: u32,
    transaction_name: Option<String>,
    descriptor: u64,
    next_descriptor: u64,
    doomed: bool,
    savepoints: Vec<String>,
    options: Options,
    rows: i64,
    last_error: i32,
    identity: Option<i64>,
    caught: Option<SqlError>,
    trying: usize,
    depth: usize,
    prepared: HashMap<i64, (String, String)>,
    next_handle: i64,
}

impl Session {
    /// The session of a login that was accepted.
    pub(crate) fn new(
        instance: Arc<Instance>,
        spid: u16,
        login: Login,
        packet_size: usize,
        database: Arc<Database>,
        signal: Arc<Signal>,
    ) -> Self {
        Self {
            instance,
            spid,
            login,
            packet_size,
            home: Arc::clone(&database),
            database,
            handle: None,
            signal,
            turn: None,
            transactions: 0,
            transaction_name: None,
            descriptor: 0,
            next_descriptor: u64::from(spid) << 32,
            doomed: false,
            savepoints: Vec::new(),
            options: Options::default(),
            rows: 0,
            last_error: 0,
            identity: None,
            caught: None,
            trying: 0,
            depth: 0,
            prepared: HashMap::new(),
            next_handle: FIRST_HANDLE,
        }
    }

    /// Does what a message asks and sends the answer through `outlet`.
    pub(crate) fn answer(&mut self, message: &Message, outlet: mpsc::Sender<Bytes>) -> Ended {
        let mut out = Response::streamed(&self.instance.name, self.packet_size, outlet);
        self.note(true);
        if message.reset != Reset::No {
            self.reset(message.reset);
            out.env_change(EnvChange::Reset);
        }
        let stop = match message.kind {
            PacketType::Batch => self.batch(&message.body, &mut out),
            PacketType::Rpc => self.calls(&message.body, &mut out),
            PacketType::Transaction => self.transaction(&message.body, &mut out),
            other => {
                let error = errors::unsupported(format!("a message of type {other:?}"));
                self.report(&error, 1, &mut out);
                Err(Stop::Aborted { fatal: true })
            }
        };
        if self.transaction_is_lost() {
            // SQLite gives up the whole transaction when one of its writes is interrupted; the client must know before it goes on.
            self.forget_transaction(&mut out);
        }
        let attention = matches!(stop, Err(Stop::Cancelled(Cancel::Attention)));
        let fatal = matches!(stop, Err(Stop::Aborted { fatal: true } | Stop::Gone | Stop::Cancelled(Cancel::Gone | Cancel::Shutdown)));
        if attention {
            if self.options.abort_on_error && self.transactions > 0 {
                self.roll_back(&mut out);
            }
            self.signal.acknowledge_attention();
            out.attention_done();
        } else if matches!(stop, Err(Stop::Cancelled(Cancel::Shutdown))) {
            self.report(&errors::shutting_down(), 1, &mut out);
            out.batch_done();
        }
        let close = fatal || out.is_gone();
        self.note(false);
        out.finish();
        Ended { attention, close }
    }

    fn note(&self, running: bool) {
        self.instance.note(self.spid, |info| {
            info.running = running;
            info.transactions = self.transactions;
            if info.database != self.database.name {
                info.database.clone_from(&self.database.name);
            }
        });
    }

    /// Makes the session as new, for a client that takes it out of its pool.
    fn reset(&mut self, reset: Reset) {
        if reset != Reset::KeepTransaction {
            self.abandon();
        }
        self.options = Options::default();
        self.prepared.clear();
        self.rows = 0;
        self.last_error = 0;
        self.identity = None;
        // A transaction that is kept and has written keeps its database, too: nowhere else can it be committed.
        if self.turn.is_none() && !Arc::ptr_eq(&self.database, &self.home) {
            self.leave_database();
            self.database = Arc::clone(&self.home);
        }
    }

    fn leave_database(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.database.give_back(handle);
        }
    }

    /// Rolls back what is open, without telling anyone.
    fn abandon(&mut self) {
        if self.turn.is_some() {
            self.roll_back_storage();
        }
        self.transactions = 0;
        self.doomed = false;
        self.savepoints.clear();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.abandon();
        self.leave_database();
    }
}
