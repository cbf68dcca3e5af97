//! Every row that was read before the fault is read after it, table by table. A scenario that studies loss may allow some (`lostRows`).

use std::collections::BTreeMap;

use super::{Broken, Finding, tables};
use crate::{
    event::{SeqSet, Side},
    measure::TrialHistory,
};

pub(super) fn rows_before_kept(trial: &TrialHistory) -> Finding {
    let (before, after) = match (tables(trial, Side::Before), tables(trial, Side::After)) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(unproven), _) | (_, Err(unproven)) => return unproven,
    };
    // A row that is gone from both tables is one row.
    let mut missing: BTreeMap<u32, SeqSet> = BTreeMap::new();
    for read in before {
        let later = after.iter().find(|later| later.table == read.table);
        for (writer, found) in &read.found {
            let kept = later.and_then(|later| later.found.get(writer)).cloned().unwrap_or_default();
            missing.entry(*writer).or_default().extend(&found.difference(&kept));
        }
    }
    let mut gone = Broken::default();
    for (writer, seqs) in &missing {
        gone.add(*writer, seqs);
    }
    let rows = before.iter().map(|read| read.rows).max().unwrap_or(0);
    if gone.count == 0 {
        Finding::passed(format!("all {rows} rows that were read before the fault are read after it"))
    } else if gone.count <= trial.plan.scenario.expect.lost_rows {
        Finding::passed(format!("{} of {rows} rows that were read before the fault are gone, as the scenario allows", gone.count))
    } else {
        Finding::failed(format!("{} of {rows} rows that were read before the fault are gone: {}", gone.count, gone.examples()))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::makers::*, *};
    use crate::result::Verdict;

    #[test]
    fn rows_that_stay_pass() {
        assert_eq!(rows_before_kept(&clean()).verdict, Verdict::Passed);
    }

    #[test]
    fn a_row_that_goes_fails() {
        let mut trial = clean();
        forget(&mut trial, 1, 1, 2);
        assert_eq!(rows_before_kept(&trial).verdict, Verdict::Failed);
    }

    #[test]
    fn a_row_that_is_gone_from_both_tables_is_one_row() {
        let mut trial = clean();
        trial.plan.scenario.expect.lost_rows = 1;
        forget(&mut trial, 0, 1, 2);
        forget(&mut trial, 1, 1, 2);
        assert_eq!(rows_before_kept(&trial).verdict, Verdict::Passed);
        forget(&mut trial, 0, 1, 3);
        assert_eq!(rows_before_kept(&trial).verdict, Verdict::Failed);
    }

    #[test]
    fn a_side_that_was_not_read_proves_nothing() {
        for side in [Side::Before, Side::After] {
            let mut trial = clean();
            trial.reads.remove(&side);
            assert_eq!(rows_before_kept(&trial).verdict, Verdict::Unproven);
        }
    }
}
