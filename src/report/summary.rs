//! `summary.md`: the run for a pull request or a job summary.
//!
//! Read from the top it answers in turn: did it pass, if not why, where did it run, what is to be cleaned up, what was measured; then, for
//! each trial that is not passed, the reason before its figures, laws and evidence; last what was not asked, what could not have been
//! shown, and how to do it again. Every text from outside goes through an escape, so that it reads as it is.

use std::fmt::Write as _;

use crate::{
    report::{
        figure, headline,
        text::{markdown as md, markdown_code as code, one_line},
    },
    result::{Evidence, EvidenceRole, FaultResult, LawResult, RunResult, TrialResult, Verdict},
};

/// The page.
#[must_use]
pub fn render(result: &RunResult) -> String {
    let mut page = Page::default();
    head(&mut page, result);
    if !result.trials.is_empty() {
        trials(&mut page, result);
    }
    let (begun, never): (Vec<_>, Vec<_>) =
        result.trials.iter().filter(|trial| trial.verdict != Verdict::Passed).partition(|trial| trial.started.is_some());
    for trial in begun {
        section(&mut page, trial);
    }
    page.list("Never began", never.into_iter().map(|trial| format!("{}: {}", code(&trial.label()), md(&trial.reason))));
    not_asked(&mut page, result);
    page.list("Warnings", result.warnings.iter().map(|warning| md(warning)));
    blind_spots(&mut page, result);
    reproduce(&mut page, result);
    page.0
}

/// Blocks with an empty line between them.
#[derive(Default)]
struct Page(String);

impl Page {
    fn block(&mut self, block: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(block.trim_end_matches('\n'));
        self.0.push('\n');
    }

    /// A heading and a list; nothing at all for an empty list.
    fn list(&mut self, heading: &str, items: impl Iterator<Item = String>) {
        let list = items.fold(String::new(), |list, item| list + "- " + &item + "\n");
        if !list.is_empty() {
            self.block(&format!("## {heading}"));
            self.block(&list);
        }
    }

    fn table(&mut self, head: &[&str], alignment: &[&str], rows: impl Iterator<Item = Vec<String>>) {
        let mut table = format!("| {} |\n|{}|\n", head.join(" | "), alignment.join("|"));
        for row in rows {
            let _ = writeln!(table, "| {} |", row.join(" | "));
        }
        self.block(&table);
    }
}

fn head(page: &mut Page, result: &RunResult) {
    page.block("# Does the database come back?");
    page.block(&format!(
        "**{}** {}, exit code {}{}",
        headline::counts(result),
        headline::took(result),
        result.exit_code,
        headline::state(result).map(|state| format!("; {state}")).unwrap_or_default()
    ));
    if let Some(cause) = headline::cause(result) {
        page.block(&format!("> {}", md(&cause)));
    }
    page.block(&format!(
        "- Platform: {}\n- Database: {}\n- Run: {} of {} by comeback {}, seed {}",
        md(&headline::place(&result.platform)),
        md(&headline::engine(result.engine.as_ref())),
        code(&result.run),
        result.started.format("%Y-%m-%d %H:%M:%S UTC"),
        md(&result.comeback),
        result.seed
    ));
    page.list("Still in place", headline::left_in_place(result).iter().map(|left| md(left)));
    page.list("Errors outside any trial", result.errors.iter().map(|error| md(error)));
}

fn trials(page: &mut Page, result: &RunResult) {
    page.block("## Trials");
    page.table(
        &["Scenario", "Verdict", "Outage", "Recovery", "Limit", "Acknowledged", "In doubt", "Lost", "What proves the fault"],
        &["---", "---", "---", "---", "---", "---:", "---:", "---:", "---"],
        result.trials.iter().map(|trial| {
            let verdict = match trial.verdict {
                Verdict::Passed => trial.verdict.to_string(),
                other => format!("**{other}**"),
            };
            vec![
                code(&trial.label()),
                verdict,
                figure::outage(trial),
                figure::recovery(trial),
                figure::limit(trial),
                headline::if_begun(trial, figure::count(trial.rows.acknowledged)),
                headline::in_doubt(trial),
                figure::count_if_known(trial.rows.lost),
                headline::proof(trial).map_or_else(|| figure::NOT_MEASURED.into(), |proof| md(&proof)),
            ]
        }),
    );
}

/// A trial that is not passed: the reason first.
fn section(page: &mut Page, trial: &TrialResult) {
    page.block(&format!("## {} {}", code(&trial.label()), headline::ended(trial.verdict)));
    page.block(&md(&headline::reason(trial)));
    let mut facts = String::new();
    for FaultResult { fault, victim, mechanism, error } in &trial.faults {
        let _ = write!(facts, "- Fault: {}", code(fault));
        let _ = write!(facts, " on {}", victim.as_deref().map_or_else(|| "nothing: no victim was found".into(), md));
        if let Some(mechanism) = mechanism {
            let _ = write!(facts, ", by {}", md(mechanism));
        }
        match error {
            Some(error) => {
                let _ = writeln!(facts, "; **not injected**: {}", md(error));
            }
            None => facts.push('\n'),
        }
    }
    let _ = writeln!(facts, "- Outage: {}", figure::outage(trial));
    if !trial.further_outages.is_empty() {
        let further: Vec<_> = trial.further_outages.iter().map(figure::bounded).collect();
        let _ = writeln!(facts, "- Further outages: {}", further.join("; "));
    }
    let _ = writeln!(facts, "- Recovery: {}", figure::recovery_and_limit(trial));
    if let Some(unstable) = trial.unstable.filter(|unstable| !unstable.is_zero()) {
        let _ = writeln!(facts, "- Unstable after the first good write for {}", figure::elapsed(unstable));
    }
    let probes = &trial.probes;
    let _ = writeln!(
        facts,
        "- Probes: {} due, {} acknowledged, {} failed, {} dropped",
        figure::count(probes.due),
        figure::count(probes.acknowledged),
        figure::count(probes.failed),
        figure::count(probes.dropped)
    );
    let rows = &trial.rows;
    let _ = writeln!(
        facts,
        "- Rows: {} acknowledged, {} refused, {} in doubt{}; {}",
        figure::count(rows.acknowledged),
        figure::count(rows.refused),
        figure::count(rows.in_doubt),
        rows.in_doubt_present.map(|found| format!(" ({} found)", figure::count(found))).unwrap_or_default(),
        if rows.lost.is_none() {
            "there was no final read".to_owned()
        } else {
            format!(
                "{} lost, {} phantom, {} duplicate, {} corrupt",
                figure::count_if_known(rows.lost),
                figure::count_if_known(rows.phantom),
                figure::count_if_known(rows.duplicate),
                figure::count_if_known(rows.corrupt)
            )
        }
    );
    page.block(&facts);

    let laws = trial.laws.iter().filter(|law| law.verdict != Verdict::Passed);
    let laws = laws.fold(String::new(), |list, law| list + &law_item(law));
    if !laws.is_empty() {
        page.block("### Laws that were not seen to hold");
        page.block(&laws);
    }
    if !trial.evidence.is_empty() {
        page.block("### Evidence");
        let value = |value: &Option<String>| value.as_deref().map_or_else(|| "unavailable".into(), code);
        page.table(
            &["What", "Before", "After", "Role"],
            &["---", "---", "---", "---"],
            trial.evidence.iter().map(|Evidence { what, before, after, role }| {
                let role = match role {
                    EvidenceRole::Proof => "proof",
                    EvidenceRole::Missing => "**missing**",
                    EvidenceRole::Unavailable => "unavailable",
                    EvidenceRole::Context => "context",
                };
                vec![md(what), value(before), value(after), role.into()]
            }),
        );
    }
    if !trial.undo.is_empty() {
        page.block("### Undo");
        page.block(&trial.undo.iter().fold(String::new(), |list, undo| {
            let what = md(&undo.what);
            match (undo.done, &undo.error) {
                (true, _) => format!("{list}- done: {what}\n"),
                (false, Some(error)) => format!("{list}- **not done**: {what}: {}\n", md(error)),
                (false, None) => format!("{list}- **not done**: {what}\n"),
            }
        }));
    }
}

fn law_item(LawResult { law, verdict, detail }: &LawResult) -> String {
    format!("- {} {verdict}: {}\n", code(law), md(detail))
}

/// Laws of trials that passed all the same, although these could not be asked.
fn not_asked(page: &mut Page, result: &RunResult) {
    let passed = result.trials.iter().filter(|trial| trial.verdict == Verdict::Passed);
    let open = passed.flat_map(|trial| {
        let open = trial.laws.iter().filter(|law| law.verdict != Verdict::Passed);
        open.map(|law| format!("{}: {} {}: {}", code(&trial.label()), code(&law.law), law.verdict, md(&law.detail)))
    });
    page.list("Passed without these laws", open);
}

/// Each blind spot once, with the scenarios that have it.
fn blind_spots(page: &mut Page, result: &RunResult) {
    let mut spots: Vec<(&str, Vec<&str>)> = Vec::new();
    for trial in &result.trials {
        for spot in &trial.blind_spots {
            match spots.iter_mut().find(|(known, _)| known == spot) {
                Some((_, scenarios)) if scenarios.contains(&trial.scenario.as_str()) => {}
                Some((_, scenarios)) => scenarios.push(&trial.scenario),
                None => spots.push((spot, vec![&trial.scenario])),
            }
        }
    }
    page.list(
        "What this could not have shown",
        spots.into_iter().map(|(spot, scenarios)| {
            let scenarios: Vec<_> = scenarios.into_iter().map(code).collect();
            format!("{} ({})", md(spot), scenarios.join(", "))
        }),
    );
}

fn reproduce(page: &mut Page, result: &RunResult) {
    let on = if result.platform.name == "sandbox" { String::new() } else { format!(" --on {}", one_line(&result.platform.name)) };
    page.block("## Do it again");
    page.block(&format!("```\ncomeback run PATH{on} --seed {}\n```", result.seed));
    page.block("`PATH` is the scenario file or the folder of this run; left out, it is the standard suite.");
}
