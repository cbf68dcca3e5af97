//! `comeback run`: runs scenarios, and ends with the exit code that they earned.

use std::{path::PathBuf, process::ExitCode};

use chrono::Utc;
use clap::{Args, ValueEnum};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use super::{
    exit::Exit,
    progress::Progress,
    selection::{Consented, Selection},
    summary, term,
};
use crate::{
    cluster::chain,
    fault::Entry,
    result::TrialResult,
    run::{
        Defect, Folder,
        engine::{self, Audience},
        place::{On, OnCluster, OnSandbox},
    },
    sandbox,
    scenario::Suite,
    sqld,
};

/// Run scenarios: break the database, measure how it comes back, prove that the rows are there
///
/// Without PATH the scenarios of `scenarios/` in this folder, or else those that are built in. Ctrl-C stops, undoes what was done, and
/// reports what is known (SIGTERM and SIGHUP do the same); a further Ctrl-C leaves at once and names what is left in place
/// (exit code 5 then).
///
/// Exit codes: 0 all passed, 1 an expectation failed, 2 a scenario or an argument is invalid, 3 unproven, 4 the environment failed, 5 an
/// undo failed, 130 interrupted and undone.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Where: `sandbox` (a cluster of its own, in this program), `kind` (the one of `comeback cluster up`), or a context of the kubeconfig.
    #[arg(long, value_name = "PLACE", default_value = SANDBOX)]
    on: String,
    /// Use the Kubernetes API and the node helper alone, as on a cluster of which nothing else is known, also where docker is at hand.
    #[arg(long)]
    api_only: bool,
    /// Where the folder of the run is made.
    #[arg(long, value_name = "DIR", default_value = "reports")]
    out: PathBuf,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    consented: Consented,
    /// The contexts of the kubeconfig that may be broken at all, with commas between; anything else is refused before it is touched.
    #[arg(long, value_name = "CONTEXTS", env = "COMEBACK_CONTEXTS", value_delimiter = ',')]
    contexts: Vec<String>,
    /// The seed of every random choice; the report of a run names its own.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Make something go wrong on purpose in the sandbox, to see whether it is found.
    #[arg(long, value_name = "NAME")]
    defect: Option<DefectName>,
    /// A system view that the stand-in database refuses to show, as with too few rights, e.g. `sys.dm_os_sys_info`. It can be repeated.
    #[arg(long, value_name = "VIEW")]
    deny: Vec<String>,
}

/// The place that is not a cluster of the user's.
const SANDBOX: &str = "sandbox";

/// What can be made to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DefectName {
    /// A commit is acknowledged before it is stored.
    AckBeforeStore,
    /// A restarted database begins with an empty volume.
    LoseVolume,
    /// Recovery applies the newest transactions again.
    ApplyTwice,
    /// Recovery flips one bit of a stored row.
    FlipBit,
    /// The service gets another address when the database is restarted.
    ChangeAddress,
    /// A cordoned node cannot be uncordoned.
    UndoFails,
    /// Whatever a fault does is answered as if it were done, and is not.
    FaultsDoNothing,
}

impl From<DefectName> for Defect {
    fn from(name: DefectName) -> Self {
        match name {
            DefectName::AckBeforeStore => Self::Database(sqld::Defect::AckBeforeStore),
            DefectName::LoseVolume => Self::Database(sqld::Defect::LoseVolume),
            DefectName::ApplyTwice => Self::Database(sqld::Defect::ApplyTwice),
            DefectName::FlipBit => Self::Database(sqld::Defect::FlipBit),
            DefectName::ChangeAddress => Self::Cluster(sandbox::Defect::ChangeAddress),
            DefectName::UndoFails => Self::Cluster(sandbox::Defect::UndoFails),
            DefectName::FaultsDoNothing => Self::Cluster(sandbox::Defect::FaultsDoNothing),
        }
    }
}

impl Run {
    pub(super) fn run(self) -> ExitCode {
        if self.on != SANDBOX && (self.defect.is_some() || !self.deny.is_empty()) {
            term::prose(
                "error: `--defect` and `--deny` are for the sandbox: on a cluster that is there, nothing is made to go wrong in silence",
            );
            return Exit::Invalid.into();
        }
        if self.on == SANDBOX && self.api_only {
            term::prose("error: `--api-only` is for a cluster that is there: what the sandbox does, it does on a path of its own");
            return Exit::Invalid.into();
        }
        let suite = match self.selection.load() {
            Ok(suite) => suite,
            Err(exit) => return exit.into(),
        };
        match self.make(suite) {
            Ok(code) => code,
            Err(error) => {
                term::prose(&format!("error: {error}"));
                Exit::Environment.into()
            }
        }
    }

    fn make(self, suite: Suite) -> Result<ExitCode, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("could not start the runtime: {error}"))?;
        let on = runtime.block_on(self.place())?;
        let name = match suite.files.as_slice() {
            [only] => only.scenario.name.clone(),
            _ => "suite".to_owned(),
        };
        let folder = Folder::create(&self.out, Utc::now(), &name).map_err(|error| chain(&error))?;
        let path = folder.path.clone();
        let remedy = on.remedy();
        let options = engine::Options {
            run: uuid::Uuid::new_v4().simple().to_string()[..8].to_owned(),
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
            on,
            suite,
            consent: self.consented.into(),
        };
        let trials = options.suite.files.iter().map(|file| file.scenario.repeat.get() as usize).sum();
        let progress = Progress::new(trials);
        let result = runtime.block_on(async {
            let shutdown = CancellationToken::new();
            let signals = Signals::new().map_err(|error| format!("could not listen for signals: {error}"))?;
            tokio::spawn(signals.watch(shutdown.clone(), folder.journal.watch(), path.clone(), remedy));
            Ok::<_, String>(Box::pin(engine::run(options, folder, &Shown(&progress), shutdown)).await)
        })?;
        progress.finish();
        if let Err(error) = summary::show(&result, &path) {
            term::prose(&format!("error: could not print the summary: {error}"));
            // Whoever only looks at the exit code must not miss what the run found.
            return Ok(if result.exit_code == Exit::Passed.code() { Exit::Environment.into() } else { result.exit_code.into() });
        }
        Ok(result.exit_code.into())
    }
}

impl Run {
    /// Looks at the place that was asked for; nothing is changed in it yet.
    async fn place(&self) -> Result<On, String> {
        if self.on == SANDBOX {
            let binary =
                std::env::current_exe().map_err(|error| format!("could not find this program, which every container runs: {error}"))?;
            return Ok(On::Sandbox(OnSandbox { binary, defect: self.defect.map(Defect::from), deny: self.deny.clone() }));
        }
        let there = OnCluster::connect(&self.on, self.api_only).await.map_err(|error| chain(&error))?;
        if !self.contexts.is_empty() && !self.contexts.iter().any(|context| context == there.context()) {
            return Err(format!(
                "context `{}` is not one of those that may be broken: {} (hint: `--contexts`, or COMEBACK_CONTEXTS)",
                there.context(),
                self.contexts.join(", ")
            ));
        }
        Ok(On::Cluster(Box::new(there)))
    }
}

/// The signals that stop a run.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The first signal asks the run to stop. After that only Ctrl-C counts, and leaves at once, for a run that does not stop: a terminal that
    /// is closed sends SIGHUP more than once, and CI sends SIGTERM after SIGINT, while the undo is still at work.
    async fn watch(mut self, shutdown: CancellationToken, pending: watch::Receiver<Vec<Entry>>, path: PathBuf, remedy: Option<String>) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
        term::prose("interrupted: undoing what was done and writing the reports; Ctrl-C leaves at once");
        shutdown.cancel();
        self.interrupt.recv().await;
        let pending = pending.borrow().clone();
        let (exit, lines) = left_at_once(&pending, remedy.as_deref());
        for line in lines {
            term::prose(&line);
        }
        term::prose(&format!("hint: `comeback report {}` writes the reports from what was recorded", path.display()));
        std::process::exit(exit.code().into());
    }
}

/// What is said of what a run leaves that does not wait for its undo, and with which exit code it ends. `remedy` is the command that puts things
/// right there: also without a broken node the pods that the run put up for itself are left.
fn left_at_once(pending: &[Entry], remedy: Option<&str>) -> (Exit, Vec<String>) {
    let mut lines: Vec<String> = pending.iter().map(|entry| format!("left in place: {}", entry.undo.by_hand())).collect();
    if pending.is_empty() {
        lines.push("left at once: nothing had to be undone".to_owned());
    }
    lines.extend(remedy.map(|remedy| format!("hint: `{remedy}` puts right what the run left in the cluster")));
    (if pending.is_empty() { Exit::Interrupted } else { Exit::LeftInPlace }, lines)
}

/// The progress display as the audience of a run.
struct Shown<'a>(&'a Progress);

impl Audience for Shown<'_> {
    fn trial(&self, name: &str, index: usize) {
        self.0.trial(name, index);
    }

    fn step(&self, what: &str) {
        self.0.step(what);
    }

    fn finish_trial(&self, trial: &TrialResult) {
        self.0.finish_trial(trial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Undo;

    #[test]
    fn whoever_leaves_at_once_is_told_what_is_left_and_what_puts_it_right() {
        let pending = [Entry { number: 0, trial: 1, fault: 0, undo: Undo::Uncordon { node: "w1".into() } }];
        let (exit, lines) = left_at_once(&pending, Some("comeback heal --on kind-comeback"));
        assert_eq!(exit, Exit::LeftInPlace);
        assert!(lines[0].starts_with("left in place: node `w1` is cordoned"), "{lines:?}");
        assert_eq!(lines[1], "hint: `comeback heal --on kind-comeback` puts right what the run left in the cluster");
        // On a cluster the prober is left, whatever else is not.
        let (exit, lines) = left_at_once(&[], Some("comeback heal --on kind-comeback"));
        assert_eq!((exit, lines.len()), (Exit::Interrupted, 2));
        assert_eq!(left_at_once(&[], None), (Exit::Interrupted, vec!["left at once: nothing had to be undone".to_owned()]));
    }
}
