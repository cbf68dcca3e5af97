//! Step 4 of a trial: when each fault comes, and what is written down around its injection.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{RETRY_PERIOD, Stop, Trial};
use crate::{
    cluster::{ClusterError, View, chain, watch::Watches},
    event::{EventKind, Moment, Step, Victim, Witness, WitnessTime},
    fault::{Aim, Fault as _, FaultError, Scene},
    platform::PlatformError,
    run::beside::Followed,
    scenario::{After, Cue, FaultSpec, Injection, Toll},
};

/// How long an API server that was stopped by a fault may take to answer again, so that the lease can be renewed.
const API_SERVER_BACK_WITHIN: Duration = Duration::from_mins(1);
/// How long a fault that comes before the database is back waits for something to hit.
const AIM_DEADLINE: Duration = Duration::from_secs(30);

impl Trial<'_> {
    /// Steps 4 and 5. What is to go on beside them is sent to `aftermaths`.
    pub(super) async fn break_and_recover(&mut self, watches: &Watches, aftermaths: mpsc::UnboundedSender<Followed>) -> Result<(), Stop> {
        self.step(Step::Faults).await;
        self.decorrelate().await?;
        let mut before: Vec<Injected> = Vec::new();
        for (index, injection) in self.plan.scenario.faults.iter().enumerate() {
            if let Err(why) = self.until_its_time(watches, injection, &before).await? {
                self.look_for_hindrances().await;
                self.say(EventKind::FaultFailed(index, why)).await;
                return Ok(());
            }
            match self.inject(watches, index, injection, &aftermaths).await? {
                Some(injected) => before.push(injected),
                // What could not be injected is in the record; what follows would be another experiment.
                None => return Ok(()),
            }
        }
        self.recovered(&before).await?;
        self.settle(watches, &before).await
    }

    /// Looks once more at what could not tell earlier what became of it.
    async fn settle(&self, watches: &Watches, injected: &[Injected]) -> Result<(), Stop> {
        let stop = self.shutdown.clone();
        // What was not seen to have an effect does not get that of a later fault.
        for Injected { index, aim, .. } in injected.iter().filter(|one| one.seen) {
            let fault = &self.plan.scenario.faults[*index].fault;
            let scene = Scene { lasting: self.undone_within(fault), ..self.scene(watches, &stop) };
            if self.unless_stopped(fault.settle(&scene, aim)).await?
                && let Ok(facts) = self.unless_stopped(fault.witness(&scene, aim)).await?
            {
                self.say(EventKind::Witnessed(*index, Witness { at: WitnessTime::During, facts })).await;
            }
        }
        Ok(())
    }

    fn undone_within(&self, fault: &FaultSpec) -> Duration {
        fault.undone_within(self.platform.name(), &self.plan.settings, &self.plan.scenario.faults)
    }

    /// Waits until a fault is to come. `Err`: its time did not come, and why.
    async fn until_its_time(&self, watches: &Watches, injection: &Injection, before: &[Injected]) -> Result<Result<(), String>, Stop> {
        let Some(last) = before.last() else { return Ok(Ok(())) };
        if let Some(during) = &injection.during {
            let base = before.iter().rev().find(|earlier| earlier.name == during).expect("a scenario names an earlier fault");
            return Ok(if base.lifted.is_cancelled() { Err(format!("`{during}` was over before it could come")) } else { Ok(()) });
        }
        match injection.after {
            None => {
                let back = self.back_from_the_last(last).await?;
                let why = if last.seen {
                    "the database did not come back from the fault before, so there was nothing to break"
                } else {
                    "nothing was seen of the fault before, and the database neither went away nor came back"
                };
                Ok(if back { Ok(()) } else { Err(why.to_owned()) })
            }
            Some(After::Elapsed(time)) => {
                self.unless_stopped(tokio::time::sleep_until(last.called + time.0)).await?;
                Ok(Ok(()))
            }
            Some(After::Seen(cue)) => {
                let deadline = self.plan.settings.give_up_after;
                let seen = watches.wait_until(cue.name(), deadline, |view| is_so(cue, view, last).then_some(()));
                if let Err(not_seen) = self.unless_stopped(seen).await? {
                    return Ok(Err(format!("what it was to come after: {not_seen}")));
                }
                if cue == Cue::Recovering {
                    self.until_missed(last).await?;
                }
                Ok(Ok(()))
            }
        }
    }

    /// Waits until a write was missed since that fault: a server that nobody has missed yet cannot be shown to be recovering. Not for long, because meanwhile it
    /// may have recovered; the evidence tells.
    async fn until_missed(&self, last: &Injected) -> Result<(), Stop> {
        let since = last.called_at.plus(self.prober.doubt());
        let mut live = self.recorder.live();
        let missed = live.wait_for(|live| live.missed.is_some_and(|missed| missed >= since) || live.broken.is_some());
        let patience = self.plan.scenario.probe.every.0 * 4;
        let _ = self.unless_stopped(timeout(patience, missed)).await?;
        Ok(())
    }

    /// A random part of the cluster's heartbeat, so that trials do not all hit the same phase of its clockwork.
    async fn decorrelate(&mut self) -> Result<(), Stop> {
        let heartbeat = self.platform.defaults().heartbeat;
        let delay = heartbeat.mul_f64(self.random.f64());
        self.unless_interrupted(sleep(delay)).await
    }

    /// Step 4, for one fault. `None`: it could not be injected.
    async fn inject(
        &mut self,
        watches: &Watches,
        index: usize,
        injection: &Injection,
        aftermaths: &mpsc::UnboundedSender<Followed>,
    ) -> Result<Option<Injected>, Stop> {
        let (stop, fault) = (self.shutdown.clone(), &injection.fault);
        let lasting = fault.lasting(self.platform.name(), self.plan.settings.lasting);
        let scene = Scene { lasting: self.undone_within(fault), ..self.scene(watches, &stop) };
        // One that comes before the database is back may have to wait until there is something to hit.
        let patience = if injection.after.is_some() || injection.during.is_some() { AIM_DEADLINE } else { Duration::ZERO };
        let aim = match self.unless_interrupted(aim(fault, &scene, patience)).await? {
            Ok(aim) => aim,
            Err(error) => {
                self.say(EventKind::FaultFailed(index, chain(&error))).await;
                return Ok(None);
            }
        };
        let hurt = self.journal.pending().into_iter().filter_map(|entry| entry.undo.hurt_node().map(str::to_owned));
        let further = aim.undo.iter().find_map(|undo| undo.hurt_node());
        if let Err(error) = self.consent.allows(hurt, further) {
            self.say(EventKind::FaultFailed(index, chain(&error))).await;
            return Ok(None);
        }
        // A database that is recovering tells nobody: whoever asks it waits until it has recovered, and comes too late.
        let life = match injection.after {
            Some(After::Seen(Cue::Recovering)) => None,
            _ => self.ask(self.prober.life()).await?,
        };
        let victim =
            Victim { what: aim.what.clone(), mechanism: aim.mechanism.clone(), pod: aim.pod.clone(), node: aim.node.clone(), life };
        self.say(EventKind::FaultResolved(index, Box::new(victim))).await;
        match self.unless_interrupted(fault.witness(&scene, &aim)).await? {
            Ok(facts) if facts.is_empty() => {}
            // It would look no different for what is done to it now.
            Ok(facts) if aim.hurt.as_ref().is_some_and(|hurt| facts.iter().any(|fact| !hurt.is_whole(&fact.value))) => {
                let told: Vec<String> = facts.iter().map(|fact| format!("{}: {}", fact.what, fact.value)).collect();
                let why = format!("what it hits is not whole before it: {} (hint: `comeback heal`)", told.join(", "));
                self.say(EventKind::FaultFailed(index, why)).await;
                return Ok(None);
            }
            Ok(facts) => self.say(EventKind::Witnessed(index, Witness { at: WitnessTime::Before, facts })).await,
            Err(error) => {
                self.say(EventKind::FaultFailed(index, format!("what it hits cannot be looked at: {}", chain(&error)))).await;
                return Ok(None);
            }
        }
        self.alone()?;
        for undo in &aim.undo {
            self.journal.begin(self.number, index, undo.clone()).await.map_err(|error| Stop::Failed(chain(&error)))?;
        }
        // Writing that down may have taken long.
        self.alone()?;
        self.say(EventKind::FaultCalled(index)).await;
        let (called, called_at) = (Instant::now(), self.recorder.clock().now());
        if matches!(fault, FaultSpec::StopApiServer(_)) {
            self.lease.excuse(called + scene.lasting + API_SERVER_BACK_WITHIN);
        }
        let lifted = CancellationToken::new();
        // Not cut short: a call that was sent may be done after its undo.
        match fault.inject(&scene, &aim).await {
            Ok(reported) => {
                self.say(EventKind::FaultReturned(index, reported)).await;
                if let Some(aftermath) = fault.aftermath(self.platform.name(), self.plan.settings.lasting) {
                    let followed = Followed { index, fault: fault.clone(), aim: aim.clone(), aftermath, lifted: lifted.clone(), called };
                    // Whoever takes them ends only when this sender is gone.
                    let _ = aftermaths.send(followed);
                }
            }
            Err(FaultError::Interrupted) => return Err(Stop::Interrupted),
            Err(error) => {
                self.say(EventKind::FaultFailed(index, chain(&error))).await;
                return Ok(None);
            }
        }
        let seen = self.unless_stopped(fault.confirm(&scene, &aim)).await?;
        let is_seen = seen.is_some();
        if let Some(seen) = seen {
            self.say(EventKind::FaultConfirmed(index, seen)).await;
            // Of what lasts, the last look before it is undone counts; this one is there if that fails.
            if let Ok(facts) = self.unless_interrupted(fault.witness(&scene, &aim)).await?
                && !facts.is_empty()
                && !lifted.is_cancelled()
            {
                self.say(EventKind::Witnessed(index, Witness { at: WitnessTime::During, facts })).await;
            }
        }
        Ok(Some(Injected {
            index,
            name: fault.name(),
            toll: fault.toll(),
            aim,
            called,
            called_at,
            seen: is_seen,
            lasts: lasting.is_some(),
            lifted,
        }))
    }

    /// Waits until the database is back from the last fault: a further one is aimed at a database that is there.
    async fn back_from_the_last(&self, last: &Injected) -> Result<bool, Stop> {
        if last.lasts {
            self.unless_stopped(last.lifted.cancelled()).await?;
        }
        if last.toll != Toll::Ends {
            // It may not have been noticed at all, so there may be no first good write: one after it is over will do.
            let since = self.recorder.clock().now().plus(self.prober.doubt());
            let live = self.plan.scenario.probe.every.0 * 2;
            return self.streak(since, live, self.plan.settings.give_up_after).await;
        }
        let mut live = self.recorder.live();
        let back = live.wait_for(|live| live.first_good.is_some());
        Ok(self.unless_stopped(timeout(self.plan.settings.give_up_after, back)).await?.is_ok())
    }
}

/// A fault that was injected, for those that come after it.
pub(super) struct Injected {
    /// Its place in the scenario.
    index: usize,
    name: &'static str,
    toll: Toll,
    /// What it was aimed at.
    aim: Aim,
    called: Instant,
    /// The same, as the record has it.
    called_at: Moment,
    /// Whether its effect was seen.
    seen: bool,
    pub(super) lasts: bool,
    /// Is cancelled when what it did was undone.
    pub(super) lifted: CancellationToken,
}

/// Whether what a cue means is to be seen since that fault.
fn is_so(cue: Cue, view: &View, last: &Injected) -> bool {
    let pod = view.pods.get(&last.aim.pod.uid);
    match cue {
        Cue::Recovering => view.pods.values().any(|now| {
            let another = now.uid != last.aim.pod.uid || now.container_id != last.aim.pod.container_id;
            another && now.running && !now.ready && !now.terminating
        }),
        Cue::PodDeleted => pod.map_or_else(|| view.gone.contains(&last.aim.pod.uid), |pod| pod.terminating),
        Cue::PodGone => view.gone.contains(&last.aim.pod.uid),
        Cue::NodeNotReady => {
            let node = last.aim.node.as_ref().or(last.aim.pod.node.as_ref());
            node.is_some_and(|node| view.nodes.get(node).is_none_or(|node| !node.ready))
        }
    }
}

/// Aims a fault; where nothing is there to be hit yet, again for as long as there is patience.
async fn aim(fault: &FaultSpec, scene: &Scene<'_>, patience: Duration) -> Result<Aim, FaultError> {
    let end = Instant::now() + patience;
    loop {
        match fault.aim(scene).await {
            Err(
                FaultError::Cluster(ClusterError::NoPod { .. } | ClusterError::ManyPods { .. } | ClusterError::Incomplete { .. })
                | FaultError::Platform(PlatformError::NoProcess { .. } | PlatformError::Cluster(_))
                | FaultError::NotScheduled { .. },
            ) if Instant::now() < end => {}
            aimed => return aimed,
        }
        sleep(RETRY_PERIOD).await;
    }
}
