//! The rows that are there before the first fault, and the writers that go on while it happens.
//!
//! A writer keeps one connection and sends a row only when it knows the outcome of the one before (closed loop). Its rows are for the data
//! laws; the outage is measured by the open-loop probe, never by a writer.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{Server, Session, SqlError, Tables, tables::DATABASE};
use crate::{
    event::{Incarnation, LedgerEntry, Outcome, RowKey},
    scenario::Load,
};

/// The longest that a writer waits for one row, its connection included.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// The longest that a batch of rows before the first fault may take.
pub const BATCH_DEADLINE: Duration = Duration::from_secs(30);

/// How many rows one transaction writes before the first fault.
const BATCH: u64 = 50;

/// How long outcomes are collected before they are recorded as a range.
const LEDGER_PERIOD: Duration = Duration::from_millis(250);

/// The rows before the first fault could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the rows before the first fault (writer {writer}, rows {from} to {to})")]
pub struct RowsBeforeError {
    writer: u32,
    from: u64,
    to: u64,
    source: SqlError,
}

/// How many rows each writer has before the first fault: the next sequence number of each.
#[must_use]
pub fn share(load: &Load) -> Vec<(u32, u64)> {
    let writers = u64::from(load.writers.max(1));
    (0..writers)
        .map(|index| {
            let rows = load.rows_before / writers + u64::from(index < load.rows_before % writers);
            (u32::try_from(index + 1).expect("there are few writers"), rows)
        })
        .collect()
}

/// How many batches the busiest writer writes before the first fault.
#[must_use]
pub fn batches(load: &Load) -> u32 {
    let busiest = share(load).into_iter().map(|(_, rows)| rows.div_ceil(BATCH)).max().unwrap_or(0);
    u32::try_from(busiest).unwrap_or(u32::MAX)
}

/// Writes the rows before the first fault, as fast as it goes, over as many connections as there are writers.
///
/// # Errors
/// The first batch that failed: before the first fault nothing may. What was written by then is in the ledger.
pub async fn write_rows_before(
    server: &Server,
    tables: &Tables,
    load: &Load,
    ledger: &mpsc::Sender<LedgerEntry>,
) -> Result<(), RowsBeforeError> {
    let mut writers = JoinSet::new();
    for (writer, rows) in share(load) {
        let (server, tables, ledger) = (server.clone(), tables.clone(), ledger.clone());
        writers.spawn(async move {
            let mut session = None;
            let mut from = 0;
            while from < rows {
                let to = (from + BATCH).min(rows) - 1;
                let keys: Vec<RowKey> = (from..=to).map(|seq| RowKey { writer, seq }).collect();
                let result = write(&server, &tables, &mut session, &keys, Instant::now() + BATCH_DEADLINE).await;
                let error = result.as_ref().err().cloned();
                record(&ledger, entry(writer, (from, to), result)).await;
                if let Some(source) = error {
                    return Err(RowsBeforeError { writer, from, to, source });
                }
                from = to + 1;
            }
            Ok(())
        });
    }
    while let Some(joined) = writers.join_next().await {
        joined.expect("a writer does not panic")?;
    }
    Ok(())
}

/// Writes these rows on the session at hand, or on a new one.
async fn write(
    server: &Server,
    tables: &Tables,
    session: &mut Option<Session>,
    keys: &[RowKey],
    deadline: Instant,
) -> Result<Option<Incarnation>, SqlError> {
    let mut live = match session.take() {
        Some(live) => live,
        None => server.connect(DATABASE, deadline).await?,
    };
    let result = tables.write(&mut live, keys, deadline).await;
    if result.as_ref().err().is_none_or(|error| !error.ends_session()) {
        *session = Some(live);
    }
    result
}

fn entry(writer: u32, (from, to): (u64, u64), result: Result<Option<Incarnation>, SqlError>) -> LedgerEntry {
    match result {
        Ok(incarnation) => LedgerEntry { writer, from, to, outcome: Outcome::Acknowledged, incarnation, error: None },
        Err(error) => LedgerEntry { writer, from, to, outcome: error.outcome(), incarnation: None, error: Some(error.to_string()) },
    }
}

/// The recorder outlives the writers; if it is gone, so is the run, and nobody is left to tell.
async fn record(ledger: &mpsc::Sender<LedgerEntry>, entry: LedgerEntry) {
    let _ = ledger.send(entry).await;
}

/// The writers of a trial at work.
#[derive(Debug)]
pub struct Writers {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Writers {
    /// Starts them; each goes on from the sequence number behind its rows before.
    #[must_use]
    pub fn start(server: &Server, tables: &Tables, load: &Load, ledger: &mpsc::Sender<LedgerEntry>) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        if load.writers > 0 {
            let every = Duration::from_secs(1) * load.writers / load.rate.per_second;
            for (writer, from) in share(load) {
                let writer = Writer { server: server.clone(), tables: tables.clone(), number: writer, every };
                tasks.spawn(writer.run(from, ledger.clone(), stop.clone()));
            }
        }
        Self { stop, tasks }
    }

    /// Lets each finish the row it is at, which [`WRITE_DEADLINE`] bounds, and ends them.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

struct Writer {
    server: Server,
    tables: Tables,
    number: u32,
    every: Duration,
}

impl Writer {
    async fn run(self, from: u64, ledger: mpsc::Sender<LedgerEntry>, stop: CancellationToken) {
        // A late writer does not catch up: the rate is an aim, and a burst after an outage would be another experiment.
        let mut pace = tokio::time::interval(self.every);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut session = None;
        let mut pending = Pending::default();
        for seq in from.. {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = pace.tick() => {}
            }
            let key = RowKey { writer: self.number, seq };
            let result = write(&self.server, &self.tables, &mut session, &[key], Instant::now() + WRITE_DEADLINE).await;
            pending.add(entry(self.number, (seq, seq), result), &ledger).await;
        }
        pending.send(&ledger).await;
        if let Some(session) = session {
            // The outcomes are known; a farewell that fails changes nothing.
            let _ = session.close(Instant::now() + WRITE_DEADLINE).await;
        }
    }
}

/// Outcomes that may still grow into a longer range.
#[derive(Default)]
struct Pending {
    entry: Option<(LedgerEntry, Instant)>,
}

impl Pending {
    async fn add(&mut self, next: LedgerEntry, ledger: &mpsc::Sender<LedgerEntry>) {
        match &mut self.entry {
            Some((entry, since))
                if entry.outcome == next.outcome
                    && entry.incarnation == next.incarnation
                    && entry.error == next.error
                    && since.elapsed() < LEDGER_PERIOD =>
            {
                entry.to = next.to;
            }
            _ => {
                self.send(ledger).await;
                self.entry = Some((next, Instant::now()));
            }
        }
    }

    async fn send(&mut self, ledger: &mpsc::Sender<LedgerEntry>) {
        if let Some((entry, _)) = self.entry.take() {
            record(ledger, entry).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::even(4, 8, &[2, 2, 2, 2])]
    #[case::uneven(4, 10, &[3, 3, 2, 2])]
    #[case::none(2, 0, &[0, 0])]
    #[case::no_writers_leave_the_rows_before_to_one(0, 5, &[5])]
    fn the_rows_before_are_shared_out(#[case] writers: u32, #[case] rows_before: u64, #[case] expected: &[u64]) {
        let load = Load { writers, rows_before, ..Load::default() };
        let shares = share(&load);
        assert_eq!(shares.iter().map(|(_, rows)| *rows).collect::<Vec<_>>(), expected);
        assert_eq!(shares.first().map(|(writer, _)| *writer), Some(1));
    }
}
