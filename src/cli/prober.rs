//! `comeback prober`: the process in a prober's pod.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{exit::Exit, term};
use crate::{
    cluster::chain,
    prober::server::{self, Ended, Options, PORT},
    workload::Password,
};

/// The variable that holds the password of the database.
const PASSWORD: &str = "MSSQL_SA_PASSWORD";

/// Probe the database from where this runs, on behalf of a runner that connects
///
/// The password of the login comes from `MSSQL_SA_PASSWORD`. A prober without a runner stops by itself after five minutes.
#[derive(Debug, Args)]
pub(super) struct ProberArgs {
    /// The session of the runner; another one is refused.
    #[arg(long, value_name = "ID")]
    session: String,
    /// Folder of the journal, of this session alone.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where to listen: a loopback address.
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from(([127, 0, 0, 1], PORT)))]
    listen: SocketAddr,
    /// How many bytes may wait for the runner.
    #[arg(long, value_name = "BYTES")]
    most_on_disk: Option<u64>,
}

/// Runs it until it is told to stop or left alone; both end with 0, so that nobody starts it again.
pub(super) fn main(args: ProberArgs) -> ExitCode {
    let Ok(password) = std::env::var(PASSWORD) else {
        term::prose(&format!("error: {PASSWORD} is not set: a prober logs in with it"));
        return Exit::Invalid.into();
    };
    let options = Options { listen: args.listen, session: args.session, data: args.data, most_on_disk: args.most_on_disk };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            term::prose(&format!("error: could not start the runtime: {error}"));
            return Exit::Environment.into();
        }
    };
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| format!("could not listen for signals: {error}"))?;
        let announce = |address: SocketAddr| {
            // For whoever reads the log of the pod; nobody depends on it.
            let _ = term::data(&format!("comeback {} prober listens on {address}\n", env!("CARGO_PKG_VERSION")));
        };
        let told = async {
            terminate.recv().await;
        };
        server::run(&options, Password::new(password), announce, told).await.map_err(|error| chain(&error))
    });
    match ended {
        Ok(Ended::Told) => term::prose("told to stop"),
        Ok(Ended::Alone) => term::prose("no runner for five minutes: stopped"),
        Err(error) => {
            term::prose(&format!("error: {error}"));
            return Exit::Environment.into();
        }
    }
    Exit::Passed.into()
}
