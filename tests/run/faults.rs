//! Every fault on its own: when it does nothing, nobody believes that it happened.

use comeback::scenario::FaultSpec;
use rstest::rstest;

use crate::cli::{Cli, scenario};

/// The sandbox says yes to whatever breaks it, and does nothing. A run that calls one of these passed would believe its own calls.
#[rstest]
#[case("killProcess")]
#[case("freezeProcess")]
#[case("killContainer")]
#[case("exhaustMemory")]
#[case("deletePod")]
#[case("evictPod")]
#[case("restartWorkload")]
#[case("scaleToZero")]
#[case("drainNode")]
#[case("cordonNode")]
#[case("crashNode")]
#[case("rebootNode")]
#[case("freezeNode")]
#[case("stopKubelet")]
#[case("isolateNode")]
#[case("taintNode")]
#[case("isolatePod")]
#[case("delayNetwork")]
#[case("lossyNetwork")]
#[case("resetConnections")]
#[case("fillVolume")]
#[case("slowVolume")]
#[case("failAttach")]
#[case("stopApiServer")]
#[case("stopController")]
#[case("breakEndpoints")]
fn a_fault_that_does_nothing_is_unproven(#[case] fault: &str) {
    let cli = Cli::new();
    cli.write("nothing.yaml", &scenario("nothing", fault, "giveUpAfter: 2s"));
    let ran = cli.run(&["nothing.yaml", "--defect", "faults-do-nothing"]).ended_with(3);
    let trial = ran.trial(0);
    assert_eq!(trial["verdict"], "unproven", "{}", ran.tell());
    assert_eq!(trial["faults"][0]["fault"], fault);
}

#[test]
fn no_fault_is_left_out() {
    let cases = include_str!("faults.rs").matches("#[case(").count() - 1;
    assert_eq!(cases, FaultSpec::all().len());
}
