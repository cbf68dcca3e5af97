//! Small makers of results: each test is a result and what the reports make of it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use comeback::result::{
    AttemptRow, Bounded, Engine, Evidence, EvidenceRole, FaultResult, LawResult, Platform, ProbeCounts, RESULT_SCHEMA, RowCounts,
    RunResult, RunState, TrialResult, UndoResult, Verdict, exit_code,
};

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A measured length from its figure and bounds in milliseconds.
pub(crate) fn bounded(at: u64, lo: u64, hi: u64) -> Bounded {
    Bounded { at: Some(ms(at)), lo: ms(lo), hi: Some(ms(hi)) }
}

/// A length whose end was not seen.
pub(crate) fn at_least(lo: u64) -> Bounded {
    Bounded { at: None, lo: ms(lo), hi: None }
}

pub(crate) fn noon(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_268_800 + seconds, 0).expect("a time of this century")
}

/// A finished run on the sandbox; the exit code is what the trials earn.
pub(crate) fn run(trials: Vec<TrialResult>) -> RunResult {
    let mut run = RunResult {
        schema: RESULT_SCHEMA,
        comeback: "0.1.0".into(),
        run: "20260101-120000-7f3a".into(),
        state: RunState::Finished,
        exit_code: 0,
        started: noon(0),
        duration: ms(41_300),
        seed: 42,
        platform: Platform { name: "sandbox".into(), kubernetes: Some("v1.33.0".into()), speed: Some(10), defect: None },
        engine: Some(Engine {
            version: "comeback sqld 0.1.0, a stand-in for Microsoft SQL Server 2022".into(),
            edition: Some("Stand-in Edition".into()),
            stand_in: true,
        }),
        warnings: vec!["the database is a stand-in: its recovery times are not those of SQL Server".into()],
        errors: vec![],
        left_in_place: vec![],
        trials,
    };
    earn(&mut run);
    run
}

/// Sets the exit code that the run earned.
pub(crate) fn earn(run: &mut RunResult) {
    run.exit_code = exit_code(run.state, &run.trials, &run.errors, &run.left_in_place);
}

/// The control trial: nothing was broken, nothing broke.
pub(crate) fn steady() -> TrialResult {
    TrialResult {
        verdict: Verdict::Passed,
        reason: "no outage, the same incarnation, 1,412 acknowledged rows are there".into(),
        started: Some(noon(1)),
        duration: Some(ms(6_200)),
        probes: ProbeCounts { due: 40, acknowledged: 40, failed: 0, dropped: 0, longest_stall: ms(2) },
        rows: RowCounts {
            before: Some(1_000),
            acknowledged: 1_412,
            refused: 0,
            in_doubt: 0,
            in_doubt_present: Some(0),
            lost: Some(0),
            phantom: Some(0),
            duplicate: Some(0),
            corrupt: Some(0),
        },
        evidence: vec![evidence("pod uid", Some("0b1c"), Some("0b1c"), EvidenceRole::Context)],
        laws: ["no_lost_row", "no_phantom", "no_duplicate", "no_corrupt_row", "same_volume", "same_address"].map(holds).into(),
        attempts: vec![attempt("write-new", 0, 100), attempt("control", 0, 100)],
        ..TrialResult::planned("steady", 1)
    }
}

/// A fault from which the database came back in time with every row.
pub(crate) fn kill_process() -> TrialResult {
    let mut attempts = vec![attempt("write-new", 0, 100)];
    attempts.push(AttemptRow {
        outcome: "in_doubt",
        stage: Some("write".into()),
        error: Some("connection reset by peer".into()),
        ..attempt("write-new", 1, 200)
    });
    attempts.push(AttemptRow {
        outcome: "refused",
        stage: Some("login".into()),
        code: Some(921),
        error: Some("Database 'comeback' has not been recovered yet.".into()),
        ..attempt("write-new", 2, 300)
    });
    attempts.push(AttemptRow { started: None, ended: None, outcome: "dropped", ..attempt("write-new", 3, 400) });
    TrialResult {
        verdict: Verdict::Passed,
        reason: "back in 1.27 s [1.20, 1.34], 1,618 acknowledged rows are there".into(),
        faults: vec![FaultResult {
            fault: "killProcess".into(),
            victim: Some("engine of pod `mssql-7c9d-x2x4w`".into()),
            mechanism: Some("the container runtime on the node".into()),
            error: None,
        }],
        outage: Some(bounded(1_234, 1_189, 1_302)),
        recovery: Some(bounded(1_270, 1_200, 1_340)),
        recovery_limit: Some(ms(10_000)),
        unstable: Some(ms(0)),
        probes: ProbeCounts { due: 61, acknowledged: 48, failed: 12, dropped: 1, longest_stall: ms(3) },
        rows: RowCounts {
            before: Some(1_000),
            acknowledged: 1_618,
            refused: 9,
            in_doubt: 4,
            in_doubt_present: Some(3),
            lost: Some(0),
            phantom: Some(0),
            duplicate: Some(0),
            corrupt: Some(0),
        },
        evidence: vec![
            evidence("restart count", Some("0"), Some("1"), EvidenceRole::Proof),
            evidence("server start time", Some("2026-01-01T12:00:01.120"), Some("2026-01-01T12:00:09.480"), EvidenceRole::Proof),
            evidence("pod uid", Some("0b1c"), Some("0b1c"), EvidenceRole::Context),
        ],
        blind_spots: vec!["a killed process keeps the page cache, so this says nothing about power loss".into()],
        attempts,
        ..TrialResult { scenario: "kill-process".into(), ..steady() }
    }
}

pub(crate) fn drain_node() -> TrialResult {
    TrialResult {
        reason: "back on another node in 2.9 s [2.3, 3.5], 1,702 acknowledged rows are there".into(),
        faults: vec![FaultResult {
            fault: "drainNode".into(),
            victim: Some("node `worker-2`".into()),
            mechanism: Some("the eviction API".into()),
            error: None,
        }],
        outage: Some(bounded(2_880, 2_310, 3_460)),
        recovery: Some(bounded(2_900, 2_330, 3_490)),
        evidence: vec![evidence("node", Some("worker-2"), Some("worker-3"), EvidenceRole::Proof)],
        undo: vec![UndoResult { what: "uncordon node `worker-2`".into(), done: true, error: None }],
        ..TrialResult { scenario: "drain-node".into(), ..kill_process() }
    }
}

/// The same trial with one law that was seen not to hold.
pub(crate) fn losing(trial: TrialResult) -> TrialResult {
    let mut trial = TrialResult { verdict: Verdict::Failed, reason: "3 of 1,618 acknowledged rows are gone".into(), ..trial };
    trial.rows.lost = Some(3);
    trial.laws[0] = LawResult {
        law: "no_lost_row".into(),
        verdict: Verdict::Failed,
        detail: "writer 2 lost the rows 311 to 313; all were acknowledged".into(),
    };
    trial
}

/// The same trial with a limit that it did not keep.
pub(crate) fn too_slow(trial: TrialResult) -> TrialResult {
    TrialResult {
        verdict: Verdict::Failed,
        reason: "the recovery took longer than `recoveryWithin` allows".into(),
        recovery_limit: Some(ms(500)),
        ..trial
    }
}

/// The same trial without what should prove its fault.
pub(crate) fn without_proof(trial: TrialResult) -> TrialResult {
    TrialResult {
        verdict: Verdict::Unproven,
        reason: "nothing shows that the fault happened: the restart count is what it was".into(),
        outage: None,
        recovery: None,
        evidence: vec![
            evidence("restart count", Some("0"), Some("0"), EvidenceRole::Missing),
            evidence("server start time", None, None, EvidenceRole::Unavailable),
        ],
        laws: vec![LawResult {
            law: "new_incarnation".into(),
            verdict: Verdict::Unproven,
            detail: "the server has no view `sys.dm_os_sys_info`".into(),
        }],
        ..trial
    }
}

/// A trial whose fault found nothing to hit.
pub(crate) fn no_victim() -> TrialResult {
    TrialResult {
        verdict: Verdict::Error,
        reason: "could not inject `killProcess`: no process is called `nosuch`".into(),
        faults: vec![FaultResult {
            fault: "killProcess".into(),
            victim: None,
            mechanism: None,
            error: Some("no process of the container is called `nosuch`; there are `sqlservr`, `sqlservr`".into()),
        }],
        outage: None,
        recovery: None,
        evidence: vec![],
        laws: vec![],
        ..TrialResult { scenario: "kill-nothing".into(), ..kill_process() }
    }
}

/// A database that was not seen to come back.
pub(crate) fn never_back() -> TrialResult {
    TrialResult {
        verdict: Verdict::Failed,
        reason: "it had not come back when the run gave up after 1 m".into(),
        outage: Some(at_least(59_870)),
        further_outages: vec![bounded(310, 250, 360)],
        recovery: Some(at_least(59_790)),
        unstable: None,
        rows: RowCounts { in_doubt_present: None, lost: None, phantom: None, duplicate: None, corrupt: None, ..kill_process().rows },
        laws: vec![LawResult { law: "no_lost_row".into(), verdict: Verdict::Unproven, detail: "the tables were never read back".into() }],
        ..TrialResult { scenario: "delete-pod".into(), ..kill_process() }
    }
}

pub(crate) fn evidence(what: &str, before: Option<&str>, after: Option<&str>, role: EvidenceRole) -> Evidence {
    Evidence { what: what.into(), before: before.map(Into::into), after: after.map(Into::into), role }
}

pub(crate) fn holds(law: &str) -> LawResult {
    LawResult { law: law.into(), verdict: Verdict::Passed, detail: "holds for all 1,618 acknowledged rows".into() }
}

/// An attempt that was acknowledged.
pub(crate) fn attempt(stream: &'static str, number: u64, due: u64) -> AttemptRow {
    AttemptRow {
        stream,
        attempt: number,
        scheduled: ms(due),
        started: Some(ms(due) + Duration::from_micros(37)),
        ended: Some(ms(due) + Duration::from_micros(4_281)),
        outcome: "acknowledged",
        stage: None,
        code: None,
        error: None,
    }
}

/// Every text that has ever broken a report.
pub(crate) const NASTY: &str = "a|b `c` \"d\" 'e' <script>alert(1)</script> & ]]> \u{1b}[31mred\u{7}\r\n\n# f\n- g *h* _i_ ~~j~~ \\ 👩‍🚒❤️ \u{202e}k\u{ffff}\u{0}\u{2028}[l](m)";

/// A run whose every text is [`NASTY`].
pub(crate) fn nasty() -> RunResult {
    let text = || NASTY.to_owned();
    let mut trial = TrialResult {
        scenario: text(),
        reason: text(),
        faults: vec![FaultResult { fault: text(), victim: Some(text()), mechanism: Some(text()), error: Some(text()) }],
        evidence: vec![Evidence { what: text(), before: Some(text()), after: Some(text()), role: EvidenceRole::Proof }],
        laws: vec![LawResult { law: text(), verdict: Verdict::Failed, detail: text() }],
        undo: vec![UndoResult { what: text(), done: false, error: Some(text()) }],
        blind_spots: vec![text()],
        ..losing(kill_process())
    };
    for (number, start) in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", NASTY].into_iter().enumerate() {
        let row = attempt("write-new", number as u64, 100 * number as u64);
        trial.attempts.push(AttemptRow { outcome: "refused", stage: Some("write".into()), error: Some(start.into()), ..row });
    }
    let mut run = run(vec![trial]);
    run.comeback = text();
    run.run = text();
    run.platform = Platform { name: text(), kubernetes: Some(text()), speed: None, defect: Some(text()) };
    run.engine = Some(Engine { version: text(), edition: Some(text()), stand_in: false });
    run.warnings = vec![text()];
    run.errors = vec![text()];
    run.left_in_place = vec![format!("the network rule; {}", text())];
    earn(&mut run);
    run
}

/// Every kind of run, with the name of its golden files.
pub(crate) fn all() -> Vec<(&'static str, RunResult)> {
    let second = TrialResult { trial: 2, ..kill_process() };
    let mut runs = vec![
        ("passed", run(vec![steady(), kill_process(), second, drain_node()])),
        ("failed-law", run(vec![steady(), losing(kill_process()), drain_node()])),
        ("too-slow", run(vec![steady(), too_slow(kill_process())])),
        ("unproven", run(vec![steady(), without_proof(kill_process())])),
        ("error", run(vec![no_victim(), steady()])),
        ("censored", run(vec![steady(), never_back()])),
        ("empty", run(vec![])),
        ("nasty", nasty()),
    ];

    let mut skipped = run(vec![TrialResult {
        reason: "not selected: tag `nightly`".into(),
        verdict: Verdict::Skipped,
        ..TrialResult::planned("drain-node", 1)
    }]);
    skipped.warnings.clear();
    runs.push(("skipped", skipped));

    let mut open = steady();
    open.laws.push(LawResult {
        law: "checkdb".into(),
        verdict: Verdict::Unproven,
        detail: "the server does not know `DBCC CHECKDB`".into(),
    });
    runs.push(("law-not-asked", run(vec![open])));

    let mut interrupted = run(vec![
        steady(),
        TrialResult {
            verdict: Verdict::Interrupted,
            reason: "interrupted by SIGTERM while the node was being drained".into(),
            outage: None,
            recovery: None,
            undo: vec![
                UndoResult {
                    what: "uncordon node `worker-2`".into(),
                    done: false,
                    error: Some("the API server did not answer within 10 s".into()),
                },
                UndoResult { what: "delete pod `drain-guard`".into(), done: true, error: None },
            ],
            ..drain_node()
        },
        TrialResult::planned("kill-process", 1),
    ]);
    interrupted.state = RunState::Interrupted;
    interrupted.left_in_place = vec!["node `worker-2` is cordoned: `kubectl uncordon worker-2`".into()];
    earn(&mut interrupted);
    runs.push(("interrupted", interrupted));

    let mut unfinished = run(vec![
        steady(),
        TrialResult {
            verdict: Verdict::Interrupted,
            reason: "the record ends after the fault was injected".into(),
            duration: None,
            outage: None,
            recovery: None,
            evidence: vec![],
            laws: vec![],
            ..kill_process()
        },
        TrialResult::planned("delete-pod", 1),
        TrialResult::planned("drain-node", 1),
    ]);
    unfinished.state = RunState::Unfinished;
    earn(&mut unfinished);
    runs.push(("unfinished", unfinished));

    let mut silent = run(vec![]);
    silent.engine = None;
    silent.platform.kubernetes = None;
    silent.errors = vec!["the sandbox did not start: address 127.0.0.1:6443 is in use".into()];
    earn(&mut silent);
    runs.push(("did-not-start", silent));
    runs
}
