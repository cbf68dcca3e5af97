//! `comeback check`: are these scenarios valid? Every error at once, with its place.

use std::{fmt::Write, path::PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{exit::Exit, term};
use crate::scenario::{Diagnostics, Suite};

/// Validate scenarios: every error of every file at once.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Files, and folders of which every `*.yaml` and `*.yml` counts.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Print the outcome as JSON to stdout.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Output>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Json,
}

impl Check {
    pub(super) fn run(self) -> Exit {
        let result = Suite::load(&self.paths);
        if let Err(diagnostics) = &result {
            term::prose(&diagnostics.render(term::prose_has_color()));
            term::prose(&format!("\nerror: {diagnostics}"));
        }
        let data = match self.output {
            Some(Output::Json) => as_json(&result),
            None => as_lines(&result),
        };
        if let Err(error) = term::data(&data) {
            term::prose(&format!("error: could not write to stdout\n  cause: {error}"));
            return Exit::Environment;
        }
        if result.is_ok() { Exit::Passed } else { Exit::Invalid }
    }
}

fn as_lines(result: &Result<Suite, Diagnostics>) -> String {
    let mut lines = String::new();
    for file in result.iter().flat_map(|suite| &suite.files) {
        writeln!(lines, "{}: ok", file.path).expect("a string takes what is written");
    }
    lines
}

fn as_json(result: &Result<Suite, Diagnostics>) -> String {
    let files: Vec<_> =
        result.iter().flat_map(|suite| &suite.files).map(|file| json!({ "path": file.path, "scenario": file.scenario.name })).collect();
    let errors: Vec<_> = result.as_ref().err().into_iter().flat_map(Diagnostics::iter).collect();
    format!("{:#}\n", json!({ "valid": errors.is_empty(), "files": files, "errors": errors }))
}
