//! What is not passed.

use crate::cli::{Cli, law, scenario};

/// A second kill in one pod meets the kubelet's back-off, a second at the sandbox's speed: an outage that no luck makes shorter than a probe.
const BACK_OFF: &str = "{killProcess: {}}, {killProcess: {}}";

#[test]
fn a_limit_that_is_too_tight_fails_with_the_figure_and_its_bounds() {
    let cli = Cli::new();
    cli.write("tight.yaml", &scenario("tight", BACK_OFF, "expect: { recoveryWithin: 1ms }"));
    let ran = cli.run(&["tight.yaml"]).ended_with(1);
    let trial = ran.trial(0);
    assert_eq!(trial["verdict"], "failed", "{}", ran.tell());
    assert_eq!(law(&trial, "recovery"), "failed");
    assert_eq!(law(&trial, "no_lost_row"), "passed");

    let junit = ran.file("junit.xml");
    let document = roxmltree::Document::parse(&junit).expect("junit.xml is XML");
    let failures: Vec<_> = document.descendants().filter(|node| node.has_tag_name("failure")).collect();
    assert_eq!(failures.len(), 1, "{junit}");
    assert!(!document.descendants().any(|node| node.has_tag_name("error")), "{junit}");
    let message = failures[0].attribute("message").expect("a failure has a message");
    assert!(message.contains("the limit is") && message.contains('[') && message.contains(']'), "{message}");
}

#[test]
fn a_fault_that_hits_nothing_is_an_error() {
    let cli = Cli::new();
    cli.write("nothing.yaml", &scenario("nothing", "killProcess: { process: nosuch }", "expect: { movedTo: otherNode }"));
    let ran = cli.run(&["nothing.yaml"]).ended_with(4);
    let trial = ran.trial(0);
    assert_eq!(trial["verdict"], "error");
    let reason = trial["reason"].as_str().expect("a reason");
    assert!(reason.contains("nosuch") && reason.contains("sqlservr"), "it does not say what runs there: {reason}");
    // What was not broken is still judged.
    assert_eq!(law(&trial, "no_lost_row"), "passed");
}

#[test]
fn the_limit_is_held_against_the_bounds_and_nothing_finer() {
    // The recovery of one run, judged with limits that no real one would meet so exactly: the record is all that a judge sees.
    let cli = Cli::new();
    cli.write("once.yaml", &scenario("once", BACK_OFF, "expect: { recoveryWithin: 1h }"));
    let ran = cli.run(&["once.yaml"]).ended_with(0);
    let [lo, hi] = ["lo_ms", "hi_ms"].map(|key| ran.trial(0)["recovery"][key].as_u64().expect("a bound"));
    assert!(lo + 1 < hi, "probes every 50 ms cannot tell the recovery to the millisecond: [{lo}, {hi}]");
    let record = ran.file("run.ndjson");
    let hour = r#""recovery_within":{"secs":3600,"nanos":0}"#;
    assert_eq!(record.matches(hour).count(), 1, "{record}");
    // The bounds are printed in whole milliseconds, the lower one rounded down and the upper one up.
    for (limit, verdict, code) in [(hi, "passed", 0), (hi - 1, "unproven", 3), (lo - 1, "failed", 1)] {
        let other = format!(r#""recovery_within":{{"secs":{},"nanos":{}}}"#, limit / 1_000, limit % 1_000 * 1_000_000);
        std::fs::write(ran.folder.join("run.ndjson"), record.replace(hour, &other)).expect("write the record");
        let again = cli.output(&["report", ran.folder.to_str().expect("a path")]);
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
        assert_eq!(
            (&ran.trial(0)["verdict"], &ran.result()["exit_code"]),
            (&verdict.into(), &code.into()),
            "limit {limit} of [{lo}, {hi}]"
        );
    }
}

#[test]
fn the_verdict_of_a_suite_is_the_gravest() {
    let cli = Cli::new();
    cli.write("a-tight.yaml", &scenario("tight", BACK_OFF, "expect: { recoveryWithin: 1ms }"));
    cli.write("b-nothing.yaml", &scenario("nothing", "killProcess: { process: nosuch }", ""));
    cli.write("c-good.yaml", &scenario("good", "", ""));
    let ran = cli.run(&["a-tight.yaml", "b-nothing.yaml", "c-good.yaml"]).ended_with(1);
    let verdicts: Vec<_> = (0..3).map(|index| ran.trial(index)["verdict"].clone()).collect();
    assert_eq!(verdicts, ["failed", "error", "passed"]);
}
