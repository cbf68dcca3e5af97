//! A transaction is in both tables or in none.
//!
//! It writes one row to each, so a row in one table alone is half a transaction. For acknowledged rows that is also a loss; for rows in doubt
//! only this law sees it.

use super::{Broken, Finding, in_all_and_any, tables};
use crate::{
    event::{Answer, Side},
    measure::TrialHistory,
    report::figure::counted,
};

pub(super) fn no_torn_transaction(trial: &TrialHistory) -> Finding {
    let reads = match tables(trial, Side::After) {
        Ok(reads) => reads,
        Err(unproven) => return unproven,
    };
    let mut torn = Broken::default();
    let mut in_doubt = 0;
    // Of a transaction that was acknowledged, half is a lost row and told as such; but where loss is allowed, halves are not.
    let told_as_lost = trial.plan.scenario.expect.lost_rows == 0;
    for (writer, ledger) in &trial.ledger.writers {
        let (all, any) = in_all_and_any(reads, *writer);
        let in_either = any.difference(&all);
        in_doubt += in_either.intersection(&ledger.in_doubt).len();
        // An acknowledged row that is in neither table was lost whole.
        torn.add(*writer, &if told_as_lost { in_either.difference(&ledger.acknowledged) } else { in_either });
    }
    if torn.count == 0 {
        return Finding::passed("every transaction is in both tables or in none");
    }
    let said = format!("{} in one table only: {}", counted(torn.count, "transaction"), torn.examples());
    // The tables are read one after the other: a session that was still at work may have committed between the two.
    if in_doubt == torn.count && !matches!(trial.settled, Some(Answer::Known(()))) {
        return Finding::unproven(format!("{said}; but they are in doubt, and their sessions were not seen to have ended"));
    }
    Finding::failed(said)
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
        assert_eq!((finding.verdict, finding.detail.as_str()), (Verdict::Failed, "1 transaction in one table only: writer 1 seq 100"));
    }

    #[test]
    fn half_a_transaction_whose_session_may_have_been_at_work_is_unproven() {
        let mut trial = clean();
        write(&mut trial, 1, 100, Outcome::InDoubt);
        find(&mut trial, 1, 1, 100);
        for settled in [None, Some(Answer::Unavailable("error 300".into()))] {
            trial.settled = settled;
            assert_eq!(no_torn_transaction(&trial).verdict, Verdict::Unproven);
        }
    }

    #[test]
    fn where_loss_is_allowed_halves_are_not() {
        let mut trial = clean();
        trial.plan.scenario.expect.lost_rows = 5;
        forget(&mut trial, 1, 1, 3);
        assert_eq!(no_torn_transaction(&trial).verdict, Verdict::Failed);
    }
}
