//! Every row that the server acknowledged is in both tables.
//!
//! A write whose outcome is in doubt may be there or not; either is right. A scenario that studies loss may allow some (`lostRows`).

use super::{Broken, Finding, in_all_and_any, tables};
use crate::{
    event::{Outcome, Side},
    measure::TrialHistory,
};

pub(super) fn no_lost_row(trial: &TrialHistory) -> Finding {
    let acknowledged = trial.ledger.count(Outcome::Acknowledged);
    if acknowledged == 0 {
        return Finding::unproven("no write was acknowledged, so none could be lost");
    }
    let reads = match tables(trial, Side::After) {
        Ok(reads) => reads,
        Err(unproven) => return unproven,
    };
    let lost = lost(trial, reads);
    let allowed = trial.plan.scenario.expect.lost_rows;
    if lost.count == 0 {
        Finding::passed(format!("all {acknowledged} acknowledged rows are there"))
    } else if lost.count <= allowed {
        Finding::passed(format!("{} of {acknowledged} acknowledged rows are gone, and the scenario allows {allowed}", lost.count))
    } else {
        Finding::failed(format!("{} of {acknowledged} acknowledged rows gone: {}", lost.count, lost.examples()))
    }
}

/// The acknowledged rows that are missing from a table.
pub(super) fn lost(trial: &TrialHistory, reads: &[crate::event::TableRead]) -> Broken {
    let mut lost = Broken::default();
    for (writer, ledger) in &trial.ledger.writers {
        let (in_all, _) = in_all_and_any(reads, *writer);
        lost.add(*writer, &ledger.acknowledged.difference(&in_all));
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::{super::makers::*, *};
    use crate::result::Verdict;

    #[test]
    fn all_there_passes() {
        assert_eq!(no_lost_row(&clean()).verdict, Verdict::Passed);
    }

    #[test]
    fn a_row_that_is_missing_from_either_table_is_lost() {
        for table in [0, 1] {
            let mut trial = clean();
            forget(&mut trial, table, 1, 5);
            let finding = no_lost_row(&trial);
            assert_eq!(finding.verdict, Verdict::Failed);
            assert_eq!(finding.detail, "1 of 21 acknowledged rows gone: writer 1 seq 5");
        }
    }

    #[test]
    fn a_row_in_doubt_may_be_absent() {
        let mut trial = clean();
        write(&mut trial, 1, 100, Outcome::InDoubt);
        assert_eq!(no_lost_row(&trial).verdict, Verdict::Passed);
    }

    #[test]
    fn loss_that_the_scenario_allows_is_counted_and_passed() {
        let mut trial = clean();
        forget(&mut trial, 0, 1, 5);
        trial.plan.scenario.expect.lost_rows = 1;
        assert_eq!(no_lost_row(&trial).verdict, Verdict::Passed);
        forget(&mut trial, 0, 1, 6);
        assert_eq!(no_lost_row(&trial).verdict, Verdict::Failed);
    }

    #[test]
    fn without_a_final_read_or_an_acknowledgement_nothing_is_proven() {
        let mut trial = clean();
        trial.reads.remove(&Side::After);
        assert_eq!(no_lost_row(&trial).verdict, Verdict::Unproven);
        let mut trial = clean();
        trial.ledger = crate::measure::Ledger::default();
        assert_eq!(no_lost_row(&trial).verdict, Verdict::Unproven);
    }

    #[test]
    fn one_table_alone_is_no_final_read() {
        let mut trial = clean();
        trial.reads.get_mut(&Side::After).unwrap().pop();
        assert_eq!(no_lost_row(&trial).verdict, Verdict::Unproven);
    }
}
