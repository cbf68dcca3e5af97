//! What is not passed.

use crate::cli::{Cli, law, scenario};

#[test]
fn a_limit_that_is_too_tight_fails_with_the_figure_and_its_bounds() {
    let cli = Cli::new();
    cli.write("tight.yaml", &scenario("tight", "deletePod: {}", "expect: { recoveryWithin: 1ms }"));
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
    cli.write("nothing.yaml", &scenario("nothing", "killProcess: { process: nosuch }", ""));
    let ran = cli.run(&["nothing.yaml"]).ended_with(4);
    let trial = ran.trial(0);
    assert_eq!(trial["verdict"], "error");
    let reason = trial["reason"].as_str().expect("a reason");
    assert!(reason.contains("nosuch") && reason.contains("sqlservr"), "it does not say what runs there: {reason}");
    // What was not broken is still judged.
    assert_eq!(law(&trial, "no_lost_row"), "passed");
}

#[test]
fn a_limit_between_the_bounds_is_unproven() {
    // One probe a second cannot tell when within that second the service came back.
    let text = scenario("coarse", "deletePod: { grace: 0s }", "expect: { recoveryWithin: 900ms }\nstableFor: 3s\nsteadyFor: 3s")
        .replace("every: 50ms", "every: 1s");
    let cli = Cli::new();
    cli.write("coarse.yaml", &text);
    let ran = cli.run(&["coarse.yaml"]);
    let trial = ran.trial(0);
    let [lo, hi] = ["lo_ms", "hi_ms"].map(|key| trial["recovery"][key].as_u64().expect("a bound"));
    let expected = if lo > 900 {
        ("failed", 1)
    } else if hi > 900 {
        ("unproven", 3)
    } else {
        ("passed", 0)
    };
    assert_eq!((trial["verdict"].as_str().expect("a verdict"), ran.code.expect("a code")), expected, "{}", ran.tell());
}

#[test]
fn the_verdict_of_a_suite_is_the_gravest() {
    let cli = Cli::new();
    cli.write("a-tight.yaml", &scenario("tight", "deletePod: {}", "expect: { recoveryWithin: 1ms }"));
    cli.write("b-nothing.yaml", &scenario("nothing", "killProcess: { process: nosuch }", ""));
    cli.write("c-good.yaml", &scenario("good", "", ""));
    let ran = cli.run(&["a-tight.yaml", "b-nothing.yaml", "c-good.yaml"]).ended_with(1);
    let verdicts: Vec<_> = (0..3).map(|index| ran.trial(index)["verdict"].clone()).collect();
    assert_eq!(verdicts, ["failed", "error", "passed"]);
}
