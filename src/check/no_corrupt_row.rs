//! Every row is as it was written: its columns fit their checksum, its key, and the incarnation that acknowledged it.

use super::{Finding, tables};
use crate::{event::Side, measure::TrialHistory, report::figure::counted};

pub(super) fn no_corrupt_row(trial: &TrialHistory) -> Finding {
    let reads = match tables(trial, Side::After) {
        Ok(reads) => reads,
        Err(unproven) => return unproven,
    };
    match reads.iter().map(|read| read.corrupt.count).sum::<u64>() {
        0 => {
            Finding::passed(format!("all {} rows that were read are as they were written", reads.iter().map(|read| read.rows).sum::<u64>()))
        }
        count => {
            let examples: Vec<String> = reads
                .iter()
                .flat_map(|read| read.corrupt.examples.iter().map(|example| format!("table `{}`, {example}", read.table)))
                .take(3)
                .collect();
            Finding::failed(format!("{} not as written: {}", counted(count, "row"), examples.join("; ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::makers::*, *};
    use crate::result::Verdict;

    #[test]
    fn rows_as_written_pass() {
        assert_eq!(no_corrupt_row(&clean()).verdict, Verdict::Passed);
    }

    #[test]
    fn a_changed_row_fails() {
        let mut trial = clean();
        trial.reads.get_mut(&Side::After).unwrap()[0].corrupt.add(|| "writer 1 seq 3: …".into());
        let finding = no_corrupt_row(&trial);
        assert_eq!(finding.verdict, Verdict::Failed);
        assert_eq!(finding.detail, "1 row not as written: table `keyed`, writer 1 seq 3: …");
    }
}
