//! The standard suite, from an empty folder.

use std::collections::HashSet;

use serde_json::Value;

use crate::cli::{Cli, Ran, evidence, law};

/// The scenarios of the standard suite, each once.
const TRIALS: usize = 18;

fn rows(ran: &Ran, name: &str) -> HashSet<Vec<String>> {
    let text = ran.file(name);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.records().map(|row| row.expect("a row of CSV").iter().map(str::to_owned).collect()).collect()
}

fn named<'a>(result: &'a Value, scenario: &str) -> &'a Value {
    let trials = result["trials"].as_array().expect("trials");
    trials.iter().find(|trial| trial["scenario"] == scenario).unwrap_or_else(|| panic!("no trial of `{scenario}`"))
}

#[test]
fn the_standard_suite_passes_and_every_figure_has_its_evidence() {
    let cli = Cli::new();
    let ran = cli.run(&["--seed", "1"]).ended_with(0);
    let result = ran.result();
    assert_eq!(result["exit_code"], 0);
    assert_eq!(result["state"], "finished");
    assert_eq!(result["engine"]["stand_in"], true);
    assert_eq!(result["trials"].as_array().expect("trials").len(), TRIALS);
    for trial in result["trials"].as_array().expect("trials") {
        assert_eq!(trial["verdict"], "passed", "{}", ran.tell());
        for count in ["lost", "phantom", "duplicate", "corrupt"] {
            assert_eq!(trial["rows"][count], 0, "{count}: {}", ran.tell());
        }
        assert_eq!(trial["rows"]["before"], 1_000, "{}", ran.tell());
        assert!(trial["rows"]["acknowledged"].as_u64() > Some(1_000));
    }

    let steady = named(&result, "steady");
    assert_eq!((&steady["outage"], &steady["recovery"]), (&Value::Null, &Value::Null));
    assert_eq!(law(steady, "new_incarnation"), "passed");

    for scenario in ["crash-node", "crash-node-stateful", "kill-process", "delete-pod", "drain-node"] {
        let trial = named(&result, scenario);
        let (before, after, role) = evidence(trial, "sqlserver_start_time");
        assert_ne!(before, after, "{scenario}");
        assert_eq!(role, "proof", "{scenario}");
        // A pod that is replaced between two probes makes no outage that was seen.
        let unseen = trial["outage"].is_null();
        assert!(!unseen || trial["probes"]["failed"] == 0, "{scenario}: {}", ran.tell());
        for length in if unseen { &["recovery"][..] } else { &["outage", "recovery"] } {
            let [lo, at, hi] = ["lo_ms", "ms", "hi_ms"].map(|key| trial[length][key].as_u64().expect("a figure with its bounds"));
            assert!(lo <= at && at <= hi && hi > 0, "{scenario}: {length} {at} [{lo}, {hi}]");
        }
    }
    let (before, after, role) = evidence(named(&result, "kill-process"), "restart count");
    assert_eq!((before, after, role), (&"0".into(), &"1".into(), "proof"));
    assert_eq!(evidence(named(&result, "delete-pod"), "pod uid").2, "proof");
    let drained = named(&result, "drain-node");
    assert_eq!(evidence(drained, "node").2, "proof");
    assert_eq!(evidence(drained, "node made unschedulable").2, "proof");
    assert_eq!(drained["undo"][0]["done"], true);
    let (from, to, _) = evidence(drained, "node");
    assert_ne!(from, to);

    // A node that is back at once keeps its pods.
    let (before, after, _) = evidence(named(&result, "reboot-node"), "node");
    assert_eq!(before, after);

    for (scenario, assist) in [("crash-node", None), ("crash-node-stateful", Some("outOfServiceTaint"))] {
        let crashed = named(&result, scenario);
        for what in ["pod uid", "node lost"] {
            assert_eq!(evidence(crashed, what).2, "proof", "{scenario}: {what}");
        }
        assert_eq!(law(crashed, "moved_to"), "passed", "{scenario}");
        let undone = crashed["undo"].as_array().expect("undo");
        assert!(!undone.is_empty() && undone.iter().all(|undo| undo["done"] == true), "{scenario}: {undone:?}");
        assert_eq!(crashed["assists"].as_array().and_then(|assists| assists.first()).and_then(|first| first["assist"].as_str()), assist);
    }

    every_fault_of_the_suite_has_its_proof(&result);

    // The node is seen to be schedulable again, after it was not.
    let node = from.as_str().expect("a node");
    let trials = result["trials"].as_array().expect("trials");
    let place = 1 + trials.iter().position(|trial| trial["scenario"] == "drain-node").expect("its place in the run");
    let cordons: Vec<bool> = ran
        .events()
        .iter()
        .filter(|(kind, event)| kind == "seen" && event["trial"] == place)
        .map(|(_, event)| event["event"]["seen"]["node"].clone())
        .filter(|seen| seen["name"] == node)
        .filter_map(|seen| seen["unschedulable"].as_bool())
        .collect();
    assert!(cordons.ends_with(&[true, false]), "{node}: {cordons:?}");

    let (before, after) = (rows(&ran, "rows-before.csv"), rows(&ran, "rows-after.csv"));
    // Two tables, a thousand rows each.
    assert_eq!(before.len(), TRIALS * 2_000);
    assert!(before.is_subset(&after));

    rendered_again_the_reports_are_the_same(&cli, &ran);
    no_secret_is_in_any_file(&ran);
}

/// All faults that there are stand in the suite, and nothing that had to be seen of one was not seen.
fn every_fault_of_the_suite_has_its_proof(result: &Value) {
    let mut hit = HashSet::new();
    for trial in result["trials"].as_array().expect("trials") {
        let faults = trial["faults"].as_array().expect("faults");
        hit.extend(faults.iter().map(|fault| fault["fault"].as_str().expect("the name of a fault").to_owned()));
        let proofs = trial["evidence"].as_array().expect("evidence").iter().filter(|one| one["role"] == "proof").count();
        assert!(proofs >= faults.len(), "{}: {proofs} proofs of {} faults", trial["scenario"], faults.len());
    }
    let all: HashSet<_> = comeback::scenario::FaultSpec::all().iter().map(|fault| fault.name().to_owned()).collect();
    assert_eq!(hit, all);
}

/// Every password that a run makes begins alike, so that it can be looked for.
fn no_secret_is_in_any_file(ran: &Ran) {
    for entry in std::fs::read_dir(&ran.folder).expect("the folder of the run").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("a file of the run");
        assert!(!text.contains("Cb1!"), "{} holds a password", entry.path().display());
    }
    assert!(!ran.stdout.contains("Cb1!") && !ran.stderr.contains("Cb1!"));
}

fn rendered_again_the_reports_are_the_same(cli: &Cli, ran: &Ran) {
    const REPORTS: [&str; 4] = ["result.json", "junit.xml", "summary.md", "probes.csv"];
    let first = REPORTS.map(|name| ran.file(name));
    for name in REPORTS {
        std::fs::remove_file(ran.folder.join(name)).expect("remove a report");
    }
    let again = cli.output(&["report", ran.folder.to_str().expect("a path")]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(REPORTS.map(|name| ran.file(name)), first);
    assert_eq!(String::from_utf8_lossy(&again.stdout).lines().next(), ran.stdout.lines().next());
}

#[test]
fn two_faults_are_injected_one_after_the_other_and_each_is_proven() {
    let cli = Cli::new();
    cli.write("two.yaml", &crate::cli::scenario("two", "{deletePod: {}}, {killProcess: {}}", ""));
    let ran = cli.run(&["two.yaml"]).ended_with(0);
    let trial = ran.trial(0);
    assert_eq!(evidence(&trial, "pod uid (fault 1)").2, "proof", "{}", ran.tell());
    assert_eq!(evidence(&trial, "restart count (fault 2)").2, "proof", "{}", ran.tell());
}

#[test]
fn a_repeated_scenario_has_a_fresh_pod_each_time() {
    let cli = Cli::new();
    cli.write("twice.yaml", &crate::cli::scenario("twice", "killProcess: {}", "repeat: 2"));
    let ran = cli.run(&["twice.yaml"]).ended_with(0);
    let (first, second) = (ran.trial(0), ran.trial(1));
    assert_eq!((&first["trial"], &second["trial"]), (&1.into(), &2.into()));
    assert_ne!(evidence(&first, "pod uid").1, evidence(&second, "pod uid").0);
    // No restart is carried over, so no back-off is.
    assert_eq!(evidence(&second, "restart count").0, "0");
}
