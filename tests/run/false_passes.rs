//! What other tools have called passed, found in their code and their bug lists. None of it passes here: what a whole run can show is below, the rest where the
//! table says.
//!
//! | the false pass | here |
//! |---|---|
//! | a kill that does nothing changes no status, so nothing is found wrong | the engine's life, the container's, the pod's must have changed |
//! | an empty selection is no error: nothing is deleted, and all is well | a victim that is not there is an error |
//! | a pod that is only terminating is called recovered | recovered is a write through the service that another life took (`measure::recovery`) |
//! | `Ready` of what was never touched is taken for a recovery | the same pod afterwards is no evidence |
//! | an unknown action, or a misspelt parameter, is a line in the log | the file is refused, all of it |
//! | a trial without probes has a success rate of 100% | a record without attempts is not passed |
//! | the exit code of a command in the container is ignored | what it says is an error (`platform::exec`, `platform::signal`) |
//! | a failed action does not fail the run | the gravest verdict is the exit code, whichever comes last |
//! | recovered after the limit, exit code 0 | the bounds are held against the limit |
//! | the clean-up failed, exit code 0 | an exit code of its own |
//!
//! Every fault on its own is in `faults`, whatever is wrong with a file in `tests/scenarios`.

use rstest::rstest;

use crate::cli::{Cli, scenario};

/// What a run of this scenario must come to.
#[rstest]
#[case::a_kill_that_does_nothing("killProcess: {}", "giveUpAfter: 2s", "faults-do-nothing", 3, "unproven")]
#[case::a_container_that_was_not_killed("killContainer: {}", "giveUpAfter: 2s", "faults-do-nothing", 3, "unproven")]
#[case::a_pod_that_was_never_touched("deletePod: {}", "giveUpAfter: 2s", "faults-do-nothing", 3, "unproven")]
#[case::several_that_do_nothing("{killProcess: {}}, {deletePod: {}}, {cordonNode: {}}", "giveUpAfter: 2s", "faults-do-nothing", 4, "error")]
#[case::a_process_that_is_not_there("killProcess: { process: nosuch }", "", "", 4, "error")]
#[case::a_node_that_is_not_there("drainNode: { node: { name: nosuch } }", "", "", 4, "error")]
#[case::a_label_that_no_node_has("cordonNode: { node: { label: zone=nosuch } }", "", "", 4, "error")]
#[case::recovered_too_late("{killProcess: {}}, {killProcess: {}}", "expect: { recoveryWithin: 1ms }", "", 1, "failed")]
#[case::a_node_that_stays_closed("drainNode: {}", "", "undo-fails", 5, "error")]
fn it_is_not_passed(#[case] faults: &str, #[case] further: &str, #[case] defect: &str, #[case] code: i32, #[case] verdict: &str) {
    let cli = Cli::new();
    cli.write("not-passed.yaml", &scenario("not-passed", faults, further));
    let mut args = vec!["not-passed.yaml"];
    if !defect.is_empty() {
        args.extend(["--defect", defect]);
    }
    let ran = cli.run(&args).ended_with(code);
    assert_eq!(ran.trial(0)["verdict"], verdict, "{}", ran.tell());
}

/// What is hurt already looks no different for being hurt again.
#[test]
fn what_is_not_whole_is_not_broken_again() {
    let cli = Cli::new();
    cli.write("again.yaml", &scenario("again", "{isolatePod: { for: 5s }}, {isolatePod: { for: 1s, after: 500ms }}", ""));
    let ran = cli.run(&["again.yaml"]).ended_with(4);
    let reason = ran.trial(0)["reason"].to_string();
    assert!(reason.contains("is not whole before it") && reason.contains("comeback heal"), "{reason}\n{}", ran.tell());
}

/// A record whose probes are gone proves nothing, whatever else is in it.
#[test]
fn a_trial_without_probes_proves_nothing() {
    let cli = Cli::new();
    cli.write("blind.yaml", &scenario("blind", "killProcess", ""));
    let ran = cli.run(&["blind.yaml"]).ended_with(0);
    let record = ran.file("run.ndjson");
    let blind: String = record.lines().filter(|line| !line.contains(r#"{"attempt":"#)).flat_map(|line| [line, "\n"]).collect();
    let (taken, due) = (record.lines().count() - blind.lines().count(), ran.trial(0)["probes"]["due"].as_u64().expect("a count"));
    assert!(due > 0 && taken as u64 >= due, "{taken} attempts were taken out, and {due} of one stream were due");
    std::fs::write(ran.folder.join("run.ndjson"), blind).expect("write the record");
    let again = cli.output(&["report", ran.folder.to_str().expect("a path")]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_ne!(ran.trial(0)["verdict"], "passed", "{}", ran.tell());
    assert_ne!(ran.result()["exit_code"], 0);
}

/// The one that fails comes first, and what comes after it hides nothing.
#[test]
fn a_failure_is_not_hidden_by_what_passes_after_it() {
    let cli = Cli::new();
    cli.write("a.yaml", &scenario("a", "killProcess: { process: nosuch }", "")).write("b.yaml", &scenario("b", "killProcess", ""));
    let ran = cli.run(&["a.yaml", "b.yaml"]).ended_with(4);
    assert_eq!((&ran.trial(0)["verdict"], &ran.trial(1)["verdict"]), (&"error".into(), &"passed".into()), "{}", ran.tell());
}

/// Nothing is started for a name that nobody knows.
#[rstest]
#[case::an_unknown_fault("killProces")]
#[case::an_unknown_parameter("killProcess: { proces: engine }")]
#[case::an_unknown_signal("killProcess: { signal: SIGNOPE }")]
fn an_unknown_name_is_refused(#[case] fault: &str) {
    let cli = Cli::new();
    cli.write("unknown.yaml", &scenario("unknown", fault, ""));
    let output = cli.output(&["run", "unknown.yaml"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!cli.path().join("reports").exists());
}
