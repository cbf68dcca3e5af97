//! `comeback sandbox`: an embedded cluster that stays until it is told to go.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{exit::Exit, term};
use crate::sandbox::{
    Options, Sandbox, SandboxError,
    pause::{self, Pause},
};

/// Start an embedded cluster, write its kubeconfig, and keep it until Ctrl-C or SIGTERM.
#[derive(Debug, Clone, Args)]
pub(super) struct SandboxArgs {
    /// How much faster than Kubernetes its timers run.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    speed: u32,
    /// How many worker nodes it has.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    workers: u8,
    /// Where to write the kubeconfig, a new file; by default beside the sandbox's volumes.
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// The port of the API on 127.0.0.1; by default any that is free.
    #[arg(long)]
    port: Option<u16>,
}

/// Why `comeback sandbox` failed.
#[derive(Debug, thiserror::Error)]
enum SandboxCommandError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("could not find our own program: {0}")]
    Program(#[source] io::Error),
    #[error("could not start: {0}")]
    Runtime(#[source] io::Error),
    #[error("could not listen for Ctrl-C and SIGTERM: {0}")]
    Signals(#[source] io::Error),
    #[error("could not write the kubeconfig `{}`: {source} (hint: a file that is there is never written over; choose another name)", at.display())]
    Kubeconfig { at: PathBuf, source: io::Error },
    #[error("could not write to stdout: {0}")]
    Stdout(#[source] io::Error),
}

/// Does the command.
pub(super) fn run(args: &SandboxArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let outcome = runtime.map_err(SandboxCommandError::Runtime).and_then(|runtime| {
        let outcome = runtime.block_on(stay(args));
        // A stop that did not end within its time is not waited for again.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            term::prose(&format!("error: {error}"));
            Exit::Environment.into()
        }
    }
}

async fn stay(args: &SandboxArgs) -> Result<(), SandboxCommandError> {
    // Before anything is started, so that a signal at any time stops it in order.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(SandboxCommandError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(SandboxCommandError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(SandboxCommandError::Signals)?;
    let binary = std::env::current_exe().map_err(SandboxCommandError::Program)?;
    let options = Options { speed: args.speed, workers: args.workers, port: args.port, ..Options::new(binary) };
    let sandbox = Sandbox::start(options).await?;
    let path = args.kubeconfig.clone().unwrap_or_else(|| sandbox.dir().join("kubeconfig"));
    write_private(&path, &sandbox.kubeconfig_text()).map_err(|source| SandboxCommandError::Kubeconfig { at: path.clone(), source })?;
    // The path is what a script wants; the rest is for people.
    term::data(&format!("{}\n", path.display())).map_err(SandboxCommandError::Stdout)?;
    let (api, range) = (sandbox.address(), sandbox.network());
    term::prose(&format!(
        "The sandbox is up: API on https://{api}, pods and services in {range}, timers {} times as fast as Kubernetes'.\n\n\
         export KUBECONFIG={}\nkubectl get nodes\n\nCtrl-C stops it and removes everything.",
        args.speed,
        path.display(),
    ));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    sandbox.stop().await;
    if args.kubeconfig.is_some() {
        // It leads nowhere any more.
        fs::remove_file(&path).ok();
    }
    Ok(())
}

/// Writes a new file that only its owner can read. One that is there already may be somebody's own kubeconfig.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// Does `comeback sandbox-pause`.
pub(super) fn pause(args: &Pause) -> ExitCode {
    match pause::run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            term::prose(&format!("error: {error}"));
            Exit::Environment.into()
        }
    }
}
