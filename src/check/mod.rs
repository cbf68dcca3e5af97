//! What may be said of a run: pure functions of its history.
//!
//! A law is a function from a [`TrialHistory`] to a [`Finding`], one file each. It answers passed, failed or *unproven*: a question that could
//! not be asked is never a pass. [`judge`] puts laws, evidence and errors together into the verdict of each trial.
//!
//! This room sees no clock, no cluster and no database.
//!
//! To add a law:
//! 1. write `src/check/<law>.rs` with `pub(super) fn <law>(&TrialHistory) -> Finding`, and tests in which it fails;
//! 2. add it to [`Law`]; the compiler leads you to `Law::name` and `Law::ask`;
//! 3. add it to [`Law::ALL`], in the order in which a reader wants to hear of it;
//! 4. describe it in the README's table of laws.

mod evidence;
mod incarnation;
mod judge;
mod moved_to;
mod no_corrupt_row;
mod no_duplicate_row;
mod no_lost_row;
mod no_phantom_row;
mod no_torn_transaction;
mod order_per_writer;
mod recovery;
mod rows_before_kept;
mod same_service_address;
mod same_volume;

pub use self::judge::judge;
use crate::{
    event::{SeqSet, Side, TableRead},
    measure::TrialHistory,
    result::{LawResult, Verdict},
};

/// What a law says of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Passed, failed, unproven, or skipped where the law does not apply.
    pub verdict: Verdict,
    /// What was seen, with figures.
    pub detail: String,
}

impl Finding {
    fn passed(detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Passed, detail: detail.into() }
    }

    fn failed(detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failed, detail: detail.into() }
    }

    fn unproven(detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unproven, detail: detail.into() }
    }

    fn skipped(detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skipped, detail: detail.into() }
    }
}

/// The laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Law {
    /// The same claim, bound to the same volume, with the mark that was stored on it.
    SameVolume,
    /// Every acknowledged row is in both tables.
    NoLostRow,
    /// Every row that is there was written, and not refused.
    NoPhantomRow,
    /// No row is there twice.
    NoDuplicateRow,
    /// A transaction is in both tables or in none.
    NoTornTransaction,
    /// Every row is as it was written.
    NoCorruptRow,
    /// The server's order of a writer's acknowledged rows is the writer's own.
    OrderPerWriter,
    /// Every row that was read before the fault is read after it.
    RowsBeforeKept,
    /// The same service object, address and port.
    SameServiceAddress,
    /// Another life of the server than before; in a control trial the same.
    Incarnation,
    /// It came back, stayed, and did so within the limit.
    Recovery,
    /// It is where the scenario expects it.
    MovedTo,
}

impl Law {
    /// All laws, in the order in which a reader wants to hear of them: the cause before its consequences.
    pub const ALL: [Self; 12] = [
        Self::SameVolume,
        Self::SameServiceAddress,
        Self::NoLostRow,
        Self::NoPhantomRow,
        Self::NoDuplicateRow,
        Self::NoTornTransaction,
        Self::NoCorruptRow,
        Self::OrderPerWriter,
        Self::RowsBeforeKept,
        Self::Incarnation,
        Self::Recovery,
        Self::MovedTo,
    ];

    /// Its name in every report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SameVolume => "same_volume",
            Self::NoLostRow => "no_lost_row",
            Self::NoPhantomRow => "no_phantom_row",
            Self::NoDuplicateRow => "no_duplicate_row",
            Self::NoTornTransaction => "no_torn_transaction",
            Self::NoCorruptRow => "no_corrupt_row",
            Self::OrderPerWriter => "order_per_writer",
            Self::RowsBeforeKept => "rows_before_kept",
            Self::SameServiceAddress => "same_service_address",
            Self::Incarnation => "new_incarnation",
            Self::Recovery => "recovery",
            Self::MovedTo => "moved_to",
        }
    }

    /// Asks it.
    #[must_use]
    pub fn ask(self, trial: &TrialHistory) -> Finding {
        match self {
            Self::SameVolume => same_volume::same_volume(trial),
            Self::NoLostRow => no_lost_row::no_lost_row(trial),
            Self::NoPhantomRow => no_phantom_row::no_phantom_row(trial),
            Self::NoDuplicateRow => no_duplicate_row::no_duplicate_row(trial),
            Self::NoTornTransaction => no_torn_transaction::no_torn_transaction(trial),
            Self::NoCorruptRow => no_corrupt_row::no_corrupt_row(trial),
            Self::OrderPerWriter => order_per_writer::order_per_writer(trial),
            Self::RowsBeforeKept => rows_before_kept::rows_before_kept(trial),
            Self::SameServiceAddress => same_service_address::same_service_address(trial),
            Self::Incarnation => incarnation::incarnation(trial),
            Self::Recovery => recovery::recovery(trial),
            Self::MovedTo => moved_to::moved_to(trial),
        }
    }

    fn result(self, trial: &TrialHistory) -> LawResult {
        let Finding { verdict, detail } = self.ask(trial);
        LawResult { law: self.name().to_owned(), verdict, detail }
    }
}

/// Both tables as read on one side, or why a law about them is unproven.
fn tables(trial: &TrialHistory, side: Side) -> Result<&[TableRead], Finding> {
    match trial.reads.get(&side) {
        Some(reads) if reads.len() == crate::event::TABLES.len() => Ok(reads),
        _ => Err(Finding::unproven(match (side, trial.read_errors.get(&side)) {
            (Side::Before, None) => "the tables were never read before the fault".to_owned(),
            (Side::After, None) => "the tables were never read back after the last fault".to_owned(),
            (_, Some(error)) => format!("the tables could not be read {side} the fault: {error}"),
        })),
    }
}

/// The rows of a writer that are in every table, and those that are in any.
fn in_all_and_any(reads: &[TableRead], writer: u32) -> (SeqSet, SeqSet) {
    let mut any = SeqSet::default();
    let mut all: Option<SeqSet> = None;
    for read in reads {
        let found = read.found.get(&writer).cloned().unwrap_or_default();
        any.extend(&found);
        all = Some(match all {
            Some(all) => all.intersection(&found),
            None => found,
        });
    }
    (all.unwrap_or_default(), any)
}

/// The first few ranges of a set, for a reader.
fn examples(writer: u32, set: &SeqSet) -> String {
    let ranges: Vec<String> =
        set.ranges().take(3).map(|(from, to)| if from == to { format!("seq {from}") } else { format!("seq {from} to {to}") }).collect();
    format!("writer {writer} {}", ranges.join(", "))
}

/// Counts rows that break a law, per writer, with examples.
#[derive(Default)]
struct Broken {
    count: u64,
    examples: Vec<String>,
}

impl Broken {
    fn add(&mut self, writer: u32, set: &SeqSet) {
        if !set.is_empty() {
            self.count += set.len();
            if self.examples.len() < 3 {
                self.examples.push(examples(writer, set));
            }
        }
    }

    fn examples(&self) -> String {
        self.examples.join("; ")
    }
}

#[cfg(test)]
mod makers;
