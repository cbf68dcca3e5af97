//! `junit.xml`: the run for a CI system.
//!
//! One suite for the run, one case for each trial. A trial that failed is a `failure`; one that is unproven, in error, interrupted or never
//! began is an `error`; exactly one such element for each. Timings are properties, and only those that exist.
//!
//! The law: the document is green if and only if the exit code is 0. What makes a run red without making a trial red (something is left in
//! place, an error outside any trial, a record without an end, nothing that ran) gets a case of its own, [`RUN_CASE`].

use std::{fmt::Write as _, time::Duration};

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use crate::{
    report::{figure, headline, text},
    result::{self, Bounded, Evidence, EvidenceRole, RunResult, TrialResult, Verdict},
};

/// The name of the case that stands for the run itself. It is there only when it is red.
pub const RUN_CASE: &str = "the run itself";

/// The document.
#[must_use]
pub fn render(result: &RunResult) -> String {
    let mut suite = TestSuite::new("comeback");
    suite.set_timestamp(result.started).set_time(result.duration);
    suite.add_properties(run_properties(result));
    suite.add_test_cases(result.trials.iter().map(|trial| case(result, trial)));
    suite.add_test_cases(run_case(result));

    let mut report = Report::new("comeback");
    report.set_timestamp(result.started).set_time(result.duration).add_test_suite(suite);
    report.to_string().expect("a document is written to memory")
}

fn run_properties(result: &RunResult) -> Vec<Property> {
    let mut properties = vec![
        property("comeback", &result.comeback),
        property("run", &result.run),
        property("seed", &result.seed.to_string()),
        property("platform", &headline::place(&result.platform)),
        property("engine", &headline::engine(result.engine.as_ref())),
        property("exit_code", &result.exit_code.to_string()),
    ];
    properties.extend(headline::state(result).map(|state| property("state", &state)));
    properties.extend(result.warnings.iter().map(|warning| property("warning", warning)));
    properties
}

fn case(result: &RunResult, trial: &TrialResult) -> TestCase {
    let mut status = match trial.verdict {
        Verdict::Passed => TestCaseStatus::success(),
        Verdict::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Verdict::Skipped => TestCaseStatus::skipped(),
        Verdict::Unproven | Verdict::Error | Verdict::Interrupted => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    status.set_type(trial.verdict.as_str()).set_message(text::one_line(&headline::reason(trial))).set_description(description(trial));

    let mut case = TestCase::new(text::one_line(&trial.label()), status);
    case.set_classname(text::one_line(&result.platform.name));
    if let Some(started) = trial.started {
        case.set_timestamp(started);
    }
    if let Some(took) = trial.duration {
        case.set_time(took);
    }
    case.add_properties(timings(trial));
    case.add_properties(rows(trial));
    case
}

/// What a reader of a red case needs next, a fact a line.
fn description(trial: &TrialResult) -> String {
    let mut out = String::new();
    let mut line = |fact: String| {
        let _ = writeln!(out, "{}", text::one_line(&fact));
    };
    line(headline::reason(trial));
    line(format!("outage: {}", figure::outage(trial)));
    line(format!("recovery: {}", figure::recovery_and_limit(trial)));
    for fault in &trial.faults {
        let victim = fault.victim.as_deref().unwrap_or("nothing");
        let how = fault.mechanism.as_ref().map(|how| format!(" by {how}")).unwrap_or_default();
        let error = fault.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        line(format!("fault: {} on {victim}{how}{error}", fault.fault));
    }
    for law in trial.laws.iter().filter(|law| law.verdict != Verdict::Passed) {
        line(format!("law {} {}: {}", law.law, law.verdict, law.detail));
    }
    for Evidence { what, before, after, role } in &trial.evidence {
        let role = match role {
            EvidenceRole::Proof => "proof",
            EvidenceRole::Missing => "proof that is missing",
            EvidenceRole::Unavailable => "unavailable",
            EvidenceRole::Context => continue,
        };
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "unavailable".into());
        line(format!("{role}: {what}: {} before, {} after", value(before), value(after)));
    }
    for undo in trial.undo.iter().filter(|undo| !undo.done) {
        line(headline::undo_failed(undo));
    }
    out
}

/// The case for what no trial shows; `None` when the trials say it all.
fn run_case(result: &RunResult) -> Option<TestCase> {
    let mut facts: Vec<String> =
        headline::left_in_place(result).into_iter().map(|left| format!("left in place: {left}")).chain(result.errors.clone()).collect();
    let green = |trial: &TrialResult| matches!(trial.verdict, Verdict::Passed | Verdict::Skipped);
    if facts.is_empty() && result.trials.iter().all(green) {
        if let Some(state) = headline::state(result) {
            facts.push(state);
        } else if result.trials.is_empty() {
            facts.push("nothing ran".into());
        } else if result.trials.iter().all(|trial| trial.verdict == Verdict::Skipped) {
            facts.push("every trial was skipped, so nothing is proven".into());
        } else if result.exit_code != result::EXIT_PASSED {
            facts.push(format!("the run earned exit code {}", result.exit_code));
        }
    }
    let first = facts.first()?;
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_type("error").set_message(text::one_line(first));
    status.set_description(facts.iter().fold(String::new(), |all, fact| all + &text::one_line(fact) + "\n"));
    let mut case = TestCase::new(RUN_CASE, status);
    case.set_classname(text::one_line(&result.platform.name));
    Some(case)
}

fn timings(trial: &TrialResult) -> Vec<Property> {
    let mut properties = Vec::new();
    for (name, length) in [("outage", &trial.outage), ("recovery", &trial.recovery)] {
        if let Some(Bounded { at, lo, hi }) = *length {
            let whole = [
                (format!("{name}_ms"), at.map(result::rounded_ms)),
                (format!("{name}_lo_ms"), Some(result::floor_ms(lo))),
                (format!("{name}_hi_ms"), hi.map(result::ceil_ms)),
            ];
            properties.extend(whole.into_iter().filter_map(|(name, ms)| ms.map(|ms| property(&name, &ms.to_string()))));
        }
    }
    let whole = |length: Option<Duration>| length.map(|length| result::rounded_ms(length).to_string());
    let others = [("recovery_limit_ms", whole(trial.recovery_limit)), ("unstable_ms", whole(trial.unstable))];
    properties.extend(others.into_iter().filter_map(|(name, ms)| ms.map(|ms| property(name, &ms))));
    properties
}

fn rows(trial: &TrialResult) -> Vec<Property> {
    if trial.started.is_none() {
        return Vec::new();
    }
    let rows = &trial.rows;
    let counts = [
        ("rows_acknowledged", Some(rows.acknowledged)),
        ("rows_in_doubt", Some(rows.in_doubt)),
        ("rows_lost", rows.lost),
        ("rows_phantom", rows.phantom),
        ("rows_duplicate", rows.duplicate),
        ("rows_corrupt", rows.corrupt),
    ];
    counts.into_iter().filter_map(|(name, n)| n.map(|n| property(name, &n.to_string()))).collect()
}

fn property(name: &str, value: &str) -> Property {
    Property::new(name, text::one_line(value))
}
