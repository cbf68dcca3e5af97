//! The trials one after the other, on one cluster, with the reports written anew after each.

use std::{path::PathBuf, time::Duration};

use clap::ValueEnum as _;
use tokio_util::sync::CancellationToken;

use super::{
    Folder, Recorder, plan, skipped,
    trial::{self, Address, Trial},
};
use crate::{
    check::judge,
    cluster::{Cluster, ClusterError, chain, connect, lease::RunLease},
    deploy::Workload,
    event::{Clock, EventKind, RunEnd, RunStarted, Step, TrialEnd},
    fault::Journal,
    platform::{Platform, SandboxPlatform},
    prober::Prober,
    report,
    result::{self, RunResult, TrialResult},
    sandbox::{self, Sandbox},
    scenario::{Suite, TargetShape},
    sqld,
    workload::{Password, final_read::RowFile},
};

/// The speed of the sandbox's timers.
const SPEED: u32 = 10;

/// Something that the sandbox or the stand-in database does wrong on purpose, so that it can be seen whether anybody notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Of the database.
    Database(sqld::Defect),
    /// Of the cluster.
    Cluster(sandbox::Defect),
}

/// What is to be run, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The scenarios.
    pub suite: Suite,
    /// The id of the run.
    pub run: String,
    /// The seed of every random choice.
    pub seed: u64,
    /// Our own binary, which is every container of the sandbox.
    pub binary: PathBuf,
    /// What goes wrong on purpose.
    pub defect: Option<Defect>,
    /// The views that the stand-in database refuses to show.
    pub deny: Vec<String>,
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

/// The sandbox could not be made ready.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("could not start the sandbox")]
    Sandbox(#[from] sandbox::SandboxError),
    #[error("could not put up the workload")]
    Cluster(#[from] ClusterError),
}

/// Makes the run. Whatever happens is in its folder; the result is what the record says.
///
/// When `shutdown` is cancelled, no further fault is injected, what was done is undone, and what is known is judged.
pub async fn run(options: Options, folder: Folder, audience: &dyn Audience, shutdown: CancellationToken) -> RunResult {
    let Folder { path, record, journal, rows_before, rows_after } = folder;
    let (recorder, recording) = Recorder::start(Clock::new(), record);
    let defect = options.defect.map(Defect::name);
    let platform = result::Platform { name: "sandbox".to_owned(), kubernetes: None, speed: Some(SPEED), defect };
    let plan = plan(&options.suite, &options.run, options.seed, platform, &SandboxPlatform::DEFAULTS);
    recorder.record(None, EventKind::RunStarted(Box::new(plan.clone()))).await;

    let mut run = Run { options, path, recorder, journal, rows_before, rows_after, audience, shutdown };
    run.write_reports().await;
    run.go(&plan).await;
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
    options: Options,
    path: PathBuf,
    recorder: Recorder,
    journal: Journal,
    rows_before: RowFile,
    rows_after: RowFile,
    audience: &'a dyn Audience,
    shutdown: CancellationToken,
}

impl Run<'_> {
    async fn go(&mut self, plan: &RunStarted) {
        self.audience.step("starting the sandbox");
        let mut options = sandbox::Options::new(&self.options.binary);
        options.speed = SPEED;
        options.defect = match self.options.defect {
            Some(Defect::Cluster(defect)) => Some(defect),
            Some(Defect::Database(_)) | None => None,
        };
        let shutdown = self.shutdown.clone();
        let started = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            started = Sandbox::start(options) => started,
        };
        let sandbox = match started {
            Ok(sandbox) => sandbox,
            Err(error) => return self.say(EventKind::RunError(chain(&StartError::from(error)))).await,
        };
        let password = Password::new(format!("Cb1!{}", uuid::Uuid::new_v4().simple()));
        let deployed = tokio::select! {
            biased;
            () = shutdown.cancelled() => None,
            deployed = self.deploy(&sandbox, password.clone()) => Some(deployed),
        };
        match deployed {
            Some(Ok((cluster, address))) => {
                let platform = Platform::Sandbox(SandboxPlatform::new(cluster.clone()));
                match RunLease::acquire(&cluster, &self.options.run).await {
                    Ok(lease) => {
                        self.journal.keep_in(&cluster, &self.options.run).await;
                        // On the sandbox the runner itself is the vantage point: it stands where its clients stand.
                        let prober = Prober::here(self.recorder.clock(), password, self.recorder.notes());
                        self.trials(plan, &cluster, &platform, &prober, &address).await;
                        prober.close().await;
                        self.undo_the_rest(&cluster, &platform).await;
                        if let Some(lost) = lease.lost() {
                            self.say(EventKind::Warning(format!("Another process was at work here: {lost}"))).await;
                        }
                        // One that cannot be removed runs out by itself.
                        let _ = lease.release().await;
                    }
                    Err(error) => self.say(EventKind::RunError(chain(&error))).await,
                }
            }
            Some(Err(error)) => self.say(EventKind::RunError(chain(&error))).await,
            None => {}
        }
        self.audience.step("stopping the sandbox");
        sandbox.stop().await;
    }

    async fn deploy(&self, sandbox: &Sandbox, password: Password) -> Result<(Cluster, Address), StartError> {
        let cluster = Cluster::new(connect(sandbox.kubeconfig()).await?, Workload::target(TargetShape::Deployment));
        let defect = match self.options.defect {
            Some(defect @ Defect::Database(_)) => Some(defect.name()),
            Some(Defect::Cluster(_)) | None => None,
        };
        let further = defect.iter().flat_map(|defect| ["--defect".to_owned(), defect.clone()]);
        let denied = self.options.deny.iter().flat_map(|view| ["--deny".to_owned(), view.clone()]);
        let platform = result::Platform {
            name: "sandbox".to_owned(),
            kubernetes: Some(cluster.version().await?),
            speed: Some(SPEED),
            defect: self.options.defect.map(Defect::name),
        };
        self.say(EventKind::PlatformReady(platform)).await;
        Workload::stand_in(&self.options.run, password, further.chain(denied)).apply(&cluster).await?;
        let service = cluster.service().await?;
        Ok((cluster, Address { host: service.cluster_ip, port: service.port, user: "sa".to_owned() }))
    }

    async fn trials(&mut self, plan: &RunStarted, cluster: &Cluster, platform: &Platform, prober: &Prober, address: &Address) {
        let audience = self.audience;
        let skipped = skipped(plan, platform);
        for (number, reason) in (1..).zip(&skipped) {
            if let Some(reason) = reason {
                self.recorder.record(Some(number), EventKind::Skipped(reason.clone())).await;
            }
        }
        for (index, trial) in plan.trials.iter().enumerate() {
            if self.shutdown.is_cancelled() {
                return;
            }
            let number = u32::try_from(index + 1).expect("a run has few trials");
            audience.trial(&trial.scenario.name, index);
            if skipped[index].is_some() {
                let result = self.write_reports().await;
                audience.finish_trial(&result.trials[index]);
                continue;
            }
            let trial = Trial {
                cluster,
                platform,
                recorder: &self.recorder,
                journal: &self.journal,
                rows_before: &mut self.rows_before,
                rows_after: &mut self.rows_after,
                prober,
                address,
                number,
                plan: trial,
                run: &self.options.run,
                // Each trial has a sequence of its own, so that one more draw in a trial does not change those behind it.
                random: fastrand::Rng::with_seed(self.options.seed.wrapping_add(u64::from(number))),
                shutdown: self.shutdown.clone(),
                progress: &|step: Step| audience.step(&step.to_string()),
            };
            // On the heap: a trial is the largest of our futures.
            let end = Box::pin(trial.run()).await;
            let result = self.write_reports().await;
            audience.finish_trial(&result.trials[index]);
            if end == TrialEnd::Interrupted || self.recorder.live().borrow().broken.is_some() {
                return;
            }
        }
    }

    /// What could not be undone in its trial is tried once more, and named if it still fails.
    async fn undo_the_rest(&self, cluster: &Cluster, platform: &Platform) {
        for entry in self.journal.pending() {
            trial::undo(cluster, platform, &self.recorder, &self.journal, &entry).await;
        }
        for entry in self.journal.pending() {
            let text = format!("{} (it goes with the sandbox)", entry.undo.by_hand());
            self.say(EventKind::LeftInPlace(text)).await;
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

impl Defect {
    /// Its name on the command line and in the reports.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Database(defect) => defect.to_possible_value().expect("no defect is hidden").get_name().to_owned(),
            Self::Cluster(sandbox::Defect::ChangeAddress) => "change-address".to_owned(),
            Self::Cluster(sandbox::Defect::UndoFails) => "undo-fails".to_owned(),
        }
    }
}
