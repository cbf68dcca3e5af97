//! The watchdog: starts the engine as its child and ends with it, as SQL Server's does.
//!
//! Whoever kills the engine sees the container end; whoever kills the watchdog takes the engine along, because the engine asked the kernel to
//! die with it. The watchdog runs on one thread: the kernel ties that wish to the thread which started the child.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use super::{log, surroundings::PARENT};

/// An engine that was told to stop and has not by then is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// The exit code of a process that a signal killed is this much more than the signal's number.
const KILLED: i32 = 128;

/// Runs an engine until it ends; its exit code is ours.
pub(crate) fn main() -> ExitCode {
    until_end(watch())
}

/// Runs what watches a child, and ends as that does.
pub(super) fn until_end(watching: impl Future<Output = io::Result<ExitStatus>>) -> ExitCode {
    let ended = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| runtime.block_on(watching));
    match ended {
        Ok(status) => exit_code(status),
        Err(error) => {
            log::line("Server", &format!("Could not run the engine: {error}."));
            ExitCode::FAILURE
        }
    }
}

/// Starts this program again, with the same arguments and one more that says what it is then.
pub(super) fn again(role: &str) -> io::Result<Child> {
    let mut arguments = std::env::args_os();
    Command::new("/proc/self/exe")
        .arg0(arguments.next().unwrap_or_else(|| "comeback".into()))
        .args(arguments)
        .arg(role)
        .env(PARENT, std::process::id().to_string())
        .kill_on_drop(true)
        .spawn()
}

async fn watch() -> io::Result<ExitStatus> {
    // Before the engine starts, so that no signal finds the default action.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut engine = again("--engine")?;
    tokio::select! {
        ended = engine.wait() => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    pass_on(&engine, Signal::SIGTERM);
    if let Ok(ended) = timeout(STOP_DEADLINE, engine.wait()).await {
        return ended;
    }
    log::line("Server", &format!("The engine has not stopped within {} s and is killed.", STOP_DEADLINE.as_secs()));
    pass_on(&engine, Signal::SIGKILL);
    engine.wait().await
}

fn pass_on(engine: &Child, signal: Signal) {
    if let Some(pid) = engine.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended meanwhile, which is what is wanted.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| KILLED + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
