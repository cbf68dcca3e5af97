//! The server's order of a writer's acknowledged rows is the writer's own.
//!
//! A writer of the load sends a row only when it knows the outcome of the one before. Rows in doubt are left out, because an orphan may commit
//! late, and so is the probe stream, because its attempts overlap.

use super::{Finding, tables};
use crate::{event::Side, measure::TrialHistory, report::figure::counted};

pub(super) fn order_per_writer(trial: &TrialHistory) -> Finding {
    let reads = match tables(trial, Side::After) {
        Ok(reads) => reads,
        Err(unproven) => return unproven,
    };
    match reads.iter().map(|read| read.misordered.count).sum::<u64>() {
        0 => Finding::passed("the rows of each writer are in its order"),
        count => {
            let examples: Vec<&str> = reads.iter().flat_map(|read| &read.misordered.examples).take(3).map(String::as_str).collect();
            Finding::failed(format!("{} out of order: {}", counted(count, "acknowledged row"), examples.join("; ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::makers::*, *};
    use crate::result::Verdict;

    #[test]
    fn rows_in_order_pass() {
        assert_eq!(order_per_writer(&clean()).verdict, Verdict::Passed);
    }

    #[test]
    fn rows_out_of_order_fail() {
        let mut trial = clean();
        trial.reads.get_mut(&Side::After).unwrap()[1].misordered.add(|| "writer 1 seq 3 (id 2) comes before writer 1 seq 2 (id 4)".into());
        assert_eq!(order_per_writer(&trial).verdict, Verdict::Failed);
    }
}
