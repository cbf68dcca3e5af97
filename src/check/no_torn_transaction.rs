//! A transaction is in both tables or in none.
//!
//! It writes one row to each, so a row in one table alone is half a transaction. For acknowledged rows that is also a loss; for rows in doubt
//! only this law sees it.

use super::{Broken, Finding, in_all_and_any, tables};
use crate::{event::Side, measure::TrialHistory};

pub(super) fn no_torn_transaction(trial: &TrialHistory) -> Finding {
    let reads = match tables(trial, Side::After) {
        Ok(reads) => reads,
        Err(unproven) => return unproven,
    };
    let mut torn = Broken::default();
    for (writer, ledger) in &trial.ledger.writers {
        let (all, any) = in_all_and_any(reads, *writer);
        // Of a transaction that was acknowledged, half is a lost row and told as such.
        torn.add(*writer, &any.difference(&all).difference(&ledger.acknowledged));
    }
    if torn.count == 0 {
        Finding::passed("every transaction is in both tables or in none")
    } else {
        Finding::failed(format!("{} transactions are in one table only: {}", torn.count, torn.examples()))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::makers::*, *};
    use crate::{event::Outcome, result::Verdict};

    #[test]
    fn whole_transactions_pass() {
        let mut trial = clean();
        write(&mut trial, 1, 100, Outcome::InDoubt);
        assert_eq!(no_torn_transaction(&trial).verdict, Verdict::Passed);
        find(&mut trial, 0, 1, 100);
        find(&mut trial, 1, 1, 100);
        assert_eq!(no_torn_transaction(&trial).verdict, Verdict::Passed);
    }

    #[test]
    fn half_a_transaction_in_doubt_is_torn() {
        let mut trial = clean();
        write(&mut trial, 1, 100, Outcome::InDoubt);
        find(&mut trial, 1, 1, 100);
        let finding = no_torn_transaction(&trial);
        assert_eq!((finding.verdict, finding.detail.as_str()), (Verdict::Failed, "1 transactions are in one table only: writer 1 seq 100"));
    }
}
