//! What wakes or stops a session while it works: a cancel, or its turn to write.
//!
//! A session runs on a thread of its own and waits nowhere else than here, so that an attention, a dead client or the end of the server
//! reaches it wherever it is: in `WAITFOR`, in the queue of writers, or (through SQLite's progress handler) in the midst of a statement.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

/// Why a session must stop what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// The client asks for it and waits for the acknowledgement.
    Attention,
    /// The client is gone.
    Gone,
    /// The server stops.
    Shutdown,
}

impl Cancel {
    const fn code(self) -> u8 {
        match self {
            Self::Attention => 1,
            Self::Gone => 2,
            Self::Shutdown => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Attention),
            2 => Some(Self::Gone),
            3 => Some(Self::Shutdown),
            _ => None,
        }
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// It is this session's turn.
    Granted,
    /// The time is over.
    Elapsed,
    /// The session must stop.
    Cancelled(Cancel),
}

/// One session's signal.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    granted: Mutex<bool>,
    changed: Condvar,
    cancelled: AtomicU8,
}

impl Signal {
    /// A signal that nobody gave yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn granted(&self) -> MutexGuard<'_, bool> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the session. A graver reason replaces a lesser one.
    pub(crate) fn cancel(&self, why: Cancel) {
        let _guard = self.granted();
        self.cancelled.fetch_max(why.code(), Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Why the session must stop, if it must. Cheap: SQLite's progress handler asks it.
    pub(crate) fn cancelled(&self) -> Option<Cancel> {
        Cancel::from_code(self.cancelled.load(Ordering::SeqCst))
    }

    /// Forgets an attention that was acknowledged; the other reasons stay.
    pub(crate) fn acknowledge_attention(&self) {
        let _ = self.cancelled.compare_exchange(Cancel::Attention.code(), 0, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// It is this session's turn.
    pub(crate) fn grant(&self) {
        *self.granted() = true;
        self.changed.notify_all();
    }

    /// Takes a turn back that was granted to nobody who waits.
    pub(crate) fn take_grant(&self) -> bool {
        std::mem::take(&mut *self.granted())
    }

    /// Waits for a turn, a cancel, or the end of `limit`.
    pub(crate) fn wait(&self, limit: Duration) -> Woken {
        let deadline = Instant::now() + limit;
        let mut granted = self.granted();
        loop {
            if let Some(why) = self.cancelled() {
                return Woken::Cancelled(why);
            }
            if std::mem::take(&mut *granted) {
                return Woken::Granted;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Woken::Elapsed;
            }
            granted = self.changed.wait_timeout(granted, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancel_ends_a_long_wait() {
        let signal = Signal::new();
        let waiter = std::thread::spawn({
            let signal = Arc::clone(&signal);
            move || signal.wait(Duration::from_mins(10))
        });
        signal.cancel(Cancel::Attention);
        assert_eq!(waiter.join().expect("it does not panic"), Woken::Cancelled(Cancel::Attention));
    }

    #[test]
    fn an_attention_is_forgotten_and_a_dead_client_is_not() {
        let signal = Signal::new();
        signal.cancel(Cancel::Attention);
        signal.acknowledge_attention();
        assert_eq!(signal.cancelled(), None);
        signal.cancel(Cancel::Gone);
        signal.cancel(Cancel::Attention);
        signal.acknowledge_attention();
        assert_eq!(signal.cancelled(), Some(Cancel::Gone));
    }
}
