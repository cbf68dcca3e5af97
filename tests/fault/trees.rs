//! The process trees in which SQL Server's images run it: a fault finds its process in each, and the right one.

use std::time::Duration;

use comeback::{
    event::{PodFacts, Sighting},
    fault::{Consent, EFFECT_DEADLINE, Fault as _, Scene},
    scenario::{DeletePod, FaultSpec, FreezeProcess, HumanDuration, KillContainer, KillProcess, Signal},
};
use rstest::rstest;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, UP_DEADLINE};

/// A grace that ends soon, and long enough for a server that stops in good order.
const GRACE: HumanDuration = HumanDuration(Duration::from_secs(4));

fn kill(process: &str, signal: Signal) -> FaultSpec {
    FaultSpec::KillProcess(KillProcess { process: process.into(), signal })
}

#[rstest]
#[case::watchdog_first(&[], 0)]
#[case::bash_that_waits(&["--init", "entrypoint"], 137)]
#[case::sh_with_three_children(&["--init", "shell"], 137)]
#[tokio::test(flavor = "multi_thread")]
async fn the_right_process_is_hit(#[case] args: &[&str], #[case] code_of_a_deleted_pod: i32) {
    let bed = Bed::with_database(args).await;
    let (watches, mut changes) = bed.watches().await;
    let (stop, consent) = (CancellationToken::new(), Consent::default());
    let scene = Scene {
        cluster: &bed.cluster,
        platform: &bed.platform,
        watches: &watches,
        stop: &stop,
        consent: &consent,
        lasting: Duration::from_mins(1),
        patience: EFFECT_DEADLINE,
    };
    let ended = async |fault: FaultSpec| -> PodFacts {
        let aim = bed.aim(&fault, &scene).await;
        fault.inject(&scene, &aim).await.unwrap_or_else(|error| panic!("{args:?}: {error}"));
        let seen = fault.confirm(&scene, &aim).await;
        assert!(seen.is_some(), "{args:?}: `{}` has no effect", fault.name());
        bed.database_is_up().await;
        aim.pod
    };

    // Each of them ends the container, and it starts again in the same pod.
    let faults = [
        kill("engine", Signal::Sigkill),
        kill("engine", Signal::Sigterm),
        kill("watchdog", Signal::Sigkill),
        FaultSpec::KillContainer(KillContainer {}),
    ];
    for (count, fault) in (0..).zip(faults) {
        let pod = ended(fault).await;
        assert_eq!(pod.restart_count, count, "{args:?}: one restart for each fault before");
    }

    // The engine and no other stands still, and goes on.
    let freeze = FaultSpec::FreezeProcess(FreezeProcess::default());
    let aim = bed.aim(&freeze, &scene).await;
    let look = async || freeze.witness(&scene, &aim).await.expect("it can be looked at");
    let before = look().await;
    freeze.inject(&scene, &aim).await.expect("it can be stopped");
    let during = look().await;
    let hurt = aim.hurt.as_ref().expect("something is hurt");
    assert!(before.iter().all(|fact| hurt.is_whole(&fact.value)), "{args:?}: {before:?}");
    assert!(!during.is_empty() && during.iter().all(|fact| !hurt.is_whole(&fact.value)), "{args:?}: {during:?}");
    bed.platform.end(hurt).await.expect("it goes on");
    assert_eq!(look().await, before, "{args:?}");

    // Who swallows SIGTERM is killed when the grace is over.
    let delete = FaultSpec::DeletePod(DeletePod { grace: Some(GRACE) });
    let aim = bed.aim(&delete, &scene).await;
    delete.inject(&scene, &aim).await.expect("it can be deleted");
    let end = async {
        loop {
            match changes.recv().await.expect("the watches go on") {
                Sighting::Pod(pod) if pod.uid == aim.pod.uid && pod.terminating && !pod.running => break pod.last_end,
                Sighting::PodGone { uid, .. } if uid == aim.pod.uid => break None,
                _ => {}
            }
        }
    };
    let end = timeout(UP_DEADLINE, end).await.expect("it ends").unwrap_or_default();
    assert!(end.contains(&format!("exit code {code_of_a_deleted_pod}")), "{args:?}: {end}");
    bed.sandbox.stop().await;
}
