//! Healing from what stands in the cluster.

use comeback::fault::{
    Journal, Mirror, Undo,
    heal::{Healed, LeftUndone, Options, heal, left_undone},
};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::bed::{Bed, NAMESPACE};

async fn healed(bed: &Bed, options: &Options) -> Healed {
    heal(&bed.cluster, &bed.platform, options, &|_| {}).await.expect("the cluster answers")
}

/// Leaves what a run leaves that is killed: a cordoned node and the journal that says so.
async fn killed(bed: &Bed, run: &str, node: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::create(&folder.path().join("journal.ndjson")).expect("a journal");
    journal.keep_in(&bed.cluster, run).await;
    journal.begin(1, 0, Undo::Uncordon { node: node.into() }).await.expect("it can be written");
    bed.cordon(node).await;
}

fn helper(component: &str, run: &str) -> Value {
    json!({
        "metadata": {"name": format!("{component}-{run}"), "namespace": NAMESPACE, "labels": {
            "app.kubernetes.io/managed-by": "comeback", "app.kubernetes.io/component": component, "comeback.dev/run": run,
        }},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "comeback", "args": ["sandbox-pause"]}]},
    })
}

async fn pods(bed: &Bed) -> Vec<String> {
    let pods = bed.cluster.namespaced::<Pod>().list(&ListParams::default()).await.expect("the pods can be listed");
    pods.items.into_iter().filter_map(|pod| pod.metadata.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_left_is_put_right_and_nothing_else() {
    let bed = Bed::make().await;
    let node = bed.worker().await;
    assert_eq!(healed(&bed, &Options::default()).await, Healed::default(), "nothing was left");

    killed(&bed, "run-1", &node).await;
    let api = bed.cluster.namespaced::<Pod>();
    bed.create(&api, helper("prober", "run-1")).await;
    bed.create(&api, helper("knock", "run-2")).await;
    bed.create(&api, helper("database", "run-1")).await;

    // Said, and not done.
    let dry = healed(&bed, &Options { dry_run: true, ..Options::default() }).await;
    assert_eq!(dry.done[0], format!("uncordon node `{node}` (run run-1)"));
    assert_eq!(dry.done.len(), 4, "{dry:?}");
    assert!(bed.is_cordoned(&node).await);
    // Another run's is left alone.
    let other = healed(&bed, &Options { runs: vec!["run-2".into()], ..Options::default() }).await;
    assert_eq!(other, Healed { done: vec!["remove pod `comeback/knock-run-2` (run run-2)".into()], failed: vec![] });
    assert!(bed.is_cordoned(&node).await);

    let all = healed(&bed, &Options::default()).await;
    assert!(all.failed.is_empty(), "{all:?}");
    assert!(!bed.is_cordoned(&node).await);
    assert_eq!(pods(&bed).await, ["database-run-1"]);
    assert!(Mirror::all(&bed.cluster).await.expect("a list").is_empty());
    assert_eq!(healed(&bed, &Options::default()).await, Healed::default(), "there is nothing left to do");
    bed.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_heal_at_once_do_no_harm() {
    let bed = Bed::make().await;
    let node = bed.worker().await;
    for run in ["run-1", "run-2", "run-3"] {
        killed(&bed, run, &node).await;
    }
    bed.create(&bed.cluster.namespaced::<Pod>(), helper("prober", "run-1")).await;
    let options = Options::default();
    let (one, two) = tokio::join!(healed(&bed, &options), healed(&bed, &options));
    assert!(one.failed.is_empty() && two.failed.is_empty(), "{one:?} {two:?}");
    assert!(!bed.is_cordoned(&node).await);
    assert!(Mirror::all(&bed.cluster).await.expect("a list").is_empty());
    bed.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_put_right_stays_in_its_journal() {
    let bed = Bed::make().await;
    let node = bed.worker().await;
    killed(&bed, "run-1", &node).await;
    let maps = bed.cluster.namespaced::<ConfigMap>();
    let future = json!({"data": {"000009": "{\"trial\":1,\"undo\":\"unheard_of\"}"}});
    maps.patch("comeback-journal-run-1", &PatchParams::default(), &Patch::Merge(&future)).await.expect("it can be changed");

    let result = healed(&bed, &Options::default()).await;
    // What can be put right is.
    assert!(!bed.is_cordoned(&node).await);
    assert_eq!(result.failed.len(), 1, "{result:?}");
    assert!(result.failed[0].contains("`000009` cannot be read") && result.failed[0].contains("unheard_of"), "{result:?}");
    let left = Mirror::all(&bed.cluster).await.expect("a list");
    assert_eq!(left.iter().map(|journal| journal.pending().len()).collect::<Vec<_>>(), [1]);
    bed.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_run_is_told_what_a_killed_one_left_undone() {
    let bed = Bed::make().await;
    let node = bed.worker().await;
    let left = async || left_undone(&bed.cluster).await.expect("the cluster answers");
    assert_eq!(left().await, None);
    killed(&bed, "run-1", &node).await;
    let expected = LeftUndone { run: "run-1".into(), what: vec![format!("uncordon node `{node}`")] };
    assert_eq!(expected.to_string(), format!("run run-1 was not ended and left undone: uncordon node `{node}`"));
    assert_eq!(left().await, Some(expected));
    healed(&bed, &Options::default()).await;
    assert_eq!(left().await, None);
    bed.sandbox.stop().await;
}
