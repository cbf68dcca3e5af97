//! `comeback heal`: undoes whatever an earlier run left behind.

use std::process::ExitCode;

use clap::Args;

use super::{exit::Exit, term};
use crate::{
    cluster::{self, chain},
    deploy::{Installed, Workload},
    fault::heal::{self, HealError, Healed, Options},
    kind::Name,
    platform::Platform,
    scenario::TargetShape,
};

/// Undo whatever an earlier run left behind in a cluster: it needs no scenario file, only the cluster
///
/// What a run breaks it writes down in the cluster first. This puts it right, last in first out, looks whether it is so, and removes the
/// pods that runs put up for themselves. It is safe to repeat, and refuses while a run is at work.
///
/// Exit codes: 0 all is right, also when there was nothing to do; 4 the cluster cannot be reached, or a run is at work in it; 5 something
/// could not be put right.
#[derive(Debug, Args)]
pub(super) struct Heal {
    /// Only what these runs left; without it, whatever any run did.
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
    /// Where: `kind`, `sandbox`, or a context of the kubeconfig. Default: the current context.
    #[arg(long, value_name = "PLACE", conflicts_with = "context")]
    on: Option<String>,
    /// The context of the kubeconfig, or the name of a kind cluster.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Use the Kubernetes API and the node helper alone, as on a cluster of which nothing else is known, also where docker is at hand.
    #[arg(long)]
    api_only: bool,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Also while a run is at work.
    #[arg(long)]
    force: bool,
}

impl Heal {
    pub(super) fn run(self) -> ExitCode {
        // A sandbox that a run made is no place that a later process finds.
        if self.on.as_deref() == Some("sandbox") {
            term::prose(
                "nothing to do: the sandbox of a run ends with it, and what was broken there with it (`--context` names one that was started with `comeback sandbox`)",
            );
            return Exit::Passed.into();
        }
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                term::prose(&format!("error: could not start the runtime: {error}"));
                return Exit::Environment.into();
            }
        };
        runtime.block_on(self.heal()).into()
    }

    async fn heal(self) -> Exit {
        let context = self.context.or_else(|| self.on.map(|on| if on == "kind" { Name::default().to_string() } else { on }));
        let opened = match cluster::open(context.as_deref(), Workload::target(TargetShape::Deployment)).await {
            Ok(opened) => opened,
            Err(error) => return unreachable_cluster(&chain(&error)),
        };
        let image = own_image(&opened.cluster).await;
        let detected = if self.api_only {
            Ok(Platform::by_api(&opened.cluster, image.as_deref()))
        } else {
            Platform::detect(&opened.cluster, image.as_deref()).await
        };
        let platform = match detected {
            Ok(platform) => platform,
            Err(error) => return unreachable_cluster(&format!("{} (context `{}`)", chain(&error), opened.context)),
        };
        let options = Options { runs: self.runs, dry_run: self.dry_run, force: self.force };
        match heal::heal(&opened.cluster, &platform, &options, &|step| term::prose(step)).await {
            Ok(healed) => told(&healed, &opened.context, options.dry_run),
            Err(error @ (HealError::Alive { .. } | HealError::Lease(_))) => {
                term::prose(&format!("error: {}", chain(&error)));
                Exit::Environment
            }
            Err(HealError::Cluster(error)) => unreachable_cluster(&format!("{} (context `{}`)", chain(&error), opened.context)),
        }
    }
}

/// Our own image as that cluster knows it, if `comeback cluster up` was there: what the node helper runs.
async fn own_image(cluster: &cluster::Cluster) -> Option<String> {
    Installed::read(cluster).await.ok().map(|installed| installed.own_image)
}

fn unreachable_cluster(why: &str) -> Exit {
    term::prose(&format!("error: {why}"));
    Exit::Environment
}

/// Says what was done, and what that comes to.
fn told(healed: &Healed, context: &str, dry_run: bool) -> Exit {
    let word = if dry_run { "would" } else { "done:" };
    let done = healed.done.iter().map(|what| format!("{word} {what}"));
    let mut lines: Vec<String> = done.chain(healed.failed.iter().map(|what| format!("error: {what}"))).collect();
    if lines.is_empty() {
        lines.push(format!("nothing to do: no run left anything in the cluster of context `{context}`"));
    }
    let text = lines.join("\n") + "\n";
    // What was done is done, whether or not anybody can read it.
    let printed = term::data(&text);
    match (healed.failed.is_empty(), printed) {
        (false, _) => Exit::LeftInPlace,
        (true, Ok(())) => Exit::Passed,
        (true, Err(error)) => {
            term::prose(&format!("error: could not print what was done: {error}"));
            Exit::Environment
        }
    }
}
