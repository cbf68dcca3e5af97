//! `comeback plan`: what a run would do, without doing any of it.

use std::{fmt::Write as _, process::ExitCode};

use clap::Args;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    exit::Exit,
    selection::{Consented, Selection},
    term,
};
use crate::{
    cluster::{chain, watch::Watches},
    fault::{Consent, EFFECT_DEADLINE, Fault as _, Scene, rights},
    platform::{Capability, Place, SandboxPlatform},
    run::place::OnCluster,
    scenario::{After, Injection, Scenario},
};

/// Say what a run of scenarios would do: the faults with their victims as they are now, the mechanisms, the undo of each step, the rights that it needs
///
/// Nothing is changed. On the sandbox, which is there only while a run is, the victims are not known yet.
#[derive(Debug, Args)]
pub(super) struct Plan {
    /// Where: `sandbox`, `kind`, or a context of the kubeconfig.
    #[arg(long, value_name = "PLACE", default_value = "sandbox")]
    on: String,
    /// Use the Kubernetes API and the node helper alone, as on a cluster of which nothing else is known, also where docker is at hand.
    #[arg(long)]
    api_only: bool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    consented: Consented,
}

impl Plan {
    pub(super) fn run(self) -> ExitCode {
        let suite = match self.selection.load() {
            Ok(suite) => suite,
            Err(exit) => return exit.into(),
        };
        let fail = |error: &str, exit: Exit| {
            term::prose(&format!("error: {error}"));
            ExitCode::from(exit)
        };
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(&format!("could not start the runtime: {error}"), Exit::Environment),
        };
        let planned = runtime.block_on(async {
            let there = match self.on.as_str() {
                "sandbox" => None,
                on => Some(OnCluster::connect(on, self.api_only).await.map_err(|error| chain(&error))?),
            };
            let mut text = String::new();
            for file in &suite.files {
                text.push_str(&of_scenario(&file.scenario, there.as_ref(), self.consented.into()).await);
            }
            Ok::<_, String>(text)
        });
        match planned.map(|text| term::data(&text)) {
            Ok(Ok(())) => Exit::Passed.into(),
            Ok(Err(error)) => fail(&format!("could not write to stdout: {error}"), Exit::Environment),
            Err(error) => fail(&error, Exit::Environment),
        }
    }
}

/// When a fault comes, in words.
fn when(injection: &Injection, index: usize) -> String {
    let when = match (&injection.during, injection.after) {
        (Some(during), _) => format!("while `{during}` is in force"),
        (None, Some(After::Elapsed(time))) => format!("{time} after the call of the fault before"),
        (None, Some(After::Seen(cue))) => format!("as soon as `{}` is seen", cue.name()),
        (None, None) if index == 0 => "when the service is steady".to_owned(),
        (None, None) => "when the database is back from the fault before".to_owned(),
    };
    if injection.repeat.get() > 1 { format!("{when}, {} times", injection.repeat) } else { when }
}

async fn of_scenario(scenario: &Scenario, there: Option<&OnCluster>, consent: Consent) -> String {
    let place = there.map_or(Place::Sandbox, |there| there.platform().place());
    let defaults = there.map_or(SandboxPlatform::DEFAULTS, |there| there.platform().defaults());
    let mut text = format!("{}\n", scenario.name);
    if let Some(about) = &scenario.about {
        let _ = writeln!(text, "  {about}");
    }
    if scenario.faults.is_empty() {
        text.push_str("  no fault: the control trial\n");
    }
    let mut needed = std::collections::BTreeSet::new();
    for (index, injection) in scenario.faults.iter().enumerate() {
        let fault = &injection.fault;
        let _ = writeln!(text, "  {}. `{}`, {}", index + 1, fault.name(), when(injection, index));
        let lasts = fault.lasting(place.name(), defaults.lasting);
        if let Some(lasts) = lasts {
            let _ = writeln!(text, "     lasts    {}", humantime::format_duration(lasts));
        }
        needed.extend(rights::rights(fault, place));
        if let Some(there) = there
            && fault.needs().contains(&Capability::NodeReboot)
        {
            // Aiming says why, if it is not known.
            let _ = there.platform().find_out_boots().await;
        }
        let possible = fault.needs().iter().find_map(|capability| match there {
            Some(there) => there.platform().can(*capability).err(),
            None => place.can(*capability).err().map(str::to_owned),
        });
        if let Some(why) = possible {
            let _ = writeln!(text, "     skipped  it is not possible here: {why}");
            continue;
        }
        let Some(there) = there else {
            let mechanism =
                fault.needs().first().map_or("kubernetes api", |capability| place.can(*capability).map_or("", |means| means.mechanism));
            let _ = writeln!(text, "     by       {mechanism}");
            continue;
        };
        let (sightings, mut seen) = mpsc::channel(64);
        tokio::spawn(async move { while seen.recv().await.is_some() {} });
        let watches = Watches::start(there.cluster(), sightings);
        let stop = CancellationToken::new();
        let scene = Scene {
            cluster: there.cluster(),
            platform: there.platform(),
            watches: &watches,
            stop: &stop,
            consent: &consent,
            lasting: lasts.unwrap_or_default(),
            patience: EFFECT_DEADLINE,
        };
        match fault.aim(&scene).await {
            Ok(aim) => {
                let _ = writeln!(text, "     victim   {}\n     by       {}", aim.what, aim.mechanism);
                for undo in &aim.undo {
                    let _ = writeln!(text, "     undo     {undo}");
                }
                if aim.undo.is_empty() {
                    text.push_str("     undo     nothing: that it comes back is what is tested\n");
                }
            }
            Err(error) => {
                let _ = writeln!(text, "     refused  {}", chain(&error));
            }
        }
    }
    if !needed.is_empty() {
        let rights: Vec<String> = needed.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "  rights beside those of every run: {}", rights.join(", "));
    }
    text.push('\n');
    text
}
