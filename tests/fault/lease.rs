//! One run at a time.

use std::time::Duration;

use comeback::{
    cluster::lease::{self, LEASE_DURATION, LeaseError, RunLease},
    fault::{
        Journal, Undo,
        heal::{HealError, Options, heal},
    },
};

use crate::bed::{Bed, NAMESPACE};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_alive_keeps_others_out() {
    let bed = Bed::make().await;
    let lease = RunLease::acquire(&bed.cluster, "run-1").await.expect("it is free");
    let other = RunLease::acquire(&bed.cluster, "run-2").await;
    assert!(matches!(&other, Err(LeaseError::Taken { holder, .. }) if holder.starts_with("run-1 on ")), "{other:?}");

    // Nothing to do disturbs nobody; something to do does.
    let options = Options::default();
    heal(&bed.cluster, &bed.platform, &options, &|_| {}).await.expect("there is nothing to do");
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::create(&folder.path().join("journal.ndjson")).expect("a journal");
    journal.keep_in(&bed.cluster, "run-1").await;
    let node = bed.worker().await;
    journal.begin(1, 0, Undo::Uncordon { node: node.clone() }).await.expect("it can be written");
    bed.cordon(&node).await;
    let refused = heal(&bed.cluster, &bed.platform, &options, &|_| {}).await;
    assert!(matches!(refused, Err(HealError::Alive { .. })), "{refused:?}");
    assert!(bed.is_cordoned(&node).await);
    assert!(lease::is_there(&bed.cluster, NAMESPACE).await.expect("it can be asked"), "nobody else's is removed");
    assert_eq!(lease.lost(), None);
    heal(&bed.cluster, &bed.platform, &Options { force: true, ..options }, &|_| {}).await.expect("it was told to");
    assert!(!bed.is_cordoned(&node).await);

    // It was taken from the run, which notices that, and was given back, so it is free at once.
    let told = async {
        while lease.lost().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LEASE_DURATION, told).await.expect("the run is told");
    let next = RunLease::acquire(&bed.cluster, "run-3").await.expect("it is free");
    next.release().await.expect("it can be given back");
    assert!(!lease::is_there(&bed.cluster, NAMESPACE).await.expect("it can be asked"));
    bed.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_dead_is_followed_by_another() {
    let bed = Bed::make().await;
    // As after `kill -9`: nobody renews it, and it stands.
    drop(RunLease::acquire(&bed.cluster, "run-1").await.expect("it is free"));
    assert!(lease::is_there(&bed.cluster, NAMESPACE).await.expect("it can be asked"));
    let began = tokio::time::Instant::now();
    let next = RunLease::acquire(&bed.cluster, "run-2").await.expect("its holder is dead");
    assert!(began.elapsed() >= LEASE_DURATION, "it was watched first");
    assert_eq!(next.lost(), None);
    next.release().await.expect("it can be given back");
    bed.sandbox.stop().await;
}
