//! The instance that all connections share, and the loop that takes them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{NaiveDateTime, Utc};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{conditions::Conditions, connection, log, login::Login, storage::Storage};

/// The most connections at once. Each may hold a thread, so there are as many threads (see [`super::engine`]).
pub(crate) const MAX_CONNECTIONS: usize = 1000;
/// The number of the first session; the ones below are the system's.
const FIRST_SPID: u16 = 51;

/// What is known of a session from outside.
#[derive(Clone, Debug)]
pub(crate) struct SessionInfo {
    /// When it logged in.
    pub(crate) since: NaiveDateTime,
    /// The login.
    pub(crate) user: String,
    /// The client's machine, as it says.
    pub(crate) host: String,
    /// The client's program, as it says.
    pub(crate) program: String,
    /// The client's address.
    pub(crate) address: String,
    /// Whether the connection is encrypted.
    pub(crate) encrypted: bool,
    /// Its database.
    pub(crate) database: String,
    /// Whether it works right now.
    pub(crate) running: bool,
    /// How many transactions it has open, one in the other.
    pub(crate) transactions: u32,
}

/// A server.
pub(crate) struct Instance {
    /// Its name: that of the machine.
    pub(crate) name: String,
    /// Where the rows are.
    pub(crate) storage: Storage,
    /// TLS, with the instance's own certificate.
    pub(crate) tls: TlsAcceptor,
    /// Cancelled when the server stops.
    pub(crate) stopping: CancellationToken,
    /// What is wrong with the volume.
    pub(crate) conditions: Conditions,
    denied: Vec<String>,
    sessions: Mutex<BTreeMap<u16, SessionInfo>>,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A session's number; dropping it makes it free.
#[derive(Debug)]
pub(crate) struct Seat {
    instance: Arc<Instance>,
    /// The number.
    pub(crate) spid: u16,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.instance.lock().remove(&self.spid);
    }
}

impl Instance {
    /// An instance over open storage; `denied` are the views and commands that clients may not use.
    pub(crate) fn new(
        name: String,
        storage: Storage,
        tls: TlsAcceptor,
        denied: &[String],
        conditions: Conditions,
        stopping: CancellationToken,
    ) -> Self {
        let denied = denied.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
        Self { name, storage, tls, stopping, conditions, denied, sessions: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u16, SessionInfo>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether clients may not use a view (`sys.dm_os_sys_info`) or a command (`dbcc checkdb`).
    pub(crate) fn denies(&self, name: &str) -> bool {
        self.denied.iter().any(|denied| denied == name)
    }

    /// The sessions, by number.
    pub(crate) fn sessions(&self) -> Vec<(u16, SessionInfo)> {
        self.lock().iter().map(|(spid, info)| (*spid, info.clone())).collect()
    }

    /// Notes something about a session.
    pub(crate) fn note(&self, spid: u16, change: impl FnOnce(&mut SessionInfo)) {
        if let Some(info) = self.lock().get_mut(&spid) {
            change(info);
        }
    }

    /// A number for a new session; `None`: there are too many.
    pub(crate) fn seat(self: &Arc<Self>, login: &Login, address: SocketAddr, encrypted: bool, database: &str) -> Option<Seat> {
        let mut sessions = self.lock();
        if sessions.len() >= MAX_CONNECTIONS {
            return None;
        }
        let spid = (FIRST_SPID..=u16::MAX).find(|spid| !sessions.contains_key(spid)).expect("there are more numbers than connections");
        let info = SessionInfo {
            since: Utc::now().naive_utc(),
            user: login.user.clone(),
            host: login.host.clone(),
            program: login.program.clone(),
            address: address.ip().to_string(),
            encrypted,
            database: database.to_owned(),
            running: false,
            transactions: 0,
        };
        sessions.insert(spid, info);
        Some(Seat { instance: Arc::clone(self), spid })
    }
}

/// Takes connections until the instance stops, then waits until the last has ended.
pub(crate) async fn serve(instance: Arc<Instance>, listener: TcpListener) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = instance.stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                connections.spawn(connection::serve(Arc::clone(&instance), stream, address));
            }
            Err(error) => {
                // Too many open files, most likely: let some close before trying again.
                log::line("Server", &format!("Could not take a connection: {error}."));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// How long the loop rests after a connection could not be taken.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
