//! What the summary and the terminal say alike: the counts, the cause, the place.
//!
//! The functions give plain text; each report escapes it in its own way.

use crate::{
    report::figure,
    result::{Engine, Evidence, EvidenceRole, Platform, RunResult, RunState, TrialResult, UndoResult, Verdict},
};

/// How many trials ended how, the gravest first: `1 failed, 3 passed`.
#[must_use]
pub(super) fn counts(result: &RunResult) -> String {
    let counts: Vec<String> = Verdict::ALL
        .into_iter()
        .filter_map(|verdict| {
            let n = result.trials.iter().filter(|trial| trial.verdict == verdict).count();
            (n > 0).then(|| format!("{} {}", figure::count(n as u64), counted_as(verdict)))
        })
        .collect();
    if counts.is_empty() { "nothing ran".into() } else { counts.join(", ") }
}

/// The word after a count: it must fit one and many.
const fn counted_as(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Error => "in error",
        Verdict::Passed | Verdict::Failed | Verdict::Unproven | Verdict::Skipped | Verdict::Interrupted => verdict.as_str(),
    }
}

/// What a run that did not come to its end has to say of that.
#[must_use]
pub(super) fn state(result: &RunResult) -> Option<String> {
    let begun = result.trials.iter().filter(|trial| trial.started.is_some()).count() as u64;
    let of = figure::counted(result.trials.len() as u64, "trial");
    match result.state {
        RunState::Finished => None,
        RunState::Interrupted => Some(format!("interrupted after {} of {of} had begun", figure::count(begun))),
        RunState::Unfinished => {
            Some(format!("unfinished: the record has no end, the run goes on or was killed; {} of {of} had begun", figure::count(begun)))
        }
    }
}

/// What is still in place, and how to remove it: what the run says; if it says nothing, each undo that was not done.
#[must_use]
pub(super) fn left_in_place(result: &RunResult) -> Vec<String> {
    if !result.left_in_place.is_empty() {
        return result.left_in_place.clone();
    }
    let not_undone = |trial: &TrialResult| -> Vec<String> {
        trial.undo.iter().filter(|undo| !undo.done).map(|undo| format!("{}: {}", trial.label(), undo_failed(undo))).collect()
    };
    result.trials.iter().flat_map(not_undone).collect()
}

/// An undo that was not done, and why.
#[must_use]
pub(super) fn undo_failed(undo: &UndoResult) -> String {
    format!("could not {}: {}", undo.what, undo.error.as_deref().unwrap_or("it was not seen to be done"))
}

/// The cause in a line, of the gravest trial that is not green; `None` when all is well.
#[must_use]
pub(super) fn cause(result: &RunResult) -> Option<String> {
    let red = [Verdict::Failed, Verdict::Unproven, Verdict::Error];
    red.into_iter()
        .find_map(|verdict| result.trials.iter().find(|trial| trial.verdict == verdict))
        .map(|trial| format!("{} {}: {}", trial.label(), ended(trial.verdict), reason(trial)))
        .or_else(|| result.errors.first().cloned())
}

/// The reason, with the measured figure and its bounds if the recovery was not clearly within its limit and the reason does not say so.
#[must_use]
pub(super) fn reason(trial: &TrialResult) -> String {
    let late = match (&trial.recovery, trial.recovery_limit) {
        (Some(recovery), Some(limit)) => recovery.hi.is_none_or(|hi| hi > limit),
        _ => false,
    };
    if late && !trial.reason.contains(&figure::recovery(trial)) {
        format!("{} (recovery {})", trial.reason, figure::recovery_and_limit(trial))
    } else {
        trial.reason.clone()
    }
}

/// The verdict as the end of a sentence that begins with the trial.
#[must_use]
pub(super) const fn ended(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Unproven => "is unproven",
        Verdict::Skipped => "was skipped",
        Verdict::Error => "met an error",
        Verdict::Interrupted => "was interrupted",
    }
}

/// Where it ran: `sandbox, Kubernetes v1.33.0, timers 10 times faster`.
#[must_use]
pub(super) fn place(platform: &Platform) -> String {
    let Platform { name, kubernetes, speed, defect } = platform;
    let kubernetes = match kubernetes {
        Some(version) => format!("Kubernetes {version}"),
        None => "Kubernetes unknown: the API server never answered".into(),
    };
    let speed = speed.map(|speed| match speed {
        1 => "timers as Kubernetes has them".into(),
        speed => format!("timers {speed} times faster"),
    });
    let defect = defect.as_ref().map(|defect| format!("with the defect `{defect}` switched on"));
    [Some(name.clone()), Some(kubernetes), speed, defect].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// What the database is, and for the stand-in plainly that it is one.
#[must_use]
pub(super) fn engine(engine: Option<&Engine>) -> String {
    match engine {
        None => "unknown: the database never answered".into(),
        Some(Engine { version, edition, stand_in }) => {
            let edition = edition.as_ref().map(|edition| format!(", {edition}")).unwrap_or_default();
            let stand_in = if *stand_in { "a stand-in, not SQL Server: " } else { "" };
            format!("{stand_in}{version}{edition}")
        }
    }
}

/// What proves the faults of a trial: `restart count, start time`; what should have and does not, is named. `None`: neither.
#[must_use]
pub(super) fn proof(trial: &TrialResult) -> Option<String> {
    let of = |role| -> Vec<&str> {
        trial.evidence.iter().filter(|evidence| evidence.role == role).map(|Evidence { what, .. }| what.as_str()).collect()
    };
    let (proof, missing) = (of(EvidenceRole::Proof), of(EvidenceRole::Missing));
    match (proof.is_empty(), missing.is_empty()) {
        (true, true) => None,
        (false, true) => Some(proof.join(", ")),
        (true, false) => Some(format!("missing: {}", missing.join(", "))),
        (false, false) => Some(format!("{}; missing: {}", proof.join(", "), missing.join(", "))),
    }
}

/// A count of a trial that began; a trial that did not has counted nothing, which is not 0.
#[must_use]
pub(super) fn if_begun(trial: &TrialResult, count: String) -> String {
    if trial.started.is_some() { count } else { figure::NOT_MEASURED.into() }
}

/// Rows in doubt, and how many of them the final read found: `3 (2 found)`.
#[must_use]
pub(super) fn in_doubt(trial: &TrialResult) -> String {
    let count = match (trial.rows.in_doubt, trial.rows.in_doubt_present) {
        (0, _) => "0".into(),
        (n, None) => figure::count(n),
        (n, Some(found)) => format!("{} ({} found)", figure::count(n), figure::count(found)),
    };
    if_begun(trial, count)
}

/// How long the run took: `in 41 s`.
#[must_use]
pub(super) fn took(result: &RunResult) -> String {
    format!("in {}", figure::elapsed(result.duration))
}
