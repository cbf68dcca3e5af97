//! What the record says in numbers: pure functions of the events.
//!
//! - [`History`]: the events folded, trial by trial; nothing is judged yet.
//! - [`Ledger`]: what the client knows of each write.
//! - [`outages`]: the gaps between acknowledged writes, with bounds.
//! - [`recovery`]: from the fault taking effect to the first good write.
//! - [`Streak`]: how long the headline stream has been without a failure.
//!
//! This room sees no clock, no cluster and no database.

mod history;
mod ledger;
mod outage;
mod recovery;
mod streak;

pub use self::{
    history::{FaultHistory, History, TrialHistory},
    ledger::{Ledger, WriterLedger},
    outage::{Outage, outages},
    recovery::{Recovery, first_good, recovery},
    streak::Streak,
};

#[cfg(test)]
pub(crate) mod makers {
    //! Small makers of attempts, so that a test reads as a history: times in milliseconds.

    use crate::event::{Attempt, AttemptError, AttemptRun, Incarnation, Moment, Outcome, Stage, Stream};

    pub(crate) const fn ms(ms: u64) -> Moment {
        Moment(ms * 1_000_000)
    }

    fn attempt(number: u64, from: u64, to: u64, outcome: Outcome, life: Option<&str>) -> Attempt {
        let error = (outcome != Outcome::Acknowledged).then(|| AttemptError { stage: Stage::Connect, code: None, text: "refused".into() });
        let run = AttemptRun { started: ms(from), ended: ms(to), outcome, incarnation: life.map(|life| Incarnation(life.into())), error };
        Attempt { stream: Stream::WriteNew, number, scheduled: ms(from), run: Some(run) }
    }

    /// Acknowledged by the server of the life `a`.
    pub(crate) fn ok(number: u64, from: u64, to: u64) -> Attempt {
        attempt(number, from, to, Outcome::Acknowledged, Some("a"))
    }

    /// Acknowledged by the server of this life.
    pub(crate) fn ok_by(life: &str, number: u64, from: u64, to: u64) -> Attempt {
        attempt(number, from, to, Outcome::Acknowledged, Some(life))
    }

    pub(crate) fn refused(number: u64, from: u64, to: u64) -> Attempt {
        attempt(number, from, to, Outcome::Refused, None)
    }

    pub(crate) fn unknown(number: u64, from: u64, to: u64) -> Attempt {
        attempt(number, from, to, Outcome::InDoubt, None)
    }

    pub(crate) fn dropped(number: u64, at: u64) -> Attempt {
        Attempt { stream: Stream::WriteNew, number, scheduled: ms(at), run: None }
    }
}
