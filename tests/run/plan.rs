//! What is asked before anything is broken: `plan`, `faults`, and what a run refuses.

use std::collections::BTreeSet;

use comeback::scenario::FaultSpec;
use serde_json::Value;

use crate::cli::{Cli, scenario};

fn names() -> BTreeSet<String> {
    FaultSpec::all().iter().map(|fault| fault.name().to_owned()).collect()
}

#[test]
fn a_plan_tells_of_every_fault_of_the_suite_and_touches_nothing() {
    let cli = Cli::new();
    let output = cli.output(&["plan"]);
    let text = String::from_utf8(output.stdout).expect("a plan is text");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in names() {
        assert!(text.contains(&format!("`{name}`")), "the plan has no `{name}`:\n{text}");
    }
    assert!(text.contains("2. `deletePod`, while `cordonNode` is in force"), "{text}");
    assert_eq!(std::fs::read_dir(cli.path()).expect("the folder").count(), 0, "a plan leaves no file");
}

#[test]
fn the_list_of_faults_is_all_of_them_with_what_each_place_can_do() {
    let output = Cli::new().output(&["faults", "-o", "json"]);
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let faults = list["faults"].as_array().or(list.as_array()).expect("a list of faults");
    let listed: BTreeSet<String> = faults.iter().map(|fault| fault["fault"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(listed, names());
}

#[test]
fn a_node_that_is_not_there_is_named_with_those_that_are() {
    let cli = Cli::new();
    cli.write("gone.yaml", &scenario("gone", "{drainNode: {node: {name: nowhere}}}", ""));
    let ran = cli.run(&["gone.yaml"]).ended_with(4);
    let trial = ran.trial(0);
    assert_eq!(trial["verdict"], "error");
    let reason = trial["reason"].as_str().expect("a reason");
    assert!(reason.contains("there is no node `nowhere`; the nodes are ") && reason.contains("worker-1"), "{reason}");
    // Nothing was broken, so nothing had to be undone.
    assert_eq!(trial["undo"].as_array().map(Vec::len), Some(0), "{}", ran.tell());
}

#[test]
fn faults_that_contradict_each_other_are_refused_before_anything_starts() {
    let cli = Cli::new();
    cli.write(
        "two.yaml",
        &scenario("two", "{killProcess: {}}, {deletePod: {during: killProcess}}, {drainNode: {after: 1s, during: deletePod}}", ""),
    );
    let ran = cli.run(&["two.yaml"]).ended_with(2);
    for part in ["`deletePod` cannot come during `killProcess`", "not both"] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    assert!(!cli.path().join("reports").exists(), "nothing was begun");
}

#[test]
fn a_choice_that_leaves_nothing_is_a_mistake_and_says_what_there_is() {
    let cli = Cli::new();
    let ran = cli.run(&["--tag", "smok"]).ended_with(2);
    assert!(ran.stderr.contains("smoke") && ran.stderr.contains("kill-process"), "{}", ran.stderr);
    let output = cli.output(&["plan", "--shard", "4/3"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}
