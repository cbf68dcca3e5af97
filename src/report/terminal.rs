//! The summary as a table on the terminal.
//!
//! Every word is readable without colour. What does not fit the width is left out column by column, least needed first, and never wrapped:
//! it is all in `summary.md`. The caller adds the exit code and the folder of the reports after the last line.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Effects};

use crate::{
    report::{
        figure, headline,
        text::{cut, one_line, width, wrap},
    },
    result::{RunResult, TrialResult, Verdict},
};

/// What the terminal can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether it shows colours, and its owner wants them.
    pub color: bool,
    /// How many columns it has.
    pub width: usize,
}

/// Narrower than this, lines run over rather than say nothing.
const NARROWEST: usize = 40;
/// The last column is shown, cut, if this much of it fits.
const WORTH_SHOWING: usize = 16;
/// What stands between two columns.
const GAP: &str = "  ";
/// What stands before a text under the line of its trial.
const INDENT: &str = "    ";

impl Style {
    fn paint(self, style: anstyle::Style, text: &str) -> String {
        if self.color { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    fn verdict(self, verdict: Verdict, text: &str) -> String {
        let effects = if verdict == Verdict::Passed { Effects::new() } else { Effects::BOLD };
        self.paint(color(verdict).on_default().effects(effects), text)
    }

    fn dim(self, text: &str) -> String {
        self.paint(anstyle::Style::new().effects(Effects::DIMMED), text)
    }

    /// A block of text whose first word says what it is: `warning: ...`.
    fn notice(self, out: &mut String, color: AnsiColor, word: &str, text: &str) {
        let mut block = String::new();
        wrap(&mut block, &format!("{word}: "), text, self.width);
        let _ = write!(out, "{}{}", self.paint(color.on_default().effects(Effects::BOLD), word), &block[word.len()..]);
    }
}

/// The colour of a verdict. It is never the only sign of it.
#[must_use]
pub(crate) const fn color(verdict: Verdict) -> AnsiColor {
    match verdict {
        Verdict::Passed => AnsiColor::Green,
        Verdict::Failed => AnsiColor::Red,
        Verdict::Unproven => AnsiColor::Yellow,
        Verdict::Error | Verdict::Interrupted => AnsiColor::Magenta,
        Verdict::Skipped => AnsiColor::Cyan,
    }
}

/// The table and what belongs to it, each line ended; the last line has the counts.
#[must_use]
pub fn render(result: &RunResult, style: Style) -> String {
    let style = Style { width: style.width.max(NARROWEST), ..style };
    let mut out = String::new();
    wrap(&mut out, "Platform  ", &headline::place(&result.platform), style.width);
    wrap(&mut out, "Database  ", &headline::engine(result.engine.as_ref()), style.width);
    out.push('\n');
    if !result.trials.is_empty() {
        table(&mut out, result, style);
        out.push('\n');
    }
    let mut notices = String::new();
    for error in &result.errors {
        style.notice(&mut notices, AnsiColor::Magenta, "error", error);
    }
    for warning in &result.warnings {
        style.notice(&mut notices, AnsiColor::Yellow, "warning", warning);
    }
    for left in headline::left_in_place(result) {
        style.notice(&mut notices, AnsiColor::Red, "left in place", &left);
    }
    if !notices.is_empty() {
        let _ = writeln!(out, "{notices}");
    }
    if let Some(state) = headline::state(result) {
        wrap(&mut out, "", &state, style.width);
    }
    let gravest = Verdict::ALL.into_iter().find(|verdict| result.trials.iter().any(|trial| trial.verdict == *verdict));
    let counts = style.verdict(gravest.unwrap_or(Verdict::Error), &headline::counts(result));
    let _ = writeln!(out, "{counts} {}", headline::took(result));
    out
}

struct Column {
    title: &'static str,
    /// Whether it holds counts, which stand at its right edge.
    right: bool,
    cells: Vec<String>,
}

impl Column {
    fn width(&self) -> usize {
        self.cells.iter().map(|cell| width(cell)).chain([width(self.title)]).max().unwrap_or(0)
    }
}

/// The columns in their order, those that fit. The rank says which goes first when room is short: the highest.
fn columns(result: &RunResult, room: usize) -> Vec<Column> {
    let column = |title, right, cell: fn(&TrialResult) -> String| Column {
        title,
        right,
        cells: result.trials.iter().map(|trial| one_line(&cell(trial))).collect(),
    };
    let mut ranked = vec![
        (0, column("scenario", false, TrialResult::label)),
        (0, column("verdict", false, |trial| trial.verdict.to_string())),
        (1, column("outage", false, figure::outage)),
        (2, column("recovery", false, figure::recovery)),
        (4, column("limit", false, figure::limit)),
        (5, column("acknowledged", true, |trial| headline::if_begun(trial, figure::count(trial.rows.acknowledged)))),
        (6, column("in doubt", true, headline::in_doubt)),
        (3, column("lost", true, |trial| figure::count_if_known(trial.rows.lost))),
        (7, column("proof", false, |trial| headline::proof(trial).unwrap_or_else(|| figure::NOT_MEASURED.into()))),
    ];
    // What proves the fault is a list of names: the first of them is better than none.
    let taken: usize = ranked.iter().take(8).map(|(_, column)| GAP.len() + column.width()).sum();
    let left = room.saturating_sub(taken + GAP.len());
    if left >= WORTH_SHOWING {
        for cell in &mut ranked[8].1.cells {
            *cell = cut(cell, left);
        }
    }
    loop {
        let taken: usize = ranked.iter().map(|(_, column)| GAP.len() + column.width()).sum();
        let last = ranked.iter().map(|(rank, _)| *rank).max().unwrap_or(0);
        if taken <= room || last == 0 {
            break;
        }
        ranked.retain(|(rank, _)| *rank != last);
    }
    ranked.into_iter().map(|(_, column)| column).collect()
}

fn table(out: &mut String, result: &RunResult, style: Style) {
    let mut columns = columns(result, style.width);
    // A name may be longer than all else together.
    let others: usize = columns.iter().skip(1).map(|column| GAP.len() + column.width()).sum();
    let room = style.width.saturating_sub(others + GAP.len()).max(8);
    for name in &mut columns[0].cells {
        *name = cut(name, room);
    }
    let widths: Vec<usize> = columns.iter().map(Column::width).collect();
    let pad = |text: &str, place: usize| {
        let space = " ".repeat(widths[place].saturating_sub(width(text)));
        if columns[place].right { (space, String::new()) } else { (String::new(), space) }
    };
    let line = |cells: &mut dyn Iterator<Item = (String, &str)>| {
        let mut line = String::new();
        for (place, (shown, plain)) in cells.enumerate() {
            let (before, after) = pad(plain, place);
            let _ = write!(line, "{GAP}{before}{shown}{after}");
        }
        line.truncate(line.trim_end_matches(' ').len());
        line
    };
    let titles = line(&mut columns.iter().map(|column| (column.title.to_owned(), column.title)));
    let _ = writeln!(out, "{}", style.dim(&titles));
    let rule = widths.iter().map(|width| GAP.len() + width).sum::<usize>() - GAP.len();
    let _ = writeln!(out, "{GAP}{}", style.dim(&"─".repeat(rule)));
    for (row, trial) in result.trials.iter().enumerate() {
        let cells = &mut columns.iter().enumerate().map(|(place, column)| {
            let plain = column.cells[row].as_str();
            (if place == 1 { style.verdict(trial.verdict, plain) } else { plain.to_owned() }, plain)
        });
        let _ = writeln!(out, "{}", line(cells));
        why(out, trial, style);
    }
}

/// Under a trial: if it is not passed, the reason and the laws that were seen not to hold; in any case what was not undone.
fn why(out: &mut String, trial: &TrialResult, style: Style) {
    if trial.verdict != Verdict::Passed {
        wrap(out, INDENT, &headline::reason(trial), style.width);
    }
    for law in trial.laws.iter().filter(|law| law.verdict == Verdict::Failed) {
        let said = one_line(&trial.reason).contains(&one_line(&law.detail));
        let detail = if said { String::new() } else { format!(": {}", law.detail) };
        wrap(out, INDENT, &format!("law {} {}{detail}", law.law, law.verdict), style.width);
    }
    for undo in trial.undo.iter().filter(|undo| !undo.done) {
        wrap(out, INDENT, &headline::undo_failed(undo), style.width);
    }
}
