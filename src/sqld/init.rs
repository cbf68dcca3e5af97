//! What may be the first process of a container, before the watchdog: the shells of SQL Server's images.
//!
//! Newer images begin with a shell script that starts the server and waits for it, and Azure SQL Edge's with a shell that has three children. A shell
//! that is process 1 has no handler for SIGTERM, so the kernel drops it: the server goes on until the grace of the pod is over, and is killed.
//! Whoever takes the first process for the server, or the only one, kills nothing or the wrong one.

use std::{
    ffi::CStr,
    io,
    process::{ExitCode, ExitStatus},
};

use clap::ValueEnum;
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use super::{surroundings::PARENT, watchdog};

/// A first process that is not the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Init {
    /// A `bash` that waits for the server: SQL Server 2022 since CU18.
    Entrypoint,
    /// A `sh` with three children, of which the server is one: Azure SQL Edge.
    Shell,
}

impl Init {
    /// The kernel's name of it.
    pub(super) const fn comm(self) -> &'static CStr {
        match self {
            Self::Entrypoint => c"bash",
            Self::Shell => c"sh",
        }
    }

    /// The kernel's names of what runs beside the server.
    const fn beside(self) -> &'static [&'static str] {
        match self {
            Self::Entrypoint => &[],
            Self::Shell => &["launchpadd", "AsdePackage"],
        }
    }
}

/// Runs the server as a child until it ends; its exit code is ours, and what runs beside it ends with us.
pub(super) fn main(init: Init) -> ExitCode {
    watchdog::until_end(stand_before(init))
}

async fn stand_before(init: Init) -> io::Result<ExitStatus> {
    // Taken and forgotten: as process 1, a shell would never see them.
    let _unheard = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let beside: io::Result<Vec<Child>> = init.beside().iter().map(|comm| start_beside(comm)).collect();
    let _beside = beside?;
    watchdog::again("--watchdog")?.wait().await
}

fn start_beside(comm: &str) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["sandbox-pause", "--comm", comm]).env(PARENT, std::process::id().to_string());
    command.kill_on_drop(true).spawn()
}
