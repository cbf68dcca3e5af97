//! A process that does next to nothing, for pods in which no database is needed: it listens, says who it is, and stops when told to.
//!
//! Like every process of a pod it dies with the process that started it, and knows its address from its environment.

use std::{
    ffi::CString,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Child, Command},
};

use nix::{
    sys::{prctl, signal::Signal},
    unistd::getppid,
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// What the process is to do.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Pause {
    /// Listen on this port of the pod's address; every connection is told the host name and then echoed.
    #[arg(long)]
    pub port: Option<u16>,
    /// Exit at once, with this code.
    #[arg(long)]
    pub exit: Option<u8>,
    /// Go on after SIGTERM.
    #[arg(long)]
    pub ignore_term: bool,
    /// Have this name in the kernel's list of processes.
    #[arg(long)]
    pub comm: Option<String>,
    /// Say every line of the standard input, and end with it.
    #[arg(long)]
    pub stdin: bool,
    /// Start another one of the same name as a child, and end when it ends.
    #[arg(long)]
    pub child: bool,
}

/// Why a pause could not be.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// The process that should be our parent is gone.
    #[error("the process that started this one is gone")]
    Orphaned,
    /// The kernel refused something.
    #[error("could not {what}: {source}")]
    Refused {
        /// What was to be done.
        what: &'static str,
        /// Why it was not.
        source: io::Error,
    },
}

fn refused<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> PauseError {
    move |source| PauseError::Refused { what, source: source.into() }
}

/// Asks the kernel to kill this process when its parent ends, and makes sure that the parent named in `COMEBACK_PARENT` has not ended already.
pub fn die_with_parent() -> Result<(), PauseError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(refused("ask for the parent-death signal"))?;
    let told = std::env::var("COMEBACK_PARENT").ok().and_then(|pid| pid.parse::<i32>().ok());
    if told.is_some_and(|told| told != getppid().as_raw()) { Err(PauseError::Orphaned) } else { Ok(()) }
}

/// Waits until it is told to stop; returns the exit code. The program has [asked to die with its parent](die_with_parent) when it began.
pub fn run(pause: &Pause) -> Result<u8, PauseError> {
    if let Some(comm) = &pause.comm {
        let name = CString::new(comm.as_str()).map_err(refused("use the name of the process"))?;
        prctl::set_name(&name).map_err(refused("take the name of the process"))?;
    }
    if let Some(code) = pause.exit {
        return Ok(code);
    }
    if pause.stdin {
        for line in io::stdin().lines() {
            say(&line.map_err(refused("read the standard input"))?);
        }
        return Ok(0);
    }
    // The child is started by the main thread, which lives as long as the process does.
    let child = if pause.child { Some(start_child(pause)?) } else { None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refused("start"))?;
    runtime.block_on(wait(pause, child))
}

fn start_child(pause: &Pause) -> Result<Child, PauseError> {
    let mut command = Command::new(std::env::current_exe().map_err(refused("find our own program"))?);
    command.arg("sandbox-pause").env("COMEBACK_PARENT", std::process::id().to_string());
    if let Some(comm) = &pause.comm {
        command.args(["--comm", comm]);
    }
    command.spawn().map_err(refused("start the child"))
}

async fn wait(pause: &Pause, child: Option<Child>) -> Result<u8, PauseError> {
    let mut term = signal(SignalKind::terminate()).map_err(refused("listen for SIGTERM"))?;
    let mut children = signal(SignalKind::child()).map_err(refused("listen for SIGCHLD"))?;
    let mut child = child;
    let listener = match pause.port {
        Some(port) => {
            let address = std::env::var("COMEBACK_POD_IP").ok().and_then(|address| address.parse::<IpAddr>().ok());
            let at = SocketAddr::new(address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port);
            Some(TcpListener::bind(at).await.map_err(refused("listen"))?)
        }
        None => None,
    };
    say(&format!("waiting as {}", host_name()));
    loop {
        if let Some(child) = &mut child
            && child.try_wait().map_err(refused("look after the child"))?.is_some()
        {
            say("the child has ended");
            return Ok(1);
        }
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = term.recv() => {
                say("told to stop");
                if !pause.ignore_term {
                    return Ok(0);
                }
            }
            _ = children.recv() => {}
            Ok((mut stream, _)) = accept => {
                tokio::spawn(async move {
                    let greeting = format!("{}\n", host_name());
                    if stream.write_all(greeting.as_bytes()).await.is_ok() {
                        let (mut from, mut to) = stream.split();
                        tokio::io::copy(&mut from, &mut to).await.ok();
                        to.shutdown().await.ok();
                    }
                });
            }
        }
    }
}

fn host_name() -> String {
    std::env::var("HOSTNAME").unwrap_or_default()
}

/// Says a line to whoever keeps the log of the pod.
fn say(line: &str) {
    io::Write::write_all(&mut io::stdout(), format!("{line}\n").as_bytes()).ok();
}
