//! The steps of one trial.
//!
//! 1. a fresh pod, so that no back-off is carried over from the trial before;
//! 2. tables of its own, a mark on the volume, a snapshot, the first rows, written and read back;
//! 3. the streams start; when every probe has succeeded for `steadyFor`, and a random part of the cluster's heartbeat later,
//! 4. the faults, each when its time has come: aim, look, journal, inject, confirm, look again;
//! 5. wait until what lasts was undone, and for the first good write, read it back on another connection, then for `stableFor` without a failure, or give up;
//! 6. undo, last in first out, each verified; what that breaks is measured too;
//! 7. the streams stop, the writers' sessions end, the tables are read and compared, a second snapshot.
//!
//! Whatever ends the steps early (an error, Ctrl-C), 6 is done, and 7 as far as it can be in a few seconds: a lost row must not be
//! hidden by what failed elsewhere.

mod faults;
mod rows;

use std::{future::Future, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::faults::Injected;
use super::{Feed, Recorder, beside::Beside, undo};
use crate::{
    cluster::{Cluster, chain, lease::RunLease, warnings::warnings, watch::Watches},
    event::{Answer, EventKind, Moment, PROBE_WRITER, PlannedTrial, ReadBack, RowKey, Sighting, Snapshot, Step, TrialEnd},
    fault::{Consent, EFFECT_DEADLINE, Entry, Fault as _, Journal, Scene},
    platform::Platform,
    prober::{
        Prober, ProberError,
        message::{EngineFacts, Looked},
    },
    result,
    scenario::{FaultSpec, Toll},
    workload::{DATABASE, DELAYED, final_read::RowFile},
};

/// How long the service may take to be steady before the first fault, beside `steadyFor` itself.
const STEADY_DEADLINE: Duration = Duration::from_mins(1);
/// How long an interrupted trial waits for its streams to stop: the deadline of a write, its connection, and the farewell.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// How long an interrupted trial may take to read the rows all the same.
const CLOSING_DEADLINE: Duration = Duration::from_secs(5);
/// How often something is tried again.
const RETRY_PERIOD: Duration = Duration::from_millis(100);

/// Why the steps of a trial ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The user wants it.
    Interrupted,
    /// Something failed that is no fault of the scenario.
    Failed(String),
}

/// What a trial works with.
pub(super) struct Trial<'a> {
    /// The cluster.
    pub(super) cluster: &'a Cluster,
    /// What this place can do beside.
    pub(super) platform: &'a Platform,
    /// The record.
    pub(super) recorder: &'a Recorder,
    /// The undo journal.
    pub(super) journal: &'a Journal,
    /// What keeps others out.
    pub(super) lease: &'a RunLease,
    /// `rows-before.csv`.
    pub(super) rows_before: &'a mut RowFile,
    /// `rows-after.csv`.
    pub(super) rows_after: &'a mut RowFile,
    /// The one who speaks SQL.
    pub(super) prober: &'a Prober,
    /// Where the database is found.
    pub(super) address: &'a Address,
    /// Its number in the run, from 1.
    pub(super) number: u32,
    /// Whether the database's pod is new.
    pub(super) fresh: bool,
    /// What is to be done.
    pub(super) plan: &'a PlannedTrial,
    /// The id of the run.
    pub(super) run: &'a str,
    /// What the user lets be broken.
    pub(super) consent: &'a Consent,
    /// Whether the service was looked at for long enough since all that was undone was.
    pub(super) stable_after_lifting: bool,
    /// Where its random choices come from.
    pub(super) random: fastrand::Rng,
    /// Is cancelled when the user wants it to stop.
    pub(super) shutdown: CancellationToken,
    /// Tells the one who waits what is done just now.
    pub(super) progress: &'a (dyn Fn(Step) + Sync),
}

/// Where the database is found, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// The stable service address.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
    /// The login.
    pub(super) user: String,
}

impl Trial<'_> {
    /// Makes the trial. What it found is in the record; what it broke is undone, or still pending in the journal.
    pub(super) async fn run(mut self) -> TrialEnd {
        self.say(EventKind::TrialStarted).await;
        let sightings: Feed<Sighting> = self.recorder.sightings(self.number);
        let watches = Watches::start(self.cluster, sightings.sender.clone());
        let mut streams = false;

        let mut restored = false;
        let stopped = self.until_recovered(&watches, &mut streams, &mut restored).await.err();
        if let Some(Stop::Failed(error)) = &stopped {
            self.say(EventKind::TrialError(error.clone())).await;
            self.look_for_hindrances().await;
        }
        let mut interrupted = matches!(stopped, Some(Stop::Interrupted));
        // What lasted was undone before the service was called stable, so that was after the undo, too.
        let undone = self.undo().await || (restored && !self.stable_after_lifting);
        if streams {
            if undone && !interrupted {
                interrupted = matches!(self.after_undo().await, Err(Stop::Interrupted));
            }
            let all_told = self.stop_streams().await;
            // What can be read in a moment is read all the same: a lost row must not be hidden by an interrupt.
            let asked = self.shutdown.clone();
            let (closing, _guard) = a_moment_after(&asked);
            self.shutdown = closing;
            // What could not be read leaves its laws unproven. Without the last outcomes, rows that are there would look like rows that nobody wrote.
            if all_told {
                let _ = self.rows_after().await;
            }
            interrupted |= asked.is_cancelled();
        }
        // Somebody else may have broken what was measured, whichever way it looks.
        if let Err(Stop::Failed(error)) = self.alone()
            && !matches!(&stopped, Some(Stop::Failed(said)) if *said == error)
        {
            self.say(EventKind::TrialError(error)).await;
        }
        self.close_prober(stopped.as_ref()).await;
        drop(watches);
        sightings.finish().await;
        let end = if interrupted { TrialEnd::Interrupted } else { TrialEnd::Completed };
        self.say(EventKind::TrialFinished(end)).await;
        end
    }

    /// The clocks are compared for the last time. A prober that failed makes the trial an error, once.
    async fn close_prober(&self, stopped: Option<&Stop>) {
        let _ = self.or_a_moment_after(CLOSING_DEADLINE, self.prober.close_trial()).await;
        if let Some(failure) = self.prober.failure() {
            let error = failure.to_string();
            if !matches!(stopped, Some(Stop::Failed(said)) if *said == error) {
                self.say(EventKind::TrialError(error)).await;
            }
        }
    }

    /// Nothing is broken by one who may not be the only one who breaks.
    fn alone(&self) -> Result<(), Stop> {
        match self.lease.lost() {
            None => Ok(()),
            Some(why) => Err(Stop::Failed(format!("another process may be at work here: {why}"))),
        }
    }

    /// Steps 1 to 5.
    async fn until_recovered(&mut self, watches: &Watches, streams: &mut bool, restored: &mut bool) -> Result<(), Stop> {
        self.fresh_pod(watches).await?;
        self.look_ahead().await?;
        self.rows_before().await?;
        let began = self.recorder.clock().now();
        let probe = self.plan.scenario.probe.clone();
        let load = self.plan.scenario.load.clone();
        // From here on there is something to stop, also if the answer is never heard.
        *streams = true;
        self.ask(self.prober.start_streams(&probe, &load)).await?;
        self.steady(began).await?;
        if self.plan.scenario.faults.is_empty() {
            // The control trial: as long as a trial with a fault that does nothing.
            let since = self.recorder.clock().now();
            return self.stable_since(Step::Recovery, since).await.map(drop);
        }
        let over = CancellationToken::new();
        let beside = Beside {
            scene: Scene {
                cluster: self.cluster,
                platform: self.platform,
                watches,
                stop: &over,
                consent: self.consent,
                lasting: self.plan.settings.lasting,
                patience: self.patience(),
            },
            recorder: self.recorder,
            journal: self.journal,
            lease: self.lease,
            trial: self.number,
        };
        let (aftermaths, queue) = mpsc::unbounded_channel();
        let broken = async {
            let result = self.break_and_recover(watches, aftermaths).await;
            over.cancel();
            result
        };
        let (result, undone) = tokio::join!(broken, beside.follow(queue));
        *restored = undone;
        result
    }

    /// How long the effect of a fault is waited for.
    fn patience(&self) -> Duration {
        EFFECT_DEADLINE.min(self.plan.settings.give_up_after)
    }

    /// What faults work with.
    fn scene<'s>(&'s self, watches: &'s Watches, stop: &'s CancellationToken) -> Scene<'s> {
        Scene {
            cluster: self.cluster,
            platform: self.platform,
            watches,
            stop,
            consent: self.consent,
            lasting: self.plan.settings.lasting,
            patience: self.patience(),
        }
    }

    /// Step 1.
    async fn fresh_pod(&mut self, watches: &Watches) -> Result<(), Stop> {
        self.step(Step::FreshPod).await;
        let start_within = self.platform.defaults().start_within;
        let mut old = None;
        if !self.fresh {
            self.alone()?;
            let fault = FaultSpec::DeletePod(crate::scenario::DeletePod::default());
            let scene = self.scene(watches, &self.shutdown);
            let deleted = async {
                let aim = fault.aim(&scene).await?;
                fault.inject(&scene, &aim).await?;
                Ok::<_, crate::fault::FaultError>(aim.pod.uid)
            };
            old = Some(self.unless_interrupted(deleted).await?.map_err(|error| Stop::Failed(chain(&error)))?);
        }
        let ready = watches.wait_until("a ready pod of the database", start_within, |view| {
            view.ready_pod().filter(|pod| Some(&pod.uid) != old.as_ref()).map(|_| ())
        });
        match self.unless_interrupted(ready).await? {
            Ok(()) => Ok(()),
            Err(error) => {
                let why = self.unless_interrupted(self.cluster.why_not_up()).await?;
                Err(Stop::Failed(format!("{error}: {why}")))
            }
        }
    }

    /// What a reader should know before anything is broken, and what will keep the database from coming back.
    async fn look_ahead(&self) -> Result<(), Stop> {
        let faults = &self.plan.scenario.faults;
        for warning in self.unless_interrupted(Box::pin(warnings(self.cluster))).await? {
            let text = warning.to_string();
            self.recorder.record(None, EventKind::Warning(text.clone())).await;
            if warning.dooms_all() || faults.iter().any(|injection| warning.dooms(&injection.fault)) {
                self.say(EventKind::Foreseen(text)).await;
            }
        }
        Ok(())
    }

    /// What keeps the service away, now that it is away: somebody may have broken it beside us.
    async fn look_for_hindrances(&self) {
        let faults = &self.plan.scenario.faults;
        // Whoever interrupts wants no explanation.
        let Ok(found) = self.unless_interrupted(Box::pin(warnings(self.cluster))).await else { return };
        for warning in found {
            if warning.dooms_all() || faults.iter().any(|injection| warning.dooms(&injection.fault)) {
                self.say(EventKind::Hindrance(warning.to_string())).await;
            }
        }
    }

    /// Says once a run what the database calls itself.
    async fn describe_engine(&self) {
        if self.recorder.history().await.engine.is_some() {
            return;
        }
        let Ok(EngineFacts { version: Answer::Known(version), edition, delayed_durability }) = self.prober.describe_engine().await else {
            let text = "The database did not tell what it is: whether this is SQL Server or a stand-in is not known";
            self.recorder.record(None, EventKind::Warning(text.to_owned())).await;
            return;
        };
        let stand_in = version.contains("comeback sqld");
        if stand_in {
            let text = "The database is the stand-in `comeback sqld`, not SQL Server: this run shows what the harness does, and nothing of SQL Server";
            self.recorder.record(None, EventKind::Warning(text.to_owned())).await;
        }
        if delayed_durability.known().is_some_and(|durability| durability == DELAYED) {
            let text = format!(
                "Database `{DATABASE}` delays durability ({DELAYED}): it acknowledges commits before they are stored, so a crash may lose acknowledged rows and break \
                 no promise (hint: `ALTER DATABASE [{DATABASE}] SET DELAYED_DURABILITY = DISABLED`)"
            );
            self.recorder.record(None, EventKind::Warning(text)).await;
        }
        let version = version.lines().next().unwrap_or_default().trim().to_owned();
        let engine = result::Engine { version, edition: edition.known().cloned(), stand_in };
        self.recorder.record(None, EventKind::EngineSeen(engine)).await;
    }

    async fn snapshot(&self) -> Snapshot {
        // On the heap: the futures of calls to the cluster are large.
        let (pod, service, volume) = Box::pin(self.cluster.look()).await;
        let Looked { server_start, volume_mark } = self.prober.look().await;
        Snapshot { pod, service, volume, server_start, volume_mark }
    }

    /// Returns whether every attempt and every write is recorded now; else the prober has failed, or was given up.
    async fn stop_streams(&self) -> bool {
        let stopped = self.or_a_moment_after(STOP_DEADLINE, self.prober.stop_streams(self.plan.scenario.probe.timeout.0)).await;
        match stopped {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                if self.prober.failure().is_none() {
                    self.say(EventKind::TrialError(format!("could not stop the streams: {error}"))).await;
                }
                false
            }
            None => false,
        }
    }

    /// Step 3.
    async fn steady(&mut self, began: Moment) -> Result<(), Stop> {
        self.step(Step::SteadyState).await;
        let steady_for = self.plan.settings.steady_for;
        let deadline = steady_for + STEADY_DEADLINE;
        if self.streak(began, steady_for, deadline).await? {
            Ok(())
        } else {
            let waited = humantime::format_duration(deadline);
            let steady_for = humantime::format_duration(steady_for);
            Err(Stop::Failed(format!("the service was never without a failure for {steady_for} within {waited}, before any fault")))
        }
    }

    /// Step 5.
    async fn recovered(&mut self, injected: &[Injected]) -> Result<(), Stop> {
        self.step(Step::Recovery).await;
        for fault in injected.iter().filter(|fault| fault.lasts) {
            // It ends by itself: an undo has its deadline.
            self.unless_stopped(fault.lifted.cancelled()).await?;
        }
        let toll = self.plan.scenario.faults.last().map_or(Toll::Ends, |injection| injection.fault.toll());
        if toll != Toll::Ends {
            let stable = self.unharmed().await?;
            self.note_lifted(injected, stable).await;
            return Ok(());
        }
        let give_up = Instant::now() + self.plan.settings.give_up_after;
        let good = self.unless_stopped(self.read_back_first_good(give_up)).await??;
        let stable = match good {
            Some(due) => {
                let left = give_up.saturating_duration_since(Instant::now());
                self.streak(due, self.plan.settings.stable_for, left).await?
            }
            None => false,
        };
        if !stable {
            self.look_for_hindrances().await;
        }
        self.say(EventKind::Stable(Step::Recovery, stable)).await;
        self.note_lifted(injected, stable).await;
        Ok(())
    }

    /// Where all that was undone so far had lasted, and was undone before it was looked whether the service is stable, it need not be looked again.
    async fn note_lifted(&mut self, injected: &[Injected], stable: bool) {
        if injected.iter().any(|fault| fault.lasts)
            && !self.plan.scenario.faults.iter().any(|one| matches!(one.fault, FaultSpec::CrashNode(_)))
        {
            self.stable_after_lifting = true;
            self.say(EventKind::Stable(Step::AfterUndo, stable)).await;
        }
    }

    /// Step 5, after a fault that need not be noticed: without a failure for long enough, now that it is over; then, if one had failed, the first good write is read
    /// back.
    async fn unharmed(&mut self) -> Result<bool, Stop> {
        let since = self.recorder.clock().now();
        let stable = self.stable_since(Step::Recovery, since).await?;
        if self.recorder.live().borrow().first_good.is_some() {
            let give_up = Instant::now() + self.plan.settings.give_up_after;
            self.unless_stopped(self.read_back_first_good(give_up)).await??;
        }
        Ok(stable)
    }

    /// Waits for the first good write and reads it back. Returns when it was due; `None`: none came.
    async fn read_back_first_good(&self, give_up: Instant) -> Result<Option<Moment>, Stop> {
        let mut live = self.recorder.live();
        loop {
            let waiting = live.wait_for(|live| live.first_good.is_some() || live.broken.is_some());
            let Ok(Ok(found)) = tokio::time::timeout_at(give_up, waiting).await else { return Ok(None) };
            let (good, broken) = (found.first_good, found.broken.clone());
            drop(found);
            if let Some(broken) = broken {
                return Err(Stop::Failed(broken.to_string()));
            }
            let Some((number, due)) = good else { continue };
            // The service may go away again: the row is looked for until the run gives up.
            if let Ok(held) = self.prober.holds(RowKey { writer: PROBE_WRITER, seq: number }).await {
                self.say(EventKind::ReadBack(ReadBack { number, started: held.started, ended: held.ended, found: held.found })).await;
                if held.found {
                    return Ok(Some(due));
                }
            }
            if Instant::now() + RETRY_PERIOD > give_up {
                return Ok(None);
            }
            sleep(RETRY_PERIOD).await;
        }
    }

    /// Step 6. Returns whether something was undone. It is not interrupted: an undo is what an interrupt waits for.
    async fn undo(&mut self) -> bool {
        let ours: Vec<Entry> = self.journal.pending().into_iter().filter(|entry| entry.trial == self.number).collect();
        if ours.is_empty() {
            return false;
        }
        self.step(Step::Undo).await;
        // What fails stays pending: it is tried once more at the end of the run, and named if it still fails.
        for entry in ours {
            undo::undo(self.cluster, self.platform, self.recorder, self.journal, &entry).await;
        }
        true
    }

    /// What the undo breaks is measured too.
    async fn after_undo(&mut self) -> Result<(), Stop> {
        self.step(Step::AfterUndo).await;
        let since = self.recorder.clock().now();
        self.stable_since(Step::AfterUndo, since).await.map(drop)
    }

    /// `since` is a moment of the runner: an attempt that may have been due before it does not count.
    async fn stable_since(&self, step: Step, since: Moment) -> Result<bool, Stop> {
        let settings = &self.plan.settings;
        let stable = self.streak(since.plus(self.prober.doubt()), settings.stable_for, settings.give_up_after).await?;
        if !stable {
            self.look_for_hindrances().await;
        }
        self.say(EventKind::Stable(step, stable)).await;
        Ok(stable)
    }

    /// Waits until the headline stream has been without a failure for `length`, counted from `since`. `false`: not within the deadline.
    async fn streak(&self, since: Moment, length: Duration, deadline: Duration) -> Result<bool, Stop> {
        let mut live = self.recorder.live();
        let waiting = live.wait_for(|live| live.streak.length_since(since) >= length || live.broken.is_some());
        match self.unless_stopped(timeout(deadline, waiting)).await? {
            Ok(Ok(live)) => match &live.broken {
                Some(broken) => Err(Stop::Failed(broken.to_string())),
                None => Ok(true),
            },
            Ok(Err(_)) | Err(_) => Ok(false),
        }
    }

    async fn say(&self, event: EventKind) {
        self.recorder.record(Some(self.number), event).await;
    }

    async fn step(&self, step: Step) {
        (self.progress)(step);
        self.say(EventKind::Step(step)).await;
    }

    /// Asks the prober for something that the trial cannot do without.
    async fn ask<T>(&self, answer: impl Future<Output = Result<T, ProberError>>) -> Result<T, Stop> {
        self.unless_stopped(answer).await?.map_err(|error| Stop::Failed(error.to_string()))
    }

    /// As [`Self::unless_interrupted`], for what makes no sense without a prober.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let work = async {
            tokio::select! {
                biased;
                failure = self.prober.failed() => Err(Stop::Failed(failure.to_string())),
                done = work => Ok(done),
            }
        };
        self.unless_interrupted(work).await?
    }

    /// Does what an interrupt too waits for, but not for long. `None`: it was interrupted, and it took longer.
    async fn or_a_moment_after<T>(&self, moment: Duration, work: impl Future<Output = T>) -> Option<T> {
        let impatient = async {
            self.shutdown.cancelled().await;
            sleep(moment).await;
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = impatient => None,
        }
    }

    async fn unless_interrupted<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Err(Stop::Interrupted),
            done = work => Ok(done),
        }
    }
}

/// A token that is cancelled [`CLOSING_DEADLINE`] after this one is; the watch for that ends with the guard.
fn a_moment_after(asked: &CancellationToken) -> (CancellationToken, DropGuard) {
    let (asked, closing) = (asked.clone(), CancellationToken::new());
    let late = closing.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = asked.cancelled() => {
                sleep(CLOSING_DEADLINE).await;
                late.cancel();
            }
            () = late.cancelled() => {}
        }
    });
    let guard = closing.clone().drop_guard();
    (closing, guard)
}
