//! What a run found: the one thing that reports see.
//!
//! A [`RunResult`] is computed from the events of a run by pure functions ([`crate::measure`], [`crate::check`]), so rendering it again from
//! `run.ndjson` gives the same bytes. Its JSON form is `result.json`.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// The value of `schema` in `result.json`; it changes when a reader of the old form would be misled.
pub const RESULT_SCHEMA: &str = "comeback/result/v1";

/// Exit code: every expectation was seen to hold.
pub const EXIT_PASSED: u8 = 0;
/// Exit code: an expectation was seen not to hold.
pub const EXIT_FAILED: u8 = 1;
/// Exit code: the arguments or a scenario are invalid; nothing was touched.
pub const EXIT_INVALID: u8 = 2;
/// Exit code: nobody can tell, because the evidence is missing.
pub const EXIT_UNPROVEN: u8 = 3;
/// Exit code: the cluster or the environment failed, or nothing ran.
pub const EXIT_ENVIRONMENT: u8 = 4;
/// Exit code: an undo failed, something is left in place.
pub const EXIT_LEFT_IN_PLACE: u8 = 5;
/// Exit code: it was interrupted, and undid what it had done.
pub const EXIT_INTERRUPTED: u8 = 130;

/// The exit code that a run has earned: of all that there is to report, the gravest.
///
/// From the gravest down: [5](EXIT_LEFT_IN_PLACE) if an undo failed or something is left in place, [1](EXIT_FAILED) if a trial failed,
/// [130](EXIT_INTERRUPTED) if the run was interrupted, [3](EXIT_UNPROVEN) if a trial is unproven, [4](EXIT_ENVIRONMENT) if a trial or the run
/// itself met an error, if a trial was cut short, if nothing ran or if the record has no end; else [0](EXIT_PASSED). So a lost row is never
/// hidden by a cluster that failed elsewhere. A suite that only skipped has proven nothing: 3, unless one of the above holds.
#[must_use]
pub fn exit_code(state: RunState, trials: &[TrialResult], errors: &[String], left_in_place: &[String]) -> u8 {
    let any = |verdict| trials.iter().any(|trial| trial.verdict == verdict);
    if !left_in_place.is_empty() || trials.iter().flat_map(|trial| &trial.undo).any(|undo| !undo.done) {
        EXIT_LEFT_IN_PLACE
    } else if any(Verdict::Failed) {
        EXIT_FAILED
    } else if state == RunState::Interrupted {
        EXIT_INTERRUPTED
    } else if any(Verdict::Unproven) {
        EXIT_UNPROVEN
    } else if state == RunState::Unfinished || !errors.is_empty() || trials.is_empty() || any(Verdict::Error) || any(Verdict::Interrupted) {
        EXIT_ENVIRONMENT
    } else if trials.iter().all(|trial| trial.verdict == Verdict::Skipped) {
        EXIT_UNPROVEN
    } else {
        EXIT_PASSED
    }
}

/// Everything that a run found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RunResult {
    /// The form of this document; it changes when a reader of the old form would be misled.
    #[schemars(extend("const" = RESULT_SCHEMA))]
    pub schema: &'static str,
    /// The version of `comeback` that made the run.
    pub comeback: String,
    /// The id of the run; every object that it created carries it as a label.
    pub run: String,
    /// How far the run came.
    pub state: RunState,
    /// The exit code that the run earned: see the README. A run that is not finished never earned a 0.
    pub exit_code: u8,
    /// When it began.
    pub started: DateTime<Utc>,
    /// How long it took, as far as the record goes, in milliseconds.
    #[serde(rename = "duration_ms", serialize_with = "whole_ms")]
    #[schemars(with = "u64")]
    pub duration: Duration,
    /// The seed of every random choice.
    pub seed: u64,
    /// Where it ran.
    pub platform: Platform,
    /// The database, as it describes itself. `None`: it never answered.
    pub engine: Option<Engine>,
    /// What a reader must know before believing the rest; never empty on the sandbox, which is a stand-in.
    pub warnings: Vec<String>,
    /// What went wrong outside any trial (the cluster did not start, a report could not be written).
    pub errors: Vec<String>,
    /// What is still in place and how to remove it; empty when all is undone.
    pub left_in_place: Vec<String>,
    /// One entry for each trial that was planned, also for those that never began.
    pub trials: Vec<TrialResult>,
}

/// How far a run came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// The record has no end: the run goes on, or it was killed.
    Unfinished,
    /// It was interrupted, and undid what it had done.
    Interrupted,
    /// It came to its end.
    Finished,
}

/// Where a run took place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Platform {
    /// `sandbox`, `kind`, ...
    pub name: String,
    /// The version of Kubernetes, as the API server tells it.
    pub kubernetes: Option<String>,
    /// How many times faster than Kubernetes' own the timers of the sandbox run; `None` elsewhere.
    pub speed: Option<u32>,
    /// The defect that was switched on to test the tester, if any.
    pub defect: Option<String>,
}

/// The database, as it describes itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Engine {
    /// The first line of `@@VERSION`.
    pub version: String,
    /// `SERVERPROPERTY('Edition')`, where the server tells it.
    pub edition: Option<String>,
    /// Whether it is the stand-in (`comeback sqld`) and not SQL Server.
    pub stand_in: bool,
}

/// What one trial of a scenario found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TrialResult {
    /// The scenario's name.
    pub scenario: String,
    /// Which trial of that scenario, from 1.
    pub trial: u32,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in one line; for a pass, what was proven.
    pub reason: String,
    /// When it began; `None`: it never did.
    pub started: Option<DateTime<Utc>>,
    /// How long it took, in milliseconds.
    #[serde(rename = "duration_ms", serialize_with = "some_whole_ms")]
    #[schemars(with = "Option<u64>")]
    pub duration: Option<Duration>,
    /// The faults, in the order in which they were injected.
    pub faults: Vec<FaultResult>,
    /// The help that the recovery got, as an operator would give it; what is not there was not needed, or not asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assists: Vec<AssistResult>,
    /// The longest gap between acknowledged writes that a fault made. `None`: there was none.
    pub outage: Option<Bounded>,
    /// Further such gaps in the trial, in order of time.
    pub further_outages: Vec<Bounded>,
    /// From the fault taking effect to the first acknowledged write that was read back. `None`: nothing was to recover from.
    pub recovery: Option<Bounded>,
    /// The limit for the recovery, in milliseconds, if the scenario sets one for this platform.
    #[serde(rename = "recovery_limit_ms", serialize_with = "some_whole_ms")]
    #[schemars(with = "Option<u64>")]
    pub recovery_limit: Option<Duration>,
    /// From the first good write to the beginning of the first stretch of `stableFor` without a failure, in milliseconds. `None`: not seen.
    #[serde(rename = "unstable_ms", serialize_with = "some_whole_ms")]
    #[schemars(with = "Option<u64>")]
    pub unstable: Option<Duration>,
    /// Counts of the probe streams.
    pub probes: ProbeCounts,
    /// Counts of rows.
    pub rows: RowCounts,
    /// What proves that the faults happened, and what shows that the database is where it should be.
    pub evidence: Vec<Evidence>,
    /// What each law says.
    pub laws: Vec<LawResult>,
    /// What was undone.
    pub undo: Vec<UndoResult>,
    /// What these faults could not have shown, whatever the verdict.
    pub blind_spots: Vec<String>,
    /// Every attempt of the probe streams, for `probes.csv`.
    #[serde(skip)]
    pub attempts: Vec<AttemptRow>,
}

impl TrialResult {
    /// A trial of which nothing is known but that it was planned.
    #[must_use]
    pub fn planned(scenario: impl Into<String>, trial: u32) -> Self {
        Self {
            scenario: scenario.into(),
            trial,
            verdict: Verdict::Interrupted,
            reason: "it never began".into(),
            started: None,
            duration: None,
            faults: Vec::new(),
            assists: Vec::new(),
            outage: None,
            further_outages: Vec::new(),
            recovery: None,
            recovery_limit: None,
            unstable: None,
            probes: ProbeCounts::default(),
            rows: RowCounts::default(),
            evidence: Vec::new(),
            laws: Vec::new(),
            undo: Vec::new(),
            blind_spots: Vec::new(),
            attempts: Vec::new(),
        }
    }

    /// What it is called in every report: the scenario's name, from the second trial on with its number.
    ///
    /// The first trial bears the bare name, so that its history in a CI system goes on when `repeat` changes.
    #[must_use]
    pub fn label(&self) -> String {
        if self.trial <= 1 { self.scenario.clone() } else { format!("{} (trial {})", self.scenario, self.trial) }
    }
}

/// What may be said of a trial, a law or a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was seen to hold.
    Passed,
    /// It was seen not to hold.
    Failed,
    /// Nobody can tell: the evidence is missing.
    Unproven,
    /// It was not tried, and why is known.
    Skipped,
    /// The cluster or the environment failed.
    Error,
    /// It was cut short.
    Interrupted,
}

impl Verdict {
    /// All of them, the gravest first: the order in which reports count them.
    pub const ALL: [Self; 6] = [Self::Failed, Self::Unproven, Self::Error, Self::Interrupted, Self::Skipped, Self::Passed];

    /// The word, as it stands in every report.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Unproven => "unproven",
            Self::Skipped => "skipped",
            Self::Error => "error",
            Self::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A measured length of time with the bounds between which the true one lies.
///
/// In JSON whole milliseconds: `lo_ms` rounded down, `hi_ms` rounded up. `hi` is `None` when the end was never seen: then the length
/// is *at least* `lo`, `at` is `None` too, and no report prints it as a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded {
    /// The headline figure.
    pub at: Option<Duration>,
    /// The truth is not shorter.
    pub lo: Duration,
    /// The truth is not longer.
    pub hi: Option<Duration>,
}

impl Serialize for Bounded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        BoundedMs { ms: self.at.map(rounded_ms), lo_ms: floor_ms(self.lo), hi_ms: self.hi.map(ceil_ms) }.serialize(serializer)
    }
}

impl JsonSchema for Bounded {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bounded".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        BoundedMs::json_schema(generator)
    }
}

/// A measured length of time in whole milliseconds.
#[derive(Serialize, JsonSchema)]
struct BoundedMs {
    /// The headline figure; null when the end was never seen.
    ms: Option<u64>,
    /// The truth is not shorter.
    lo_ms: u64,
    /// The truth is not longer; null when the end was never seen.
    hi_ms: Option<u64>,
}

/// One fault of a trial.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FaultResult {
    /// Its name, as in the scenario.
    pub fault: String,
    /// What it hit, as resolved when it was injected; `None`: it was never resolved.
    pub victim: Option<String>,
    /// By which mechanism.
    pub mechanism: Option<String>,
    /// Why it could not be injected.
    pub error: Option<String>,
}

/// Help that a recovery got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AssistResult {
    /// Which, as in the scenario: `forceDelete`, `outOfServiceTaint` or `deleteNode`.
    pub assist: String,
    /// What was done.
    pub what: String,
    /// How long after the fault, in milliseconds.
    #[serde(rename = "after_ms", serialize_with = "some_whole_ms")]
    #[schemars(with = "Option<u64>")]
    pub after: Option<Duration>,
}

/// Counts of the probe streams of a trial.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct ProbeCounts {
    /// Attempts of the headline stream that were due.
    pub due: u64,
    /// Of these acknowledged.
    pub acknowledged: u64,
    /// Of these failed: refused or in doubt.
    pub failed: u64,
    /// Of these never started, because too many were in flight.
    pub dropped: u64,
    /// The longest that the control stream, which never touches the cluster, was late: the harness's own stall, in milliseconds.
    #[serde(rename = "longest_stall_ms", serialize_with = "whole_ms")]
    #[schemars(with = "u64")]
    pub longest_stall: Duration,
}

/// Counts of rows of a trial.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RowCounts {
    /// Rows that were read before the first fault; `None`: they were not read.
    pub before: Option<u64>,
    /// Writes that the server acknowledged, those before included.
    pub acknowledged: u64,
    /// Writes that certainly were not applied.
    pub refused: u64,
    /// Writes of which nobody knows.
    pub in_doubt: u64,
    /// Of those in doubt, how many the final read found; this and what follows is `None` when there was no final read.
    pub in_doubt_present: Option<u64>,
    /// Acknowledged rows that the final read did not find.
    pub lost: Option<u64>,
    /// Rows that were found although no client wrote them, or the server had refused them.
    pub phantom: Option<u64>,
    /// Rows that were found more than once.
    pub duplicate: Option<u64>,
    /// Rows whose columns do not match their checksum.
    pub corrupt: Option<u64>,
}

/// Something observed before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// What was looked at, e.g. `pod uid`.
    pub what: String,
    /// As it was before the first fault; `None`: unavailable.
    pub before: Option<String>,
    /// As it was after the recovery; `None`: unavailable.
    pub after: Option<String>,
    /// What it is good for in this trial.
    pub role: EvidenceRole,
}

/// What a piece of evidence is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceRole {
    /// It proves that a fault of the trial happened.
    Proof,
    /// It should have proven a fault and does not.
    Missing,
    /// It could not be asked.
    Unavailable,
    /// It is there for the reader.
    Context,
}

/// What one law says of a trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LawResult {
    /// Its name, e.g. `no_lost_row`.
    pub law: String,
    /// `passed`, `failed`, `unproven` or `skipped`.
    pub verdict: Verdict,
    /// What was seen, with figures.
    pub detail: String,
}

/// What became of one entry of the undo journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UndoResult {
    /// What it does, e.g. ``uncordon node `worker-2` ``.
    pub what: String,
    /// Whether it was done and seen to be done.
    pub done: bool,
    /// Why not.
    pub error: Option<String>,
}

/// One attempt of a probe stream, as it stands in `probes.csv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// `write-new` (the headline) or `control`.
    pub stream: &'static str,
    /// Which attempt of the stream, from 0.
    pub attempt: u64,
    /// When it was due, since the run began.
    pub scheduled: Duration,
    /// When it started; `None`: it was dropped.
    pub started: Option<Duration>,
    /// When it ended.
    pub ended: Option<Duration>,
    /// `acknowledged`, `refused`, `in_doubt` or `dropped`.
    pub outcome: &'static str,
    /// What it was doing when it failed: `connect`, `login`, `write`, ...
    pub stage: Option<String>,
    /// The server's error number.
    pub code: Option<u32>,
    /// The error's text.
    pub error: Option<String>,
}

/// Whole milliseconds, to the nearest.
#[must_use]
pub fn rounded_ms(length: Duration) -> u64 {
    u64::try_from((length + Duration::from_micros(500)).as_millis()).unwrap_or(u64::MAX)
}

/// Whole milliseconds, rounded down.
#[must_use]
pub fn floor_ms(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// Whole milliseconds, rounded up.
#[must_use]
pub fn ceil_ms(length: Duration) -> u64 {
    u64::try_from(length.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn whole_ms<S: Serializer>(length: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(rounded_ms(*length))
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
fn some_whole_ms<S: Serializer>(length: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    length.map(rounded_ms).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn trials(verdicts: &[Verdict]) -> Vec<TrialResult> {
        verdicts.iter().map(|verdict| TrialResult { verdict: *verdict, ..TrialResult::planned("s", 1) }).collect()
    }

    use RunState::{Finished, Interrupted, Unfinished};
    use Verdict::{Error, Failed, Interrupted as Cut, Passed, Skipped, Unproven};

    #[rstest]
    #[case::all_passed(Finished, &[Passed, Passed], 0)]
    #[case::some_skipped(Finished, &[Skipped, Passed], 0)]
    #[case::failed(Finished, &[Passed, Failed], 1)]
    #[case::failed_is_graver_than_unproven(Finished, &[Unproven, Failed, Error], 1)]
    #[case::unproven_is_graver_than_error(Finished, &[Error, Unproven, Passed], 3)]
    #[case::error(Finished, &[Passed, Error], 4)]
    #[case::cut_short_in_a_finished_run(Finished, &[Passed, Cut], 4)]
    #[case::only_skipped(Finished, &[Skipped, Skipped], 3)]
    #[case::skipped_and_error(Finished, &[Skipped, Error], 4)]
    #[case::nothing_ran(Finished, &[], 4)]
    #[case::unfinished_is_never_0(Unfinished, &[Passed, Passed], 4)]
    #[case::unfinished_but_only_skipped(Unfinished, &[Skipped], 4)]
    #[case::unfinished_but_failed(Unfinished, &[Failed, Cut], 1)]
    #[case::unfinished_but_unproven(Unfinished, &[Unproven, Cut], 3)]
    #[case::interrupted(Interrupted, &[Passed, Cut], 130)]
    #[case::interrupted_before_anything_ran(Interrupted, &[], 130)]
    #[case::interrupted_hides_no_failure(Interrupted, &[Failed, Cut], 1)]
    #[case::interrupted_is_graver_than_unproven(Interrupted, &[Unproven, Error, Cut], 130)]
    #[case::interrupted_although_all_passed(Interrupted, &[Passed], 130)]
    fn the_gravest_wins(#[case] state: RunState, #[case] verdicts: &[Verdict], #[case] code: u8) {
        assert_eq!(exit_code(state, &trials(verdicts), &[], &[]), code);
    }

    #[rstest]
    #[case::passed(&[Passed], 4)]
    #[case::failed(&[Failed], 1)]
    #[case::unproven(&[Unproven], 3)]
    #[case::only_skipped(&[Skipped], 4)]
    fn an_error_of_the_run_is_an_error_but_hides_nothing(#[case] verdicts: &[Verdict], #[case] code: u8) {
        assert_eq!(exit_code(Finished, &trials(verdicts), &["the cluster did not stop".into()], &[]), code);
    }

    #[rstest]
    fn what_is_left_in_place_is_the_gravest(
        #[values(Finished, Interrupted, Unfinished)] state: RunState,
        #[values(Passed, Failed, Unproven, Skipped, Error, Cut)] verdict: Verdict,
    ) {
        let mut trials = trials(&[verdict]);
        assert_eq!(exit_code(state, &trials, &[], &["node `worker-2` is cordoned".into()]), 5);
        trials[0].undo.push(UndoResult { what: "uncordon node `worker-2`".into(), done: false, error: None });
        assert_eq!(exit_code(state, &trials, &[], &[]), 5);
        trials[0].undo[0].done = true;
        assert_ne!(exit_code(state, &trials, &[], &[]), 5);
    }

    fn gravity(code: u8) -> usize {
        [0, 4, 3, 130, 1, 5].iter().position(|known| *known == code).expect("every code has its place")
    }

    proptest! {
        #[test]
        fn a_further_trial_never_makes_the_code_better(
            state in prop::sample::select(vec![Finished, Interrupted, Unfinished]),
            // A suite that only skipped earns a 3 for having proven nothing; the first trial that runs takes that away.
            ran in prop::sample::select(vec![Passed, Failed, Unproven, Error, Cut]),
            others in prop::collection::vec(prop::sample::select(Verdict::ALL.to_vec()), 0..6),
            further in prop::sample::select(Verdict::ALL.to_vec()),
            failed_run in any::<bool>(),
        ) {
            let verdicts: Vec<_> = others.into_iter().chain([ran]).collect();
            let errors = if failed_run { vec!["disk full".to_owned()] } else { vec![] };
            let before = exit_code(state, &trials(&verdicts), &errors, &[]);
            let more: Vec<_> = verdicts.into_iter().chain([further]).collect();
            let after = exit_code(state, &trials(&more), &errors, &[]);
            prop_assert!(gravity(after) >= gravity(before), "{before} became {after}");
        }

        #[test]
        fn a_0_is_earned_by_trials_that_passed_or_were_skipped_and_by_nothing_else(
            state in prop::sample::select(vec![Finished, Interrupted, Unfinished]),
            verdicts in prop::collection::vec(prop::sample::select(Verdict::ALL.to_vec()), 0..6),
            failed_run in any::<bool>(),
            left in any::<bool>(),
        ) {
            let errors = if failed_run { vec!["disk full".to_owned()] } else { vec![] };
            let left = if left { vec!["node `worker-2` is cordoned".to_owned()] } else { vec![] };
            let clean = state == Finished && errors.is_empty() && left.is_empty()
                && verdicts.contains(&Passed) && verdicts.iter().all(|verdict| matches!(verdict, Passed | Skipped));
            prop_assert_eq!(exit_code(state, &trials(&verdicts), &errors, &left) == 0, clean);
        }

        #[test]
        fn printed_bounds_hold_the_truth(nanos in 0..u64::MAX) {
            let length = Duration::from_nanos(nanos);
            prop_assert!(Duration::from_millis(floor_ms(length)) <= length);
            prop_assert!(Duration::from_millis(ceil_ms(length)) >= length);
            prop_assert!((floor_ms(length)..=ceil_ms(length)).contains(&rounded_ms(length)));
        }
    }
}
