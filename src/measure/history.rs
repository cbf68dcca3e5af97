//! The events of a run, folded.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, Utc};

use crate::{
    event::{
        Answer, Assisted, Attempt, AttemptRun, Event, EventKind, Fact, Incarnation, Moment, Outcome, PlannedTrial, ReadBack, RunEnd,
        RunStarted, Side, Sighting, Snapshot, Step, Stream, TableRead, TimeBound, TrialEnd, Undone, Victim, Witness, WitnessTime,
    },
    result::{Engine, Platform},
    scenario::{FaultSpec, Toll},
};

use super::Ledger;

/// What the bound of two clocks may grow by until the end of a trial without an effect on what is looked at meanwhile.
const ROOM_TO_DRIFT: Duration = Duration::from_millis(20);

/// The record of a run, trial by trial.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What was going to be done.
    pub plan: Option<RunStarted>,
    /// When the run began.
    pub started: Option<DateTime<Utc>>,
    /// When the last event was recorded.
    pub last: Moment,
    /// The cluster, as it described itself.
    pub platform: Option<Platform>,
    /// The database, as it described itself.
    pub engine: Option<Engine>,
    /// What a reader must know.
    pub warnings: Vec<String>,
    /// What went wrong outside any trial.
    pub errors: Vec<String>,
    /// What is still in place.
    pub left_in_place: Vec<String>,
    /// The trials, as planned; trial 1 first.
    pub trials: Vec<TrialHistory>,
    /// How the run ended; `None`: its record has no end.
    pub end: Option<RunEnd>,
}

/// The record of a trial.
#[derive(Clone, Debug)]
pub struct TrialHistory {
    /// What was going to be done.
    pub plan: PlannedTrial,
    /// Why it is not made.
    pub skipped: Option<String>,
    /// When it began, on both clocks; `None`: it never did.
    pub started: Option<(DateTime<Utc>, Moment)>,
    /// How it ended, and when; `None`: it goes on, or the record breaks off.
    pub end: Option<(TrialEnd, Moment)>,
    /// The last step that it reached.
    pub step: Option<Step>,
    /// The snapshots of cluster and server.
    pub snapshots: BTreeMap<Side, Snapshot>,
    /// What the client knows of each write.
    pub ledger: Ledger,
    /// The tables, as read.
    pub reads: BTreeMap<Side, Vec<TableRead>>,
    /// Why they could not be read.
    pub read_errors: BTreeMap<Side, String>,
    /// Every attempt of the probe streams, in the order in which they were reported.
    pub attempts: Vec<Attempt>,
    /// The faults, as many as the scenario has.
    pub faults: Vec<FaultHistory>,
    /// The help that the recovery got: from which fault, when, and what was done.
    pub assists: Vec<(usize, Moment, Assisted)>,
    /// What was put right while the recovery went on: of which fault, from when on, and what.
    pub restorings: Vec<(usize, Moment, String)>,
    /// What was seen before the faults, and will keep the database from coming back.
    pub foreseen: Vec<String>,
    /// What was seen when the service did not come, or did not come back, and kept it away.
    pub hindrances: Vec<String>,
    /// Rows that were looked up on another connection.
    pub read_backs: Vec<ReadBack>,
    /// How far the prober's moments can be from the runner's clock, as known at the beginning and at the end. Empty: there is one clock.
    pub clocks: BTreeMap<Side, TimeBound>,
    /// What the watches told, and when it arrived.
    pub sightings: Vec<(Moment, Sighting)>,
    /// What became of each entry of the undo journal, at its last try.
    pub undone: BTreeMap<u64, Undone>,
    /// Whether the service came to be stable, for each step in which that was waited for.
    pub stable: BTreeMap<Step, bool>,
    /// Whether every session of ours had ended before the final read; `None`: it was not asked.
    pub settled: Option<Answer<()>>,
    /// What went wrong that is neither a fault of the scenario nor a law.
    pub errors: Vec<String>,
}

/// The record of one fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultHistory {
    /// What it was aimed at.
    pub victim: Option<Victim>,
    /// When its call was about to be sent.
    pub called: Option<Moment>,
    /// What it hits, as it was seen before, during and after it.
    pub witnessed: BTreeMap<WitnessTime, Vec<Fact>>,
    /// What the call reported.
    pub reported: Option<String>,
    /// When its effect was seen in the cluster, and what was seen.
    pub confirmed: Option<(Moment, String)>,
    /// Why it could not be injected.
    pub failed: Option<String>,
}

impl TrialHistory {
    fn new(plan: PlannedTrial) -> Self {
        let faults = vec![FaultHistory::default(); plan.scenario.faults.len()];
        Self {
            plan,
            skipped: None,
            started: None,
            end: None,
            step: None,
            snapshots: BTreeMap::new(),
            ledger: Ledger::default(),
            reads: BTreeMap::new(),
            read_errors: BTreeMap::new(),
            attempts: Vec::new(),
            faults,
            assists: Vec::new(),
            restorings: Vec::new(),
            foreseen: Vec::new(),
            hindrances: Vec::new(),
            read_backs: Vec::new(),
            clocks: BTreeMap::new(),
            sightings: Vec::new(),
            undone: BTreeMap::new(),
            stable: BTreeMap::new(),
            settled: None,
            errors: Vec::new(),
        }
    }

    /// The last fault whose call was sent.
    #[must_use]
    pub fn last_fault(&self) -> Option<&FaultHistory> {
        self.faults.iter().rev().find(|fault| fault.called.is_some())
    }

    /// When the first fault's call was sent.
    #[must_use]
    pub fn first_call(&self) -> Option<Moment> {
        self.faults.iter().filter_map(|fault| fault.called).min()
    }

    /// The faults whose call was sent, each with its history, in the order of the scenario.
    pub fn called(&self) -> impl Iterator<Item = (&FaultSpec, &FaultHistory)> {
        let all = self.plan.scenario.faults.iter().map(|injection| &injection.fault).zip(&self.faults);
        all.filter(|(_, fault)| fault.called.is_some())
    }

    /// What the faults that were called do to the life of the server, the gravest of them.
    #[must_use]
    pub fn toll(&self) -> Toll {
        self.called().map(|(spec, _)| spec.toll()).max().unwrap_or(Toll::Ends)
    }

    /// What the last fault that was called does to it.
    #[must_use]
    pub fn last_toll(&self) -> Toll {
        self.called().last().map_or(Toll::Ends, |(spec, _)| spec.toll())
    }

    /// The life of the server before the first fault, if it tells its start time.
    #[must_use]
    pub fn old_life(&self) -> Option<Incarnation> {
        self.snapshots.get(&Side::Before)?.server_start.known().cloned().map(Incarnation)
    }

    /// How far a moment of the prober can be from the runner's clock: zero if there is one clock. `None`: two clocks were compared when the trial
    /// began, and nobody said at its end how far they had drifted.
    #[must_use]
    pub fn clock_doubt(&self) -> Option<Duration> {
        if self.clocks.is_empty() {
            return Some(Duration::ZERO);
        }
        self.clocks
            .get(&Side::After)
            .map(|after| self.clocks.get(&Side::Before).map_or(after.bound, |before| before.bound.max(after.bound)))
    }

    /// The same while the trial goes on, with room for what the clocks may drift until its end; too much of it only makes the run look at a
    /// later attempt.
    #[must_use]
    pub fn doubt_so_far(&self) -> Duration {
        self.clocks.values().map(|clocks| clocks.bound).max().map_or(Duration::ZERO, |bound| bound + ROOM_TO_DRIFT)
    }

    /// Whether all its steps were taken, with every fault, and nothing failed that is no fault of the scenario: only then may something be called broken because
    /// it was not seen.
    #[must_use]
    pub fn ran_its_course(&self) -> bool {
        matches!(self.end, Some((TrialEnd::Completed, _)))
            && self.errors.is_empty()
            && self.faults.iter().all(|fault| fault.failed.is_none())
    }

    /// The attempts of the headline stream, whether they were made or not.
    pub fn headline(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| attempt.stream == Stream::WriteNew)
    }

    /// What became of those that were made.
    pub fn headline_runs(&self) -> impl Iterator<Item = &AttemptRun> {
        self.headline().filter_map(|attempt| attempt.run.as_ref())
    }

    /// The life of the server that took the last acknowledged attempt of the headline stream, if it told.
    #[must_use]
    pub fn last_life(&self) -> Option<&Incarnation> {
        self.headline_runs().filter(|run| run.outcome == Outcome::Acknowledged).max_by_key(|run| run.ended)?.incarnation.as_ref()
    }

    /// The attempts of the headline stream whose rows were found on another connection.
    #[must_use]
    pub fn read_back(&self) -> BTreeSet<u64> {
        self.read_backs.iter().filter(|back| back.found).map(|back| back.number).collect()
    }
}

impl History {
    /// Folds all events.
    #[must_use]
    pub fn of(events: impl IntoIterator<Item = Event>) -> Self {
        let mut history = Self::default();
        for event in events {
            history.apply(&event);
        }
        history
    }

    /// Folds one more event.
    pub fn apply(&mut self, event: &Event) {
        self.last = self.last.max(event.t);
        match (event.trial, &event.event) {
            (_, EventKind::RunStarted(plan)) => {
                self.started = Some(event.at);
                self.trials = plan.trials.iter().cloned().map(TrialHistory::new).collect();
                self.plan = Some(plan.as_ref().clone());
            }
            (_, EventKind::PlatformReady(platform)) => self.platform = Some(platform.clone()),
            (_, EventKind::EngineSeen(engine)) => self.engine = Some(engine.clone()),
            (_, EventKind::RunError(text)) => self.errors.push(text.clone()),
            (_, EventKind::Warning(text)) => {
                if !self.warnings.contains(text) {
                    self.warnings.push(text.clone());
                }
            }
            (_, EventKind::LeftInPlace(text)) => self.left_in_place.push(text.clone()),
            (_, EventKind::RunFinished(end)) => self.end = Some(*end),
            (Some(number), kind) => {
                let index = usize::try_from(number).unwrap_or(usize::MAX).wrapping_sub(1);
                match self.trials.get_mut(index) {
                    Some(trial) => trial.apply(event, kind),
                    None => self.errors.push(format!("the record speaks of trial {number}, which was not planned")),
                }
            }
            (None, kind) => self.errors.push(format!("the record has an event outside any trial that belongs to one: {kind:?}")),
        }
    }
}

impl TrialHistory {
    fn apply(&mut self, event: &Event, kind: &EventKind) {
        match kind {
            EventKind::Skipped(reason) => self.skipped = Some(reason.clone()),
            EventKind::TrialStarted => self.started = Some((event.at, event.t)),
            EventKind::Step(step) => self.step = Some(*step),
            EventKind::Snapshot(side, snapshot) => {
                self.snapshots.insert(*side, snapshot.as_ref().clone());
            }
            EventKind::Ledger(entry) => self.ledger.enter(entry),
            EventKind::TableRead(side, read) => self.reads.entry(*side).or_default().push(read.as_ref().clone()),
            EventKind::TableReadFailed(side, text) => {
                self.read_errors.insert(*side, text.clone());
            }
            EventKind::Attempt(attempt) => {
                self.ledger.enter_attempt(attempt);
                self.attempts.push(attempt.as_ref().clone());
            }
            EventKind::FaultResolved(index, victim) => self.fault(*index, |fault| fault.victim = Some(victim.as_ref().clone())),
            EventKind::FaultCalled(index) => self.fault(*index, |fault| fault.called = Some(event.t)),
            EventKind::FaultReturned(index, text) => self.fault(*index, |fault| fault.reported = Some(text.clone())),
            EventKind::Witnessed(index, Witness { at, facts }) => {
                self.fault(*index, |fault| drop(fault.witnessed.insert(*at, facts.clone())));
            }
            EventKind::FaultConfirmed(index, text) => self.fault(*index, |fault| fault.confirmed = Some((event.t, text.clone()))),
            EventKind::FaultFailed(index, text) => self.fault(*index, |fault| fault.failed = Some(text.clone())),
            EventKind::Assisted(index, assisted) => self.assists.push((*index, event.t, assisted.clone())),
            EventKind::Restoring(index, what) => self.restorings.push((*index, event.t, what.clone())),
            EventKind::Foreseen(text) => self.foreseen.push(text.clone()),
            EventKind::Hindrance(text) => self.hindrances.push(text.clone()),
            EventKind::ReadBack(back) => self.read_backs.push(back.clone()),
            EventKind::TimesCompared(side, bound) => {
                self.clocks.insert(*side, *bound);
            }
            EventKind::Seen(sighting) => self.sightings.push((event.t, sighting.clone())),
            EventKind::Stable(step, came) => {
                self.stable.insert(*step, *came);
            }
            EventKind::Settled(answer) => self.settled = Some(answer.clone()),
            EventKind::Undone(undone) => {
                self.undone.insert(undone.entry, undone.clone());
            }
            EventKind::TrialError(text) => self.errors.push(text.clone()),
            EventKind::TrialFinished(end) => self.end = Some((*end, event.t)),
            EventKind::RunStarted(_)
            | EventKind::PlatformReady(_)
            | EventKind::EngineSeen(_)
            | EventKind::RunError(_)
            | EventKind::Warning(_)
            | EventKind::LeftInPlace(_)
            | EventKind::RunFinished(_) => unreachable!("events of the run are folded by the run"),
        }
    }

    fn fault(&mut self, index: usize, change: impl FnOnce(&mut FaultHistory)) {
        match self.faults.get_mut(index) {
            Some(fault) => change(fault),
            None => self.errors.push(format!("the record speaks of fault {index}, which the scenario does not have")),
        }
    }
}
