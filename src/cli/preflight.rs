//! `comeback preflight`: can this cluster run this suite, and what will not come back, and why?

use std::{collections::BTreeSet, fmt::Write as _, process::ExitCode};

use clap::Args;
use tokio::time::Instant;

use super::{exit::Exit, selection::Selection, term};
use crate::{
    cluster::{
        CALL_DEADLINE, chain,
        forward::on_loopback,
        preflight::{self, Answered},
    },
    deploy,
    event::Answer,
    fault::{Fault as _, rights},
    platform::Capability,
    run::place::OnCluster,
    scenario::Suite,
    workload::{DELAYED, Server, Tables},
};

/// Ask a cluster whether it can run scenarios: rights, nodes, the volume, budgets; and say what cannot come back, and why
///
/// Nothing is changed. Ends with 0 if nothing speaks against a run, and with 4 otherwise.
#[derive(Debug, Args)]
pub(super) struct Preflight {
    /// Where: `kind`, or a context of the kubeconfig.
    #[arg(long, value_name = "PLACE", default_value = "kind")]
    on: String,
    /// Use the Kubernetes API and the node helper alone, as on a cluster of which nothing else is known, also where docker is at hand.
    #[arg(long)]
    api_only: bool,
    #[command(flatten)]
    selection: Selection,
}

impl Preflight {
    pub(super) fn run(self) -> ExitCode {
        let fail = |error: &str, exit: Exit| {
            term::prose(&format!("error: {error}"));
            ExitCode::from(exit)
        };
        if self.on == "sandbox" {
            term::prose("nothing to ask: the sandbox is made for the run, and can do whatever a scenario asks for");
            return Exit::Passed.into();
        }
        let suite = match self.selection.load() {
            Ok(suite) => suite,
            Err(exit) => return exit.into(),
        };
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(&format!("could not start the runtime: {error}"), Exit::Environment),
        };
        let asked = runtime.block_on(async {
            let there = OnCluster::connect(&self.on, self.api_only).await.map_err(|error| chain(&error))?;
            Ok::<_, String>(ask(&there, &suite).await)
        });
        match asked {
            Ok((text, fit)) => match term::data(&text) {
                Ok(()) if fit => Exit::Passed.into(),
                Ok(()) => Exit::Environment.into(),
                Err(error) => fail(&format!("could not write to stdout: {error}"), Exit::Environment),
            },
            Err(error) => fail(&error, Exit::Environment),
        }
    }
}

/// Whether the database promises that an acknowledged commit is stored. Asked of itself, through its pod.
async fn durability(there: &OnCluster) -> (Answered, String) {
    let asked = async {
        let cluster = there.cluster();
        let pod = cluster.pod_facts().await.map_err(|error| chain(&error))?;
        let password = deploy::password(cluster).await.map_err(|error| chain(&error))?;
        let forwarded = cluster.forward(&pod.name, deploy::PORT).await.map_err(|error| chain(&error))?;
        let led = on_loopback(forwarded).await.map_err(|error| format!("no port of this machine could be had: {error}"))?;
        let server = Server {
            host: "127.0.0.1".to_owned(),
            port: led.port,
            user: there.engine().user().to_owned(),
            password,
            application: "comeback preflight".to_owned(),
        };
        let deadline = Instant::now() + CALL_DEADLINE;
        let mut session = server.connect("master", deadline).await.map_err(|error| error.to_string())?;
        let durability = Tables::delayed_durability(&mut session, deadline).await.map_err(|error| error.to_string())?;
        let _ = session.close(deadline).await;
        match durability {
            Answer::Known(durability) => Ok(durability),
            Answer::Unavailable(why) => Err(why),
        }
    };
    match asked.await {
        Ok(durability) if durability == DELAYED => (
            Answered::No,
            "the database delays durability: it acknowledges commits before they are stored, so a crash may lose them".to_owned(),
        ),
        Ok(durability) => {
            (Answered::Yes, format!("an acknowledged commit is stored (delayed durability is {})", durability.to_lowercase()))
        }
        Err(why) => (Answered::Unknown, format!("whether the database delays durability: {why}")),
    }
}

/// What was found, and whether nothing speaks against a run.
async fn ask(there: &OnCluster, suite: &Suite) -> (String, bool) {
    let (cluster, platform) = (there.cluster(), there.platform());
    let mut text = String::new();
    let mut fit = true;
    let mut say = |answered: Answered, what: &str| {
        fit &= answered != Answered::No;
        let _ = writeln!(text, "{:<8} {what}", answered.word());
    };
    match cluster.consents().await {
        Ok(true) => say(Answered::Yes, "the namespace says that it may be broken"),
        Ok(false) => say(Answered::No, "the namespace does not say that it may be broken"),
        Err(error) => say(Answered::Unknown, &chain(&error)),
    }
    let faults = || suite.files.iter().flat_map(|file| &file.scenario.faults).map(|injection| &injection.fault);
    let wanted: BTreeSet<_> = faults().flat_map(|fault| rights::rights(fault, platform.place())).chain(rights::OF_EVERY_RUN).collect();
    let mut missing = Vec::new();
    for right in &wanted {
        match preflight::may(cluster, right).await {
            Ok(true) => {}
            Ok(false) => missing.push(right.to_string()),
            Err(error) => say(Answered::Unknown, &chain(&error)),
        }
    }
    if missing.is_empty() {
        say(Answered::Yes, &format!("all {} rights that the scenarios need", wanted.len()));
    } else {
        say(Answered::No, &format!("rights are missing: {}", missing.join(", ")));
    }
    for (answered, what) in preflight::ask(cluster).await {
        say(answered, &what);
    }
    let (answered, what) = durability(there).await;
    say(answered, &what);
    for warning in crate::cluster::warnings::warnings(cluster).await {
        say(if warning.dooms_all() { Answered::No } else { Answered::Careful }, &warning.to_string());
        for file in &suite.files {
            for injection in file.scenario.faults.iter().filter(|injection| !warning.dooms_all() && warning.dooms(&injection.fault)) {
                say(Answered::No, &format!("`{}` of {} cannot come back because of that", injection.fault.name(), file.scenario.name));
            }
        }
    }
    // What only a helper could tell is not asked.
    let mut faults = suite.files.iter().flat_map(|file| &file.scenario.faults);
    if faults.any(|injection| injection.fault.needs().contains(&Capability::NodeReboot))
        && let Err(error) = platform.find_out_boots().await
    {
        say(Answered::Careful, &format!("whether a reboot could be seen is not known: {}", chain(&error)));
    }
    for file in &suite.files {
        let why = file.scenario.faults.iter().find_map(|injection| {
            let why = injection.fault.needs().iter().find_map(|capability| platform.can(*capability).err())?;
            Some(format!("{} will be skipped: `{}` is not possible here: {why}", file.scenario.name, injection.fault.name()))
        });
        if let Some(why) = why {
            say(Answered::Careful, &why);
        }
    }
    (text, fit)
}
