//! The API as clients meet it: watches, conflicts, refusals.

use futures::StreamExt;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace, Node, Pod, Service},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{conditions, watcher},
};
use serde_json::json;

use crate::support::{code, create, sandbox, soon, wait_until};

#[tokio::test]
async fn a_watch_is_told_of_everything_after_its_version_in_order() {
    let (_sandbox, client) = sandbox(10).await;
    let maps = Api::<ConfigMap>::default_namespaced(client);
    let version = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    create(&maps, json!({ "metadata": { "name": "a" }, "data": { "k": "1" } })).await;
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({ "data": { "k": "2" } }))).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let mut changes = maps.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let (what, map) = match soon("a change", changes.next()).await.unwrap().unwrap() {
            WatchEvent::Added(map) => ("added", map),
            WatchEvent::Modified(map) => ("modified", map),
            WatchEvent::Deleted(map) => ("deleted", map),
            other => panic!("unexpected: {other:?}"),
        };
        seen.push((what, map.data.unwrap()["k"].clone()));
    }
    assert_eq!(seen, [("added", "1".to_owned()), ("modified", "2".to_owned()), ("deleted", "2".to_owned())]);
}

#[tokio::test]
async fn a_watch_by_label_loses_what_no_longer_matches() {
    let (_sandbox, client) = sandbox(10).await;
    let maps = Api::<ConfigMap>::default_namespaced(client);
    create(&maps, json!({ "metadata": { "name": "a", "labels": { "x": "y" } } })).await;
    let mut events = watcher(maps.clone(), watcher::Config::default().labels("x=y")).boxed();
    let mut next = async || soon("an event", events.next()).await.unwrap().unwrap();
    assert!(matches!(next().await, watcher::Event::Init));
    assert!(matches!(next().await, watcher::Event::InitApply(_)));
    assert!(matches!(next().await, watcher::Event::InitDone));
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({ "metadata": { "labels": { "x": "z" } } }))).await.unwrap();
    assert!(matches!(next().await, watcher::Event::Delete(_)));
}

#[tokio::test]
async fn a_streaming_list_ends_with_its_bookmark() {
    let (_sandbox, client) = sandbox(10).await;
    let nodes = Api::<Node>::all(client);
    let mut events = watcher(nodes, watcher::Config::default().streaming_lists()).boxed();
    let mut names = Vec::new();
    loop {
        match soon("an event", events.next()).await.unwrap().unwrap() {
            watcher::Event::InitApply(node) => names.push(node.name_any()),
            watcher::Event::InitDone => break,
            watcher::Event::Init => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert_eq!(names, ["control-plane", "worker-1", "worker-2", "worker-3"]);
}

#[tokio::test]
async fn replacing_an_older_version_is_a_conflict() {
    let (_sandbox, client) = sandbox(10).await;
    let maps = Api::<ConfigMap>::default_namespaced(client);
    let first = create(&maps, json!({ "metadata": { "name": "a" } })).await;
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({ "data": { "k": "2" } }))).await.unwrap();
    let error = maps.replace("a", &PostParams::default(), &first).await.unwrap_err();
    assert_eq!(code(&error), 409);
    let other = DeleteParams::default().preconditions(kube::api::Preconditions { uid: Some("another".into()), resource_version: None });
    assert_eq!(code(&maps.delete("a", &other).await.unwrap_err()), 409);
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_a_status() {
    let (_sandbox, client) = sandbox(10).await;
    let services = Api::<Service>::default_namespaced(client.clone());
    let headless =
        serde_json::from_value(json!({ "metadata": { "name": "s" }, "spec": { "clusterIP": "None", "ports": [{ "port": 1 }] } }));
    assert_eq!(code(&services.create(&PostParams::default(), &headless.unwrap()).await.unwrap_err()), 422);
    assert_eq!(code(&services.get("nosuch").await.unwrap_err()), 404);
    let pods = Api::<Pod>::default_namespaced(client.clone());
    assert_eq!(code(&pods.list(&ListParams::default().fields("spec.nosuch=x")).await.unwrap_err()), 400);
    let path = http::Request::delete("/api/v1/namespaces/default/pods/p?gracePeriodSeconds=-1").body(Vec::new()).unwrap();
    assert_eq!(code(&client.request::<serde_json::Value>(path).await.unwrap_err()), 422);
    let path = http::Request::get("/apis/batch/v1/jobs").body(Vec::new()).unwrap();
    assert_eq!(code(&client.request::<serde_json::Value>(path).await.unwrap_err()), 404);
}

#[tokio::test]
async fn nobody_gets_in_without_the_token() {
    let (sandbox, _client) = sandbox(10).await;
    let mut document: serde_json::Value = serde_json::from_str(&sandbox.kubeconfig_text()).unwrap();
    document["users"][0]["user"]["token"] = "wrong".into();
    let kubeconfig: Kubeconfig = serde_json::from_value(document).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    assert_eq!(code(&Api::<Node>::all(client).list(&ListParams::default()).await.unwrap_err()), 401);
}

#[tokio::test]
async fn a_namespace_goes_with_what_is_in_it() {
    let (_sandbox, client) = sandbox(10).await;
    let namespaces = Api::<Namespace>::all(client.clone());
    let made = create(&namespaces, json!({ "metadata": { "name": "mine" } })).await;
    let maps = Api::<ConfigMap>::namespaced(client, "mine");
    create(&maps, json!({ "metadata": { "name": "a" } })).await;
    namespaces.delete("mine", &DeleteParams::default()).await.unwrap();
    wait_until(&namespaces, "mine", "is gone", conditions::is_deleted(&made.uid().unwrap())).await;
    assert!(maps.list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn applying_makes_and_then_changes() {
    let (_sandbox, client) = sandbox(10).await;
    let deployments = Api::<Deployment>::default_namespaced(client);
    let object = |replicas: i32, image: &str| {
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" }, "spec": {
            "replicas": replicas, "selector": { "matchLabels": { "a": "b" } },
            "template": { "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "c", "image": image }] } },
        } })
    };
    let params = PatchParams::apply("test").force();
    let made = deployments.patch("d", &params, &Patch::Apply(object(0, "comeback:1"))).await.unwrap();
    let changed = deployments.patch("d", &params, &Patch::Apply(object(0, "comeback:2"))).await.unwrap();
    assert_eq!(made.uid(), changed.uid());
    let image = |deployment: &Deployment| deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0].image.clone();
    assert_eq!(image(&changed).as_deref(), Some("comeback:2"));
    assert_eq!(changed.metadata.generation, Some(2));
}

/// Asks as `kubectl get` does.
async fn get_table(client: &Client, path: &str) -> serde_json::Value {
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
    client.request(http::Request::get(path).header("accept", accept).body(Vec::new()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn who_asks_for_a_table_gets_one() {
    let (_sandbox, client) = sandbox(20).await;
    let table = get_table(&client, "/api/v1/nodes").await;
    assert_eq!((table["kind"].as_str(), table["apiVersion"].as_str()), (Some("Table"), Some("meta.k8s.io/v1")));
    let names: Vec<_> =
        table["rows"].as_array().unwrap().iter().map(|row| (&row["cells"][0], &row["cells"][1], &row["cells"][2])).collect();
    assert_eq!(names[0], (&json!("control-plane"), &json!("Ready"), &json!("control-plane")));
    assert_eq!(names[1], (&json!("worker-1"), &json!("Ready"), &json!("<none>")));
    let wide: Vec<_> = table["columnDefinitions"].as_array().unwrap().iter().filter(|column| column["priority"] == 1).collect();
    assert_eq!(wide.len(), 5);
    let one = get_table(&client, "/api/v1/nodes/worker-2").await;
    assert_eq!(one["rows"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_watch_of_tables_sends_its_head_once() {
    use futures::{AsyncBufReadExt, io::BufReader};
    let (_sandbox, client) = sandbox(20).await;
    let request = http::Request::get("/api/v1/namespaces/default/configmaps?watch=true&resourceVersion=0")
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .unwrap();
    let mut lines = BufReader::new(Box::pin(client.request_stream(request).await.unwrap())).lines();
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    create(&maps, json!({ "metadata": { "name": "a" } })).await;
    create(&maps, json!({ "metadata": { "name": "b" }, "data": { "k": "v" } })).await;
    let mut next = async || {
        let line = soon("a change", lines.next()).await.unwrap().unwrap();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    let first = next().await;
    assert_eq!((&first["type"], &first["object"]["rows"][0]["cells"][0]), (&json!("ADDED"), &json!("a")));
    assert_eq!(first["object"]["columnDefinitions"].as_array().unwrap().len(), 3);
    let second = next().await;
    assert_eq!((&second["object"]["rows"][0]["cells"][0], &second["object"]["rows"][0]["cells"][1]), (&json!("b"), &json!(1)));
    assert!(second["object"]["columnDefinitions"].is_null());
}

#[tokio::test]
async fn a_quiet_watch_is_bookmarked_and_a_version_that_is_forgotten_is_gone() {
    let (_sandbox, client) = sandbox(100).await;
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    let version = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    // Leases are renewed meanwhile, so the version goes on although no map changes.
    let mut events = maps.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let WatchEvent::Bookmark(mark) = soon("a bookmark", events.next()).await.unwrap().unwrap() else { panic!("nothing changes") };
    let number = |version: &str| version.parse::<u64>().unwrap();
    assert!(number(&mark.metadata.resource_version) > number(&version));
    // More changes than are remembered of a kind.
    create(&maps, json!({ "metadata": { "name": "a" } })).await;
    for n in 0..4200 {
        maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({ "data": { "k": n.to_string() } }))).await.unwrap();
    }
    let mut late = maps.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let WatchEvent::Error(gone) = soon("the refusal", late.next()).await.unwrap().unwrap() else { panic!("it is forgotten") };
    assert_eq!((gone.code, gone.reason.as_str()), (410, "Expired"));
}

#[tokio::test]
async fn a_lease_and_a_map_are_made_changed_applied_and_deleted() {
    use k8s_openapi::api::coordination::v1::Lease;
    let (_sandbox, client) = sandbox(20).await;
    let leases = Api::<Lease>::default_namespaced(client.clone());
    let lease =
        create(&leases, json!({ "metadata": { "name": "run" }, "spec": { "holderIdentity": "a", "leaseDurationSeconds": 15 } })).await;
    let mut other = lease.clone();
    other.spec.as_mut().unwrap().holder_identity = Some("b".into());
    let held = leases.replace("run", &PostParams::default(), &other).await.unwrap();
    assert_eq!(code(&leases.replace("run", &PostParams::default(), &lease).await.unwrap_err()), 409, "whoever was first has it");
    leases.patch("run", &PatchParams::default(), &Patch::Merge(json!({ "spec": { "holderIdentity": "c" } }))).await.unwrap();
    assert_eq!(held.spec.unwrap().holder_identity.as_deref(), Some("b"));
    leases.delete("run", &DeleteParams::default()).await.unwrap();
    let maps = Api::<ConfigMap>::default_namespaced(client);
    let apply = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "journal" }, "data": { "1": "undo" } });
    maps.patch("journal", &PatchParams::apply("test").force(), &Patch::Apply(apply)).await.unwrap();
    let made = maps.get("journal").await.unwrap();
    let twice = maps.create(&PostParams::default(), &made).await.unwrap_err();
    assert_eq!(code(&twice), 409);
    maps.delete("journal", &DeleteParams::default()).await.unwrap();
    assert!(maps.get_opt("journal").await.unwrap().is_none());
}
