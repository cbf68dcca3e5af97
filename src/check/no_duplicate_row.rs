//! No row is there twice. Only the table without a key can show it.

use super::{Finding, tables};
use crate::{event::Side, measure::TrialHistory, report::figure::counted};

pub(super) fn no_duplicate_row(trial: &TrialHistory) -> Finding {
    let reads = match tables(trial, Side::After) {
        Ok(reads) => reads,
        Err(unproven) => return unproven,
    };
    match reads.iter().map(|read| read.duplicate.count).sum::<u64>() {
        0 => Finding::passed("no row is there twice"),
        count => {
            let examples: Vec<&str> = reads.iter().flat_map(|read| &read.duplicate.examples).take(3).map(String::as_str).collect();
            Finding::failed(format!(
                "{} too many, each there once more than it was written: {}",
                counted(count, "row"),
                examples.join("; ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::makers::*, *};
    use crate::result::Verdict;

    #[test]
    fn each_row_once_passes() {
        assert_eq!(no_duplicate_row(&clean()).verdict, Verdict::Passed);
    }

    #[test]
    fn a_second_copy_fails() {
        let mut trial = clean();
        trial.reads.get_mut(&Side::After).unwrap()[1].duplicate.add(|| "writer 1 seq 3".into());
        let finding = no_duplicate_row(&trial);
        assert_eq!(
            (finding.verdict, finding.detail.as_str()),
            (Verdict::Failed, "1 row too many, each there once more than it was written: writer 1 seq 3")
        );
    }
}
