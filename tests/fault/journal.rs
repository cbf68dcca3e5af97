//! The journal in the cluster.

use comeback::fault::{Journal, Mirror, Undo};
use k8s_openapi::api::core::v1::ConfigMap;

use crate::bed::Bed;

fn uncordon(node: &str) -> Undo {
    Undo::Uncordon { node: node.into() }
}

async fn entries(bed: &Bed) -> Vec<Undo> {
    let journals = Mirror::all(&bed.cluster).await.expect("the journals can be listed");
    journals.iter().flat_map(Mirror::pending).map(|(_, undo)| undo.expect("it can be read")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_begun_stands_in_the_cluster_until_it_is_undone() {
    let bed = Bed::make().await;
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::create(&folder.path().join("journal.ndjson")).expect("a journal");
    journal.keep_in(&bed.cluster, "run-1").await;
    assert_eq!(entries(&bed).await, [], "nothing is there before something is to be broken");

    journal.begin(1, 0, uncordon("a")).await.expect("it can be written");
    journal.begin(1, 0, uncordon("b")).await.expect("it can be written");
    assert_eq!(entries(&bed).await, [uncordon("b"), uncordon("a")], "last in, first out");
    let map = bed.cluster.namespaced::<ConfigMap>().get("comeback-journal-run-1").await.expect("it has its name");
    let labels = map.metadata.labels.expect("labels");
    assert_eq!((labels["comeback.dev/journal"].as_str(), labels["comeback.dev/run"].as_str()), ("true", "run-1"));

    // With something pending it stays, also when the run ends.
    journal.end(1).await.expect("it can be struck");
    journal.close().await.expect("it stays");
    assert_eq!(entries(&bed).await, [uncordon("a")]);
    journal.end(0).await.expect("it can be struck");
    journal.close().await.expect("it can be removed");
    journal.close().await.expect("twice is no error");
    assert!(Mirror::all(&bed.cluster).await.expect("a list").is_empty());
    bed.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_in_the_cluster_may_not_be_broken() {
    let bed = Bed::make().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.ndjson");
    let journal = Journal::create(&path).expect("a journal");
    let mut elsewhere = bed.cluster.clone();
    elsewhere.target.namespace = "no-such-namespace".into();
    journal.keep_in(&elsewhere, "run-1").await;
    let error = journal.begin(1, 0, uncordon("a")).await.expect_err("there is no such namespace").to_string();
    assert_eq!(error, "the undo journal cannot be kept in the cluster, so nothing is broken");
    assert_eq!(journal.pending(), []);
    let text = std::fs::read_to_string(path).expect("the file is there");
    assert!(text.lines().last().is_some_and(|line| line.contains("\"done\"")), "{text}");
    bed.sandbox.stop().await;
}
