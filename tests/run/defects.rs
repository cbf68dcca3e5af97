//! Who tests the tester: each planted defect is found, and the law that names it is the right one.

use rstest::rstest;

use crate::cli::{Cli, law, scenario};

#[rstest]
#[case::acknowledges_before_it_stores("ack-before-store", "killProcess: {}", "no_lost_row")]
#[case::loses_the_volume("lose-volume", "killProcess: {}", "same_volume")]
#[case::loses_the_volume_of_a_new_pod("lose-volume", "deletePod: {}", "same_volume")]
#[case::applies_twice("apply-twice", "killProcess: {}", "no_duplicate_row")]
#[case::flips_a_bit("flip-bit", "deletePod: {}", "no_corrupt_row")]
#[case::changes_its_address("change-address", "deletePod: {}", "same_service_address")]
fn a_planted_defect_is_found_and_named(#[case] defect: &str, #[case] fault: &str, #[case] expected: &str) {
    let cli = Cli::new();
    cli.write("fault.yaml", &scenario("fault", fault, "giveUpAfter: 6s"));
    let ran = cli.run(&["fault.yaml", "--defect", defect]).ended_with(1);
    assert_eq!(ran.result()["platform"]["defect"], defect);
    let trial = ran.trial(0);
    assert_eq!(trial["verdict"], "failed");
    assert_eq!(law(&trial, expected), "failed", "{}", ran.tell());
    // The first law that failed gives the reason: the cause, not a consequence.
    let first = trial["laws"].as_array().expect("laws").iter().find(|law| law["verdict"] == "failed").expect("a law failed");
    assert_eq!(first["law"], expected, "{}", ran.tell());
    assert_eq!(trial["reason"], first["detail"]);
}

#[test]
fn an_undo_that_fails_is_told_with_its_own_exit_code() {
    let cli = Cli::new();
    cli.write("drain.yaml", &scenario("drain", "drainNode: {}", ""));
    let ran = cli.run(&["drain.yaml", "--defect", "undo-fails"]).ended_with(5);
    let trial = ran.trial(0);
    assert_eq!(trial["undo"][0]["done"], false, "{}", ran.tell());
    assert!(trial["undo"][0]["error"].is_string());
    let left = ran.result()["left_in_place"].to_string();
    assert!(left.contains("kubectl uncordon worker-"), "{left}");
    assert!(ran.stdout.contains("kubectl uncordon worker-"), "{}", ran.tell());
}

#[test]
fn a_defect_does_no_harm_without_a_fault() {
    // What a defect does is seen only after a restart, so that a control trial passes: the fault exposes it, not the harness.
    for defect in ["ack-before-store", "lose-volume", "apply-twice", "flip-bit", "change-address"] {
        let cli = Cli::new();
        cli.write("steady.yaml", &scenario("steady", "", ""));
        cli.run(&["steady.yaml", "--defect", defect]).ended_with(0);
    }
}
