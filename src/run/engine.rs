//! The trials one after the other, on one cluster, with the reports written anew after each.

use std::{path::PathBuf, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    Folder, Recorder,
    place::{On, Place, Ready},
    plan, skipped,
    trial::Trial,
    undo,
};
use crate::{
    check::judge,
    cluster::{chain, lease::RunLease},
    event::{Clock, EventKind, RunEnd, RunStarted, Step, TrialEnd},
    fault::{Consent, Fault as _, Journal},
    platform::Capability,
    report,
    result::{self, RunResult, TrialResult},
    scenario::Suite,
    workload::final_read::RowFile,
};

/// What is to be run, and where.
#[derive(Debug)]
pub struct Options {
    /// The scenarios.
    pub suite: Suite,
    /// The id of the run.
    pub run: String,
    /// The seed of every random choice.
    pub seed: u64,
    /// Where.
    pub on: On,
    /// What the user lets be broken beside the target.
    pub consent: Consent,
}

/// Whoever wants to hear how far the run is.
pub trait Audience: Sync {
    /// A trial begins; `index` counts from 0.
    fn trial(&self, name: &str, index: usize);
    /// Something else is done now.
    fn step(&self, what: &str);
    /// A trial has ended.
    fn finish_trial(&self, trial: &TrialResult);
}

/// Makes the run. Whatever happens is in its folder; the result is what the record says.
///
/// When `shutdown` is cancelled, no further fault is injected, what was done is undone, and what is known is judged.
pub async fn run(options: Options, folder: Folder, audience: &dyn Audience, shutdown: CancellationToken) -> RunResult {
    let Folder { path, record, journal, rows_before, rows_after } = folder;
    let (recorder, recording) = Recorder::start(Clock::new(), record);
    let Options { suite, run: id, seed, on, consent } = options;
    let plan = plan(&suite, &id, seed, on.describe(), &on.defaults());
    recorder.record(None, EventKind::RunStarted(Box::new(plan.clone()))).await;

    let mut run = Run { plan, path, recorder, journal, rows_before, rows_after, audience, shutdown, consent };
    run.write_reports().await;
    Box::pin(run.go(on)).await;
    let end = if run.shutdown.is_cancelled() { RunEnd::Interrupted } else { RunEnd::Completed };
    run.say(EventKind::RunFinished(end)).await;
    let result = run.write_reports().await;
    drop(run);
    // All copies of the recorder are gone by now, so it ends when the last line is written.
    let _ = tokio::time::timeout(RECORD_DEADLINE, recording).await;
    result
}

/// How long the last lines of the record may take to reach the disk.
const RECORD_DEADLINE: Duration = Duration::from_secs(10);

struct Run<'a> {
    plan: RunStarted,
    path: PathBuf,
    recorder: Recorder,
    journal: Journal,
    rows_before: RowFile,
    rows_after: RowFile,
    audience: &'a dyn Audience,
    shutdown: CancellationToken,
    consent: Consent,
}

impl Run<'_> {
    async fn go(&mut self, on: On) {
        self.audience.step(on.starting());
        let started = Place::start(on, &self.plan.run);
        let mut place = match self.shutdown.clone().run_until_cancelled(started).await {
            Some(Ok(place)) => place,
            Some(Err(error)) => return self.say(EventKind::RunError(chain(&error))).await,
            None => return,
        };
        let platform = result::Platform { kubernetes: Some(place.kubernetes.clone()), ..self.plan.platform.clone() };
        self.say(EventKind::PlatformReady(platform)).await;
        Box::pin(self.alone(&mut place)).await;
        if let Some(stopping) = place.stopping() {
            self.audience.step(stopping);
        }
        place.stop().await;
    }

    /// Makes the trials with the lease of the cluster in hand: two runs would measure each other.
    async fn alone(&mut self, place: &mut Place) {
        let lease = match self.shutdown.clone().run_until_cancelled(RunLease::acquire(&place.cluster, &self.plan.run)).await {
            Some(Ok(lease)) => lease,
            Some(Err(error)) => return self.say(EventKind::RunError(chain(&error))).await,
            None => return,
        };
        match self.shutdown.clone().run_until_cancelled(Box::pin(place.may_begin())).await {
            Some(Ok(())) => {
                self.journal.keep_in(&place.cluster, &self.plan.run).await;
                self.trials(place, &lease).await;
            }
            Some(Err(error)) => self.say(EventKind::RunError(chain(&error))).await,
            None => {}
        }
        self.undo_the_rest(place).await;
        for left in place.clear().await {
            self.say(EventKind::LeftInPlace(format!("{left} ({})", place.remedy()))).await;
        }
        if let Some(lost) = lease.lost() {
            self.say(EventKind::RunError(format!("the run has lost its cluster to another process: {lost}"))).await;
        }
        // One that cannot be removed runs out by itself.
        let _ = lease.release().await;
    }

    async fn trials(&mut self, place: &mut Place, lease: &RunLease) {
        let faults = self.plan.trials.iter().flat_map(|trial| &trial.scenario.faults);
        let needed: Vec<Capability> = faults.flat_map(|injection| injection.fault.needs()).copied().collect();
        if self.shutdown.run_until_cancelled(Box::pin(place.platform.find_out(&needed))).await.is_none() {
            return;
        }
        let skipped = skipped(&self.plan, &place.platform);
        for (number, reason) in (1..).zip(&skipped) {
            if let Some(reason) = reason {
                self.recorder.record(Some(number), EventKind::Skipped(reason.clone())).await;
            }
        }
        for (index, skipped) in skipped.iter().enumerate() {
            // What another process may be breaking is not ours to break or to measure any more.
            if self.shutdown.is_cancelled() || lease.lost().is_some() {
                return;
            }
            self.audience.trial(&self.plan.trials[index].scenario.name, index);
            let end = match skipped {
                Some(_) => TrialEnd::Completed,
                None => self.trial(place, index, lease).await,
            };
            let result = self.write_reports().await;
            self.audience.finish_trial(&result.trials[index]);
            if end == TrialEnd::Interrupted || self.recorder.live().borrow().broken.is_some() {
                return;
            }
        }
    }

    /// One trial. A place that cannot be made ready for it is an error of that trial.
    async fn trial(&mut self, place: &mut Place, index: usize, lease: &RunLease) -> TrialEnd {
        let number = u32::try_from(index + 1).expect("a run has few trials");
        let (plan, audience) = (&self.plan.trials[index], self.audience);
        audience.step("making the place ready");
        // On the heap: the futures of calls to the cluster are large.
        let making_ready = Box::pin(place.make_ready(&plan.scenario, self.recorder.clock(), || self.recorder.notes()));
        let Ready { cluster, platform, prober, address, fresh } = match self.shutdown.run_until_cancelled(making_ready).await {
            Some(Ok(ready)) => ready,
            Some(Err(error)) => {
                for event in [EventKind::TrialStarted, EventKind::TrialError(chain(&error)), EventKind::TrialFinished(TrialEnd::Completed)]
                {
                    self.recorder.record(Some(number), event).await;
                }
                return TrialEnd::Completed;
            }
            None => return TrialEnd::Interrupted,
        };
        let trial = Trial {
            cluster,
            platform,
            recorder: &self.recorder,
            journal: &self.journal,
            lease,
            rows_before: &mut self.rows_before,
            rows_after: &mut self.rows_after,
            prober,
            address: &address,
            number,
            fresh,
            plan,
            run: &self.plan.run,
            consent: &self.consent,
            stable_after_lifting: false,
            // Each trial has a sequence of its own, so that one more draw in a trial does not change those behind it.
            random: fastrand::Rng::with_seed(self.plan.seed.wrapping_add(u64::from(number))),
            shutdown: self.shutdown.clone(),
            progress: &|step: Step| audience.step(&step.to_string()),
        };
        // On the heap: a trial is the largest of our futures.
        Box::pin(trial.run()).await
    }

    /// What could not be undone in its trial is tried once more, and named if it still fails.
    async fn undo_the_rest(&self, place: &Place) {
        for entry in self.journal.pending() {
            undo::undo(&place.cluster, &place.platform, &self.recorder, &self.journal, &entry).await;
        }
        for entry in self.journal.pending() {
            self.say(EventKind::LeftInPlace(format!("{} ({})", entry.undo.by_hand(), place.remedy()))).await;
        }
        if let Err(error) = self.journal.close().await {
            self.say(EventKind::LeftInPlace(chain(&error))).await;
        }
    }

    /// Writes all reports anew from the record so far. What cannot be written is an error of the run, told once.
    async fn write_reports(&self) -> RunResult {
        let mut result = judge(&self.recorder.history().await);
        let mut error = report::write_all(&self.path, &result).err().map(|error| error.to_string());
        if let Some(broken) = &self.recorder.live().borrow().broken {
            error = Some(broken.to_string());
        }
        if let Some(error) = error
            && !result.errors.contains(&error)
        {
            self.say(EventKind::RunError(error)).await;
            result = judge(&self.recorder.history().await);
            // Those that can be written say so.
            let _ = report::write_all(&self.path, &result);
        }
        result
    }

    async fn say(&self, event: EventKind) {
        self.recorder.record(None, event).await;
    }
}
