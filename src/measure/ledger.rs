//! What the client knows of each write.

use std::collections::BTreeMap;

use crate::event::{Attempt, Incarnation, LedgerEntry, Outcome, PROBE_WRITER, RowKey, SeqSet, Stream};

/// What the client knows of each write of a trial, folded from its events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Per writer.
    pub writers: BTreeMap<u32, WriterLedger>,
}

/// What the client knows of the writes of one writer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriterLedger {
    /// The server said that they are committed.
    pub acknowledged: SeqSet,
    /// They were certainly not applied.
    pub refused: SeqSet,
    /// Nobody knows.
    pub in_doubt: SeqSet,
    /// Of those acknowledged, what the server filled in as its start time.
    pub taken_by: BTreeMap<Incarnation, SeqSet>,
}

impl Ledger {
    /// Enters a run of writes with one outcome.
    pub fn enter(&mut self, entry: &LedgerEntry) {
        let writer = self.writers.entry(entry.writer).or_default();
        let set = match entry.outcome {
            Outcome::Acknowledged => &mut writer.acknowledged,
            Outcome::Refused => &mut writer.refused,
            Outcome::InDoubt => &mut writer.in_doubt,
        };
        set.insert_range(entry.from, entry.to);
        if let (Outcome::Acknowledged, Some(incarnation)) = (entry.outcome, &entry.incarnation) {
            writer.taken_by.entry(incarnation.clone()).or_default().insert_range(entry.from, entry.to);
        }
    }

    /// Enters an attempt of a probe stream; those that write no row are passed over.
    pub fn enter_attempt(&mut self, attempt: &Attempt) {
        let (Stream::WriteNew, Some(run)) = (attempt.stream, &attempt.run) else { return };
        self.enter(&LedgerEntry {
            writer: PROBE_WRITER,
            from: attempt.number,
            to: attempt.number,
            outcome: run.outcome,
            incarnation: run.incarnation.clone(),
            error: None,
        });
    }

    /// What is known of one write; `None`: it was never tried.
    #[must_use]
    pub fn outcome(&self, key: RowKey) -> Option<Outcome> {
        let writer = self.writers.get(&key.writer)?;
        // A write that was entered twice is a bug of ours; acknowledged is then the graver promise.
        [(Outcome::Acknowledged, &writer.acknowledged), (Outcome::InDoubt, &writer.in_doubt), (Outcome::Refused, &writer.refused)]
            .into_iter()
            .find_map(|(outcome, set)| set.contains(key.seq).then_some(outcome))
    }

    /// Who took an acknowledged write, if the server told.
    #[must_use]
    pub fn taken_by(&self, key: RowKey) -> Option<&Incarnation> {
        let writer = self.writers.get(&key.writer)?;
        writer.taken_by.iter().find_map(|(incarnation, set)| set.contains(key.seq).then_some(incarnation))
    }

    /// How many writes have this outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.writers.values().map(|writer| writer.set(outcome).len()).sum()
    }

    /// All incarnations that acknowledged a write.
    pub fn incarnations(&self) -> impl Iterator<Item = &Incarnation> {
        let mut all: Vec<_> = self.writers.values().flat_map(|writer| writer.taken_by.keys()).collect();
        all.sort();
        all.dedup();
        all.into_iter()
    }
}

impl WriterLedger {
    /// The writes with this outcome.
    #[must_use]
    pub const fn set(&self, outcome: Outcome) -> &SeqSet {
        match outcome {
            Outcome::Acknowledged => &self.acknowledged,
            Outcome::Refused => &self.refused,
            Outcome::InDoubt => &self.in_doubt,
        }
    }
}
