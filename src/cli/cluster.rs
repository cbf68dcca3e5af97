//! `comeback cluster`: a kind cluster with the database in it.

use std::{fmt::Write as _, process::ExitCode, sync::Mutex};

use clap::{Args, Subcommand, ValueEnum, builder::PossibleValuesParser};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{exit::Exit, progress::Progress, term};
use crate::{
    cluster::chain,
    deploy::Engine,
    kind::{self, Audience, Down, KindError, Name, Options, Stage, Status, Up},
    scenario::TargetShape,
};

/// Make, look at, and remove a Kubernetes cluster on this machine (kind) with the database in it
#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(UpArgs),
    Status(StatusArgs),
    Down(DownArgs),
}

/// Make the cluster, put up the database, and wait for the first acknowledged write through the service address
///
/// It needs docker and kind. It can be repeated: what is there is kept, what is missing is added, stopped nodes are started. What is not named stays
/// as it is. Ctrl-C gives it up where it stands; the next `up` goes on from there.
///
/// Exit codes: 0 the database has acknowledged a write; 2 an argument is invalid; 4 something failed, and the message says what and why; 130
/// interrupted.
#[derive(Debug, Args)]
struct UpArgs {
    /// The name of the cluster.
    #[arg(long, default_value_t)]
    name: Name,
    /// How many workers: one for the database, one for it to move to, one for the prober [default: 3]
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=9))]
    workers: Option<u8>,
    /// The version of Kubernetes: `1.37`, if there is a node image of ours on this machine, or a whole one, such as `1.37.0` [default: 1.37, or
    /// what kind takes]
    #[arg(long, value_name = "VERSION", conflicts_with = "node_image")]
    kubernetes: Option<String>,
    /// The image of the nodes [default: `comeback/kind-node:v1.37` if it is on this machine, or kind's own]
    #[arg(long, value_name = "IMAGE")]
    node_image: Option<String>,
    /// The database [default: mssql-2022, or what is there]
    #[arg(long, value_enum)]
    engine: Option<Engine>,
    /// The image of the database, such as one that is pinned [default: the engine's latest]
    #[arg(long, value_name = "IMAGE")]
    engine_image: Option<String>,
    /// The image of comeback [default: one is made of this program]
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// How the database is deployed; a run puts up what its scenarios want [default: deployment, or what is there]
    #[arg(long, value_parser = PossibleValuesParser::new(TargetShape::ALL.map(TargetShape::name)), ignore_case = true)]
    shape: Option<String>,
}

/// Show what is there: nodes, database, service address, volume
///
/// Exit codes: 0 all of it is up; 4 it is not, and the last lines say what is missing.
#[derive(Debug, Args)]
struct StatusArgs {
    /// The name of the cluster.
    #[arg(long, default_value_t)]
    name: Name,
    /// Print it as JSON.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Output>,
}

/// Remove the cluster with its volumes and its entry in the kubeconfig
///
/// Exit codes: 0 nothing of it is left, also if there was nothing; 4 something failed, or a run is at work there.
#[derive(Debug, Args)]
struct DownArgs {
    /// The name of the cluster.
    #[arg(long, default_value_t)]
    name: Name,
    /// Also while a run is at work there.
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Json,
}

impl ClusterArgs {
    pub(super) fn run(self) -> ExitCode {
        let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(&format!("could not start the runtime: {error}")).into(),
        };
        let exit = match self.command {
            Command::Up(args) => runtime.block_on(args.run()),
            Command::Status(args) => runtime.block_on(args.run()),
            Command::Down(args) => runtime.block_on(args.run()),
        };
        // A call that hangs is not waited for again.
        runtime.shutdown_background();
        exit.into()
    }
}

fn fail(text: &str) -> Exit {
    term::prose(&format!("error: {text}"));
    Exit::Environment
}

/// The steps as they are shown to the one who waits.
struct Shown(Progress);

impl Audience for Shown {
    fn step(&self, what: &str) {
        self.0.step(what);
    }

    fn note(&self, text: &str) {
        self.0.note(text);
    }
}

impl UpArgs {
    async fn run(self) -> Exit {
        let program = match std::env::current_exe() {
            Ok(program) => program,
            Err(error) => return fail(&format!("could not find this program, which the image is made of: {error}")),
        };
        let shape =
            self.shape.as_deref().and_then(|name| TargetShape::ALL.into_iter().find(|shape| shape.name().eq_ignore_ascii_case(name)));
        let Self { name, workers, kubernetes, node_image, engine, engine_image, image, .. } = self;
        let options = Options { name, workers, kubernetes, node_image, engine, engine_image, image, shape, program };
        let shown = Shown(Progress::new(0));
        let reached = Mutex::new(Stage::Looking);
        let shutdown = CancellationToken::new();
        if let Err(error) = watch_signals(shutdown.clone()) {
            return fail(&format!("could not listen for signals: {error}"));
        }
        let ended = kind::up(&options, &shown, &reached, &shutdown).await;
        shown.0.finish();
        let reached = *reached.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let what_is_left = what_is_left(&options.name, reached);
        match ended {
            Ok(Some(up)) => match term::data(&told_up(&up)) {
                Ok(()) => Exit::Passed,
                Err(error) => fail(&format!("could not write to stdout: {error}")),
            },
            Ok(None) => {
                term::prose(&format!("interrupted: {what_is_left}"));
                Exit::Interrupted
            }
            Err(error) => {
                let exit = if matches!(error, KindError::Version(_)) { Exit::Invalid } else { Exit::Environment };
                term::prose(&format!("error: {}", chain(&error)));
                if reached != Stage::Looking {
                    term::prose(&format!("\nhint: {what_is_left}"));
                }
                exit
            }
        }
    }
}

/// What an `up` that did not come to its end has left behind.
fn what_is_left(name: &Name, reached: Stage) -> String {
    let left = match reached {
        Stage::Looking => return "nothing was changed".to_owned(),
        Stage::Creating => "the cluster is half made, or was removed by kind",
        Stage::Filling => "the cluster is there, and not all that belongs on it",
        Stage::Knocking => "the cluster and the database are there, and no write was acknowledged yet",
    };
    let option = if *name == Name::default() { String::new() } else { format!(" --name {name}") };
    format!("{left}; `comeback cluster up{option}` goes on from here, `comeback cluster down{option}` removes it")
}

fn told_up(up: &Up) -> String {
    let Up { name, kubernetes, nodes, installed, address, server, took } = up;
    let mut text = format!(
        "The cluster `{name}` is up: Kubernetes {kubernetes} on {nodes} nodes, {} as {}.\n\
         A write was acknowledged through the service address {address} and read back, {} s after the start.\n",
        installed.engine.name(),
        installed.shape.name(),
        took.as_secs(),
    );
    let _ = writeln!(text, "The server calls itself: {server}");
    if installed.engine == Engine::Sqld {
        text.push_str("That is the stand-in, not SQL Server: it shows what Kubernetes does, and nothing of SQL Server.\n");
    }
    if let Some(caveat) = installed.engine.first_process().caveat() {
        let _ = writeln!(text, "{caveat}");
    }
    let option = if *name == Name::default() { String::new() } else { format!(" --name {name}") };
    let on = if *name == Name::default() { "kind".to_owned() } else { name.context() };
    let _ = write!(
        text,
        "\nkubectl --context {} -n comeback get pods -o wide\ncomeback run --on {on}\ncomeback cluster down{option}\n",
        name.context(),
    );
    text
}

/// A signal gives it up.
fn watch_signals(shutdown: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        // It ends soon: what was started is killed, and one call at most is still made.
        shutdown.cancel();
    });
    Ok(())
}

impl StatusArgs {
    async fn run(self) -> Exit {
        let status = match kind::status(&self.name).await {
            Ok(status) => status,
            Err(error) => return fail(&chain(&error)),
        };
        let text = match self.output {
            Some(Output::Json) => match serde_json::to_string_pretty(&status) {
                Ok(json) => format!("{json}\n"),
                Err(error) => return fail(&format!("could not write the status as JSON: {error}")),
            },
            None => told_status(&status),
        };
        if let Err(error) = term::data(&text) {
            return fail(&format!("could not write to stdout: {error}"));
        }
        for problem in &status.problems {
            term::prose(&format!("not up: {problem}"));
        }
        if status.up { Exit::Passed } else { Exit::Environment }
    }
}

fn told_status(status: &Status) -> String {
    let none = || "-".to_owned();
    let mut rows = vec![
        ("cluster", status.name.clone()),
        ("context", status.context.clone()),
        ("kubernetes", status.kubernetes.clone().unwrap_or_else(none)),
    ];
    for node in &status.nodes {
        let ready = match node.ready {
            Some(true) => "ready",
            Some(false) => "not ready",
            None => "unknown",
        };
        let cordoned = if node.schedulable == Some(false) { ", cordoned" } else { "" };
        rows.push(("node", format!("{}  {}  {}, {ready}{cordoned}", node.name, node.role, node.container)));
    }
    let engine = status.engine.map_or_else(none, |engine| engine.name().to_owned());
    let shape = status.shape.map_or_else(none, |shape| shape.name().to_owned());
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(none);
    rows.extend([
        ("engine", engine),
        ("image", or_none(&status.image)),
        ("comeback", or_none(&status.own_image)),
        ("shape", shape),
        ("pod", or_none(&status.pod)),
        ("on node", or_none(&status.node)),
        ("service", or_none(&status.service_address)),
        ("volume", or_none(&status.volume)),
        ("up", if status.up { "yes" } else { "no" }.to_owned()),
    ]);
    rows.into_iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{key:<12}{value}");
        text
    })
}

impl DownArgs {
    async fn run(self) -> Exit {
        let shown = Shown(Progress::new(0));
        let removed = kind::down(&self.name, self.force, &shown).await;
        shown.0.finish();
        match removed {
            Ok(Down { nodes: 0, volumes: false, network }) => {
                term::prose(&format!("there was no cluster `{}`{}", self.name, told_network(network)));
                Exit::Passed
            }
            Ok(Down { nodes, volumes, network }) => {
                let volumes = if volumes { ", its volumes" } else { "" };
                term::prose(&format!(
                    "removed cluster `{}`: {nodes} nodes{volumes}, its entry in the kubeconfig{}",
                    self.name,
                    told_network(network)
                ));
                Exit::Passed
            }
            Err(error) => fail(&chain(&error)),
        }
    }
}

fn told_network(removed: bool) -> &'static str {
    if removed { ", and docker's network `kind`, which nobody uses any more" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_interrupts_is_told_how_to_go_on() {
        let name = |text| Name::try_new(text).expect("a name");
        assert_eq!(what_is_left(&name("comeback"), Stage::Looking), "nothing was changed");
        assert!(what_is_left(&Name::default(), Stage::Filling).contains("`comeback cluster up` goes on"));
        for stage in [Stage::Creating, Stage::Filling, Stage::Knocking] {
            let told = what_is_left(&name("x"), stage);
            assert!(told.contains("cluster up --name x") && told.contains("cluster down --name x"), "{told}");
        }
    }
}
