//! `comeback knock`: what the short-lived pod of `comeback cluster up` does.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use clap::Args;

use super::{exit::Exit, term};
use crate::{cluster::chain, deploy::knock::until_answered, workload::Password};

/// Write one row to a database, read it back on another connection, and print what the server calls itself
///
/// The password is in MSSQL_SA_PASSWORD.
#[derive(Debug, Args)]
#[expect(clippy::doc_markdown, reason = "the text is the help, where backticks would show")]
pub(super) struct Knock {
    /// Where it listens.
    #[arg(value_name = "ADDRESS:PORT")]
    address: SocketAddr,
    /// The login.
    #[arg(long, default_value = "sa")]
    user: String,
    /// How long it is tried.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    within: Duration,
}

impl Knock {
    pub(super) fn run(self) -> ExitCode {
        let fail = |text: &str, exit: Exit| {
            term::prose(&format!("error: {text}"));
            exit.into()
        };
        let Ok(password) = std::env::var("MSSQL_SA_PASSWORD") else {
            return fail("MSSQL_SA_PASSWORD is not set: it holds the password of the login", Exit::Invalid);
        };
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(&format!("could not start the runtime: {error}"), Exit::Environment),
        };
        let host = self.address.ip().to_string();
        let knocking = until_answered(&host, self.address.port(), &self.user, Password::new(password), self.within);
        match runtime.block_on(knocking) {
            Ok(knocked) => {
                match serde_json::to_string(&knocked).map_err(std::io::Error::from).and_then(|json| term::data(&format!("{json}\n"))) {
                    Ok(()) => Exit::Passed.into(),
                    Err(error) => fail(&format!("could not write to stdout: {error}"), Exit::Environment),
                }
            }
            Err(error) => {
                let waited = humantime::format_duration(self.within);
                fail(&format!("no write was acknowledged within {waited}: {}", chain(&error)), Exit::Environment)
            }
        }
    }
}
