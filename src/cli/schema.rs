//! `comeback schema`: the JSON Schema of a scenario, for editors.

use clap::Args;

use super::{exit::Exit, term};
use crate::scenario;

/// Print the JSON Schema of a scenario, for editors.
#[derive(Debug, Args)]
pub(super) struct Schema {}

impl Schema {
    #[expect(clippy::unused_self, reason = "every subcommand is run in the same way")]
    pub(super) fn run(self) -> Exit {
        match term::data(&format!("{:#}\n", scenario::schema().as_value())) {
            Ok(()) => Exit::Passed,
            Err(error) => {
                term::prose(&format!("error: could not write to stdout\n  cause: {error}"));
                Exit::Environment
            }
        }
    }
}
