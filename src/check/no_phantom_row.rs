//! Every row that is there was written by a client, and was not refused.

use super::{Broken, Finding, in_all_and_any, tables};
use crate::{
    event::{Side, TableRead},
    measure::TrialHistory,
    report::figure::counted,
};

pub(super) fn no_phantom_row(trial: &TrialHistory) -> Finding {
    let reads = match tables(trial, Side::After) {
        Ok(reads) => reads,
        Err(unproven) => return unproven,
    };
    let phantom = phantom(trial, reads);
    if phantom.count == 0 {
        Finding::passed("every row that is there was written by a client")
    } else {
        Finding::failed(format!(
            "{} that no client wrote, or that the server had refused: {}",
            counted(phantom.count, "row"),
            phantom.examples()
        ))
    }
}

/// The rows in any table that may not be there.
pub(super) fn phantom(trial: &TrialHistory, reads: &[TableRead]) -> Broken {
    let mut phantom = Broken::default();
    let mut writers: Vec<u32> = reads.iter().flat_map(|read| read.found.keys().copied()).collect();
    writers.sort_unstable();
    writers.dedup();
    for writer in writers {
        let (_, found) = in_all_and_any(reads, writer);
        let rest = match trial.ledger.writers.get(&writer) {
            Some(ledger) => found.difference(&ledger.acknowledged).difference(&ledger.in_doubt),
            None => found,
        };
        phantom.add(writer, &rest);
    }
    phantom
}

#[cfg(test)]
mod tests {
    use super::{super::makers::*, *};
    use crate::{event::Outcome, result::Verdict};

    #[test]
    fn what_was_written_passes() {
        assert_eq!(no_phantom_row(&clean()).verdict, Verdict::Passed);
    }

    #[test]
    fn a_row_that_nobody_wrote_is_a_phantom() {
        let mut trial = clean();
        find(&mut trial, 1, 1, 500);
        assert_eq!(no_phantom_row(&trial).verdict, Verdict::Failed);
        let mut trial = clean();
        find(&mut trial, 0, 77, 0);
        assert_eq!(no_phantom_row(&trial).detail, "1 row that no client wrote, or that the server had refused: writer 77 seq 0");
    }

    #[test]
    fn a_refused_row_that_is_there_is_a_phantom() {
        let mut trial = clean();
        write(&mut trial, 1, 100, Outcome::Refused);
        find(&mut trial, 0, 1, 100);
        find(&mut trial, 1, 1, 100);
        assert_eq!(no_phantom_row(&trial).verdict, Verdict::Failed);
    }

    #[test]
    fn a_row_in_doubt_may_be_there() {
        let mut trial = clean();
        write(&mut trial, 1, 100, Outcome::InDoubt);
        find(&mut trial, 0, 1, 100);
        find(&mut trial, 1, 1, 100);
        assert_eq!(no_phantom_row(&trial).verdict, Verdict::Passed);
    }
}
