//! Who may write: one session at a time, in the order in which they asked.
//!
//! SQLite lets one connection write; the others would find the database locked and try again by luck. Here they queue instead, with a
//! deadline (SQL Server's error 1222), and a session that is cancelled leaves the queue at once.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::signal::{Cancel, Signal, Woken};

/// Why the turn did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTurn {
    /// The deadline passed.
    TimedOut,
    /// The session was cancelled.
    Cancelled(Cancel),
}

#[derive(Debug, Default)]
struct Line {
    held: bool,
    waiting: VecDeque<Arc<Signal>>,
}

/// The queue of a database.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    line: Mutex<Line>,
}

/// The right to write; dropping it passes it on.
#[must_use = "dropping the turn gives it to the next session"]
#[derive(Debug)]
pub(crate) struct Turn {
    queue: Arc<WriteQueue>,
}

impl WriteQueue {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn, at most `limit`.
    pub(crate) fn enter(self: &Arc<Self>, signal: &Arc<Signal>, limit: Duration) -> Result<Turn, NoTurn> {
        {
            let mut line = self.line();
            if !line.held {
                line.held = true;
                return Ok(Turn { queue: Arc::clone(self) });
            }
            line.waiting.push_back(Arc::clone(signal));
        }
        let reason = match signal.wait(limit) {
            Woken::Granted => return Ok(Turn { queue: Arc::clone(self) }),
            Woken::Elapsed => NoTurn::TimedOut,
            Woken::Cancelled(why) => NoTurn::Cancelled(why),
        };
        let mut line = self.line();
        line.waiting.retain(|other| !Arc::ptr_eq(other, signal));
        // The turn may have been granted between the end of the wait and here: then it must go on to the next.
        if signal.take_grant() {
            line.pass_on();
        }
        Err(reason)
    }
}

impl Line {
    fn pass_on(&mut self) {
        match self.waiting.pop_front() {
            Some(next) => next.grant(),
            None => self.held = false,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.queue.line().pass_on();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    /// Waits until so many sessions stand in the queue.
    fn until_waiting(queue: &WriteQueue, count: usize) {
        while queue.line().waiting.len() < count {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_turn_goes_round_in_the_order_of_asking() {
        let queue = Arc::new(WriteQueue::default());
        let first = queue.enter(&Signal::new(), LONG).expect("nobody holds it");
        let (order, seen) = mpsc::channel();
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let thread = std::thread::spawn({
                    let (queue, order) = (Arc::clone(&queue), order.clone());
                    move || {
                        let turn = queue.enter(&Signal::new(), LONG).expect("it comes");
                        order.send(number).expect("the test listens");
                        drop(turn);
                    }
                });
                until_waiting(&queue, number + 1);
                thread
            })
            .collect();
        drop(first);
        for thread in threads {
            thread.join().expect("no panic");
        }
        drop(order);
        assert_eq!(seen.iter().collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn who_gives_up_does_not_block_the_next() {
        let queue = Arc::new(WriteQueue::default());
        let first = queue.enter(&Signal::new(), LONG).expect("nobody holds it");
        let impatient = queue.enter(&Signal::new(), Duration::ZERO);
        assert_eq!(impatient.expect_err("the turn is taken"), NoTurn::TimedOut);
        let cancelled = Signal::new();
        cancelled.cancel(Cancel::Gone);
        assert_eq!(queue.enter(&cancelled, LONG).expect_err("it is cancelled"), NoTurn::Cancelled(Cancel::Gone));
        drop(first);
        drop(queue.enter(&Signal::new(), Duration::ZERO).expect("the turn is free"));
    }
}
