//! The summary of a run on stdout, for those who ran it and those who render it again.

use std::{
    io::{self, IsTerminal as _},
    path::Path,
};

use super::term;
use crate::{report::terminal, result::RunResult};

/// How wide the table is where nobody says how wide the terminal is.
const WIDTH: usize = 110;

/// Prints the table, the exit code and where the reports are.
pub(super) fn show(result: &RunResult, folder: &Path) -> io::Result<()> {
    let style = terminal::Style { color: term::data_has_color(), width: width() };
    let table = terminal::render(result, style);
    term::data(&format!("{table}exit code {}, reports in {}\n", result.exit_code, folder.display()))
}

fn width() -> usize {
    if !io::stdout().is_terminal() {
        return WIDTH;
    }
    match console::Term::stdout().size_checked() {
        Some((_, columns)) => columns.into(),
        None => WIDTH,
    }
}
