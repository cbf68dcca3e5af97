//! Nodes that lose power, and what becomes of what was on them: the two shapes of a workload recover differently.
//!
//! Timers run a hundred times as fast as Kubernetes'. Every wait is for an event.

use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    coordination::v1::Lease,
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Service},
    storage::v1::{StorageClass, VolumeAttachment},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams},
    runtime::conditions,
};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::support::{
    SOON, code, create, deploy, greeting, is_alive, is_ready, pids, power, processes, ready_pod, reasons, run_pod, sandbox, server,
    service_address, soon, switch, until, wait_for_pod, wait_until,
};

/// How much faster than Kubernetes these sandboxes are.
const SPEED: u32 = 100;
/// How long a pod tolerates a silent node, in seconds of Kubernetes'.
const TOLERATES: i64 = 30;

fn node_of(pod: &Pod) -> String {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).expect("the pod has a node")
}

fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn condition<'a>(node: &'a Node, kind: &str) -> &'a k8s_openapi::api::core::v1::NodeCondition {
    node.status.as_ref().unwrap().conditions.as_ref().unwrap().iter().find(|condition| condition.type_ == kind).expect("it is there")
}

fn node_is_ready(node: &Node) -> bool {
    condition(node, "Ready").status == "True"
}

fn taints(node: &Node) -> Vec<(String, String)> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    taints.into_iter().map(|taint| (taint.key, taint.effect)).collect()
}

fn unreachable(effect: &str) -> (String, String) {
    ("node.kubernetes.io/unreachable".to_owned(), effect.to_owned())
}

fn tolerations() -> Value {
    ["not-ready", "unreachable"]
        .map(|what| {
            json!({ "key": format!("node.kubernetes.io/{what}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATES })
        })
        .into_iter()
        .collect()
}

/// A stateful set of one pod on a volume from a template, behind the service of the workload.
async fn deploy_stateful(client: &Client) -> Pod {
    let services = Api::<Service>::default_namespaced(client.clone());
    create(&services, json!({ "metadata": { "name": "mssql" }, "spec": { "selector": { "app": "mssql" }, "ports": [{ "port": 1433 }] } }))
        .await;
    let sets = Api::<StatefulSet>::default_namespaced(client.clone());
    create(&sets, stateful_set()).await;
    ready_pod(client, "").await
}

fn stateful_set() -> Value {
    json!({ "metadata": { "name": "mssql" }, "spec": {
        "serviceName": "mssql", "selector": { "matchLabels": { "app": "mssql" } },
        "template": { "metadata": { "labels": { "app": "mssql" } }, "spec": {
            "tolerations": tolerations(),
            "containers": [{
                "name": "mssql", "image": "comeback", "args": server(),
                "readinessProbe": { "tcpSocket": { "port": 1433 }, "periodSeconds": 1 },
                "volumeMounts": [{ "name": "data", "mountPath": "/var/opt/mssql" }],
            }],
        } },
        "volumeClaimTemplates": [{ "metadata": { "name": "data" }, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
        } }],
    } })
}

/// Waits until the pod is on its way out, which nobody will finish.
async fn stuck(client: &Client, uid: &str) -> Pod {
    let pods = Api::<Pod>::default_namespaced(client.clone());
    wait_for_pod(&pods, "the pod to be marked for deletion", |pod| pod.uid().as_deref() == Some(uid) && is_terminating(pod)).await
}

/// Sees that nothing takes the place of a pod that is stuck: the set has looked at it and waits.
async fn is_not_replaced(client: &Client, uid: &str) {
    let sets = Api::<StatefulSet>::default_namespaced(client.clone());
    let seen = |set: Option<&StatefulSet>| {
        set.and_then(|set| set.status.as_ref()).is_some_and(|status| status.replicas == 1 && status.ready_replicas.unwrap_or_default() == 0)
    };
    wait_until(&sets, "mssql", "knows that its pod is not ready", seen).await;
    let pods = Api::<Pod>::default_namespaced(client.clone()).list(&ListParams::default()).await.unwrap().items;
    assert_eq!(pods.iter().map(|pod| pod.uid().unwrap()).collect::<Vec<_>>(), [uid], "there is one pod, and it is the old one");
}

#[tokio::test]
async fn a_node_that_lost_power_is_silent_then_doubted_and_speaks_again() {
    let (_sandbox, client) = sandbox(SPEED).await;
    let nodes = Api::<Node>::all(client.clone());
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-node-lease");
    let renewed = async || leases.get("worker-2").await.unwrap().spec.unwrap().renew_time.unwrap().0;
    let before = nodes.get("worker-2").await.unwrap();
    let first = renewed().await;
    until("the lease is renewed", SOON, async || renewed().await > first).await;

    assert_eq!(power(&client, "worker-2").await.unwrap()["state"], "on");
    assert_eq!(switch(&client, "worker-2", "off").await.unwrap()["state"], "off");
    let last = renewed().await;
    let off = Instant::now();
    assert_eq!(switch(&client, "worker-2", "off").await.unwrap()["state"], "off", "it can be said again");
    let silent =
        wait_until(&nodes, "worker-2", "is doubted", |node: Option<&Node>| node.is_some_and(|node| !node_is_ready(node))).await.unwrap();
    assert!(off.elapsed() >= Duration::from_secs(35) / SPEED, "not before it was silent for long: {:?}", off.elapsed());
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let found = condition(&silent, kind);
        assert_eq!((found.status.as_str(), found.reason.as_deref()), ("Unknown", Some("NodeStatusUnknown")), "{kind}");
        assert_eq!(found.message.as_deref(), Some("Kubelet stopped posting node status."));
        assert_eq!(found.last_heartbeat_time, condition(&before, kind).last_heartbeat_time, "it said nothing since");
    }
    assert_eq!(renewed().await, last, "a node without power renews nothing");
    let both = |node: Option<&Node>| node.is_some_and(|node| taints(node).len() == 2);
    let tainted = wait_until(&nodes, "worker-2", "is tainted", both).await.unwrap();
    assert_eq!(taints(&tainted), [unreachable("NoSchedule"), unreachable("NoExecute")]);
    assert!(tainted.spec.unwrap().taints.unwrap().iter().all(|taint| taint.time_added.is_some()));

    assert_eq!(switch(&client, "worker-2", "on").await.unwrap()["state"], "on");
    let well = |node: Option<&Node>| node.is_some_and(|node| node_is_ready(node) && taints(node).is_empty());
    let after = wait_until(&nodes, "worker-2", "is well", well).await.unwrap();
    assert_eq!(after.uid(), before.uid());
    let boot = |node: &Node| node.status.as_ref().unwrap().node_info.as_ref().unwrap().boot_id.clone();
    assert_ne!(boot(&after), boot(&before), "it was booted");
    until("the lease is renewed again", SOON, async || renewed().await > last).await;
}

#[tokio::test]
async fn a_switch_that_is_not_there_or_set_to_nothing_is_refused() {
    let (_sandbox, client) = sandbox(SPEED).await;
    assert_eq!(code(&power(&client, "nosuch").await.unwrap_err()), 404);
    assert_eq!(code(&switch(&client, "nosuch", "off").await.unwrap_err()), 404);
    assert_eq!(code(&switch(&client, "worker-1", "out").await.unwrap_err()), 422);
    assert_eq!(code(&switch(&client, "control-plane", "off").await.unwrap_err()), 422);
}

#[tokio::test]
async fn power_that_is_cut_kills_everything_at_once_and_the_kubelet_writes_nothing_more() {
    let (_sandbox, client) = sandbox(SPEED).await;
    deploy(&client, server(), 30).await;
    let pod = ready_pod(&client, "").await;
    let there = async || pids(&processes(&client, &pod.name_any(), "mssql").await.unwrap());
    until("both processes run", SOON, async || there().await.len() == 2).await;
    let there = there().await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let version = pods.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    switch(&client, &node_of(&pod), "off").await.unwrap();
    assert!(!there.iter().any(|pid| is_alive(*pid)), "off is off");
    assert_eq!(code(&processes(&client, &pod.name_any(), "mssql").await.unwrap_err()), 404);
    // The first who writes is the control plane, when it has understood.
    let mut changes = pods.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let WatchEvent::Modified(first) = soon("a change", changes.next()).await.unwrap().unwrap() else { panic!("the pod changes") };
    let status = first.status.as_ref().unwrap();
    assert!(!is_ready(&first));
    assert!(status.container_statuses.as_ref().unwrap()[0].state.as_ref().unwrap().running.is_some(), "as the kubelet left it");
    assert!(reasons(&client, &pod.name_any()).await.contains(&"NodeNotReady".to_owned()));
}

#[tokio::test]
async fn connections_to_a_dead_node_hang_until_it_has_power_again() {
    let (_sandbox, client) = sandbox(SPEED).await;
    deploy(&client, server(), 30).await;
    let pod = ready_pod(&client, "").await;
    let service = service_address(&client).await;
    until("the service answers", SOON, async || greeting(service).await.is_ok()).await;
    let mut open = TcpStream::connect(service).await.unwrap();
    let mut hello = [0];
    open.read_exact(&mut hello).await.unwrap();
    let rest = tokio::spawn(async move { open.read_to_end(&mut Vec::new()).await });

    switch(&client, &node_of(&pod), "off").await.unwrap();
    let new = tokio::spawn(async move { greeting(service).await });
    // The control plane takes the endpoint away: all that time nobody has told the clients anything.
    until("nobody is behind the service", SOON, async || {
        TcpStream::connect(service).await.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    })
    .await;
    assert!(!rest.is_finished() && !new.is_finished(), "a dead host says nothing");
    switch(&client, &node_of(&pod), "on").await.unwrap();
    soon("the new connection to end", new).await.unwrap().unwrap_err();
    let error = soon("the open connection to end", rest).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "a machine that was booted knows nothing of it");
}

#[tokio::test]
async fn a_deployments_pod_is_replaced_elsewhere_once_it_is_marked_for_deletion() {
    let (_sandbox, client) = sandbox(SPEED).await;
    let args = json!(["sandbox-pause"]);
    let deployments = Api::<k8s_openapi::api::apps::v1::Deployment>::default_namespaced(client.clone());
    let object = json!({ "metadata": { "name": "d" }, "spec": {
        "selector": { "matchLabels": { "app": "d" } },
        "template": { "metadata": { "labels": { "app": "d" } }, "spec": {
            "tolerations": tolerations(), "containers": [{ "name": "c", "image": "comeback", "args": args }],
        } },
    } });
    create(&deployments, object).await;
    let before = ready_pod(&client, "").await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let off = Instant::now();
    switch(&client, &node_of(&before), "off").await.unwrap();
    let marked = stuck(&client, &before.uid().unwrap()).await;
    assert!(off.elapsed() >= Duration::from_secs(35 + u64::try_from(TOLERATES).unwrap()) / SPEED, "{:?}", off.elapsed());
    let disrupted =
        marked.status.as_ref().unwrap().conditions.as_ref().unwrap().iter().find(|one| one.type_ == "DisruptionTarget").cloned().unwrap();
    assert_eq!(disrupted.reason.as_deref(), Some("DeletionByTaintManager"));
    let after = ready_pod(&client, &before.uid().unwrap()).await;
    assert_ne!(node_of(&after), node_of(&before));
    // The old one is still there, and goes when its kubelet is back.
    assert!(is_terminating(&pods.get(&before.name_any()).await.unwrap()));
    switch(&client, &node_of(&before), "on").await.unwrap();
    wait_until(&pods, &before.name_any(), "is gone", conditions::is_deleted(&before.uid().unwrap())).await;
    assert_eq!(pods.get(&after.name_any()).await.unwrap().uid(), after.uid());
}

#[tokio::test]
async fn a_pod_that_was_not_marked_when_its_node_came_back_is_started_anew_where_it_was() {
    let (_sandbox, client) = sandbox(SPEED).await;
    run_pod(&client, "p", server(), 30).await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let before = wait_for_pod(&pods, "the pod to be ready", is_ready).await;
    let version = before.resource_version().unwrap();
    switch(&client, &node_of(&before), "off").await.unwrap();
    switch(&client, &node_of(&before), "on").await.unwrap();
    let container = |pod: &Pod| pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].clone();
    let after = wait_for_pod(&pods, "the pod to be ready again", |pod| is_ready(pod) && container(pod).restart_count == 1).await;
    assert_eq!((after.uid(), node_of(&after)), (before.uid(), node_of(&before)));
    let last = container(&after).last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (255, Some("Unknown")));
    assert_eq!(last.container_id, container(&before).container_id);
    assert_ne!(after.status.as_ref().unwrap().pod_ip, before.status.as_ref().unwrap().pod_ip);
    assert_eq!(after.status.as_ref().unwrap().start_time, before.status.as_ref().unwrap().start_time);
    // On the way it was seen without an address, and ended.
    let mut changes = pods.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let mut was_ended = false;
    loop {
        let WatchEvent::Modified(pod) = soon("a change", changes.next()).await.unwrap().unwrap() else { panic!("the pod only changes") };
        if container(&pod).restart_count == 1 {
            break;
        }
        was_ended |= container(&pod).state.unwrap().terminated.is_some() && pod.status.as_ref().unwrap().pod_ip.is_none();
    }
    assert!(was_ended, "its end was not told");
    assert!(reasons(&client, "p").await.contains(&"SandboxChanged".to_owned()));
    until("both processes run", SOON, async || pids(&processes(&client, "p", "c").await.unwrap()).len() == 2).await;
}

#[tokio::test]
async fn a_stateful_sets_pod_stays_until_it_is_deleted_by_force() {
    let (_sandbox, client) = sandbox(SPEED).await;
    let before = deploy_stateful(&client).await;
    assert_eq!(before.name_any(), "mssql-0");
    let labels = before.labels();
    assert_eq!((labels["statefulset.kubernetes.io/pod-name"].as_str(), labels["apps.kubernetes.io/pod-index"].as_str()), ("mssql-0", "0"));
    let set = Api::<StatefulSet>::default_namespaced(client.clone()).get("mssql").await.unwrap();
    assert_eq!(Some(&labels["controller-revision-hash"]), set.status.unwrap().update_revision.as_ref());
    let uid = before.uid().unwrap();
    switch(&client, &node_of(&before), "off").await.unwrap();
    stuck(&client, &uid).await;
    is_not_replaced(&client, &uid).await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    pods.delete("mssql-0", &DeleteParams::default().grace_period(0)).await.unwrap();
    // The volume is still mounted on a node that says nothing: it is waited for, six minutes.
    let forced = Instant::now();
    let after = ready_pod(&client, &uid).await;
    assert!(forced.elapsed() >= Duration::from_secs(350) / SPEED, "{:?}", forced.elapsed());
    assert_ne!(node_of(&after), node_of(&before));
    assert!(reasons(&client, "mssql-0").await.contains(&"FailedAttachVolume".to_owned()));
    let attachments = Api::<VolumeAttachment>::all(client.clone()).list(&ListParams::default()).await.unwrap().items;
    assert_eq!(attachments.iter().map(|one| one.spec.node_name.clone()).collect::<Vec<_>>(), [node_of(&after)]);
    // Whoever comes back finds that nothing is left to do there.
    switch(&client, &node_of(&before), "on").await.unwrap();
    let nodes = Api::<Node>::all(client.clone());
    wait_until(&nodes, &node_of(&before), "is ready", |node: Option<&Node>| node.is_some_and(node_is_ready)).await;
    assert_eq!(pods.get("mssql-0").await.unwrap().uid(), after.uid());
}

#[tokio::test]
async fn a_stateful_sets_pod_is_replaced_when_its_node_is_declared_out_of_service() {
    let (_sandbox, client) = sandbox(SPEED).await;
    let before = deploy_stateful(&client).await;
    let (uid, from) = (before.uid().unwrap(), node_of(&before));
    switch(&client, &from, "off").await.unwrap();
    stuck(&client, &uid).await;
    is_not_replaced(&client, &uid).await;
    let nodes = Api::<Node>::all(client.clone());
    let mut taints_now: Vec<Value> =
        nodes.get(&from).await.unwrap().spec.unwrap().taints.unwrap().iter().map(|taint| serde_json::to_value(taint).unwrap()).collect();
    taints_now.push(json!({ "key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute" }));
    let began = Instant::now();
    nodes.patch(&from, &PatchParams::default(), &Patch::Merge(json!({ "spec": { "taints": taints_now } }))).await.unwrap();
    let after = ready_pod(&client, &uid).await;
    assert_ne!(node_of(&after), from);
    assert!(began.elapsed() < Duration::from_secs(350) / SPEED, "the volume was not waited for: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_stateful_sets_pod_is_replaced_when_its_node_is_deleted_which_registers_anew_when_it_is_back() {
    let (_sandbox, client) = sandbox(SPEED).await;
    let before = deploy_stateful(&client).await;
    let (uid, from) = (before.uid().unwrap(), node_of(&before));
    switch(&client, &from, "off").await.unwrap();
    stuck(&client, &uid).await;
    is_not_replaced(&client, &uid).await;
    let nodes = Api::<Node>::all(client.clone());
    let old = nodes.get(&from).await.unwrap();
    nodes.delete(&from, &DeleteParams::default()).await.unwrap();
    let after = ready_pod(&client, &uid).await;
    assert_ne!(node_of(&after), from);
    switch(&client, &from, "on").await.unwrap();
    let new = wait_until(&nodes, &from, "is ready", |node: Option<&Node>| node.is_some_and(node_is_ready)).await.unwrap();
    assert_ne!(new.uid(), old.uid());
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-node-lease");
    until("its lease is its own", SOON, async || {
        let lease = leases.get_opt(&from).await.unwrap();
        lease.is_some_and(|lease| lease.owner_references().first().is_some_and(|owner| Some(&owner.uid) == new.uid().as_ref()))
    })
    .await;
}

#[tokio::test]
async fn a_stateful_sets_pod_is_replaced_when_its_node_comes_back() {
    let (_sandbox, client) = sandbox(SPEED).await;
    let before = deploy_stateful(&client).await;
    let uid = before.uid().unwrap();
    switch(&client, &node_of(&before), "off").await.unwrap();
    stuck(&client, &uid).await;
    is_not_replaced(&client, &uid).await;
    switch(&client, &node_of(&before), "on").await.unwrap();
    let after = ready_pod(&client, &uid).await;
    assert_eq!(after.name_any(), "mssql-0");
    assert_eq!(after.status.unwrap().container_statuses.unwrap()[0].restart_count, 0, "it is another pod");
}

#[tokio::test]
async fn a_stateful_set_scales_one_at_a_time_and_rolls_from_the_last_to_the_first() {
    let (_sandbox, client) = sandbox(SPEED).await;
    deploy_stateful(&client).await;
    let sets = Api::<StatefulSet>::default_namespaced(client.clone());
    let scale = async |replicas: i32| {
        sets.patch_scale("mssql", &PatchParams::default(), &Patch::Merge(json!({ "spec": { "replicas": replicas } }))).await.unwrap();
    };
    let at = async |replicas: i32| {
        let is = move |set: Option<&StatefulSet>| {
            set.is_some_and(|set| {
                let status = set.status.as_ref().unwrap();
                status.observed_generation == set.metadata.generation
                    && status.replicas == replicas
                    && status.ready_replicas.unwrap_or_default() == replicas
                    && status.updated_replicas.unwrap_or_default() == replicas
            })
        };
        wait_until(&sets, "mssql", "is settled", is).await.unwrap()
    };
    scale(3).await;
    let before = at(3).await;
    let claims = Api::<PersistentVolumeClaim>::default_namespaced(client.clone());
    for ordinal in 0..3 {
        claims.get(&format!("data-mssql-{ordinal}")).await.unwrap();
    }
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let version = pods.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let change = json!({ "spec": { "template": { "metadata": { "annotations": { "a": "b" } } } } });
    sets.patch("mssql", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    let mut changes = pods.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let mut gone = Vec::new();
    while gone.len() < 3 {
        if let WatchEvent::Deleted(pod) = soon("a pod to be replaced", changes.next()).await.unwrap().unwrap() {
            gone.push(pod.name_any());
        }
    }
    assert_eq!(gone, ["mssql-2", "mssql-1", "mssql-0"]);
    let after = at(3).await;
    let revisions =
        |set: &StatefulSet| (set.status.as_ref().unwrap().current_revision.clone(), set.status.as_ref().unwrap().update_revision.clone());
    assert_ne!(revisions(&before).1, revisions(&after).1);
    assert_eq!(revisions(&after).0, revisions(&after).1, "the update is over");
    scale(0).await;
    at(0).await;
    assert!(pods.list(&ListParams::default()).await.unwrap().items.is_empty());
    claims.get("data-mssql-2").await.expect("claims are kept");
}

#[tokio::test]
async fn a_pod_keeps_away_from_another_whose_label_it_minds_and_the_other_from_it() {
    let (_sandbox, client) = sandbox(SPEED).await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let container = json!([{ "name": "c", "image": "comeback", "args": ["sandbox-pause"] }]);
    let apart = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
        { "labelSelector": { "matchLabels": { "app": "prober" } }, "topologyKey": "kubernetes.io/hostname" },
    ] } });
    let near = json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
        { "labelSelector": { "matchLabels": { "app": "prober" } }, "topologyKey": "kubernetes.io/hostname" },
    ] } });
    let make = async |name: &str, app: &str, spec: Value| {
        let mut spec = spec;
        spec["containers"] = container.clone();
        create(&pods, json!({ "metadata": { "name": name, "labels": { "app": app } }, "spec": spec })).await;
    };
    let placed =
        async |name: &str| node_of(&wait_for_pod(&pods, "the pod to be ready", |pod| pod.name_any() == name && is_ready(pod)).await);
    make("prober", "prober", json!({})).await;
    let prober = placed("prober").await;
    make("minds", "minds", json!({ "affinity": apart })).await;
    let minds = placed("minds").await;
    assert_ne!(minds, prober);
    make("likes", "likes", json!({ "affinity": near })).await;
    assert_eq!(placed("likes").await, prober);
    // A second one that is minded where it wants to go.
    make("second", "prober", json!({ "nodeSelector": { "kubernetes.io/hostname": minds } })).await;
    let waits = wait_for_pod(&pods, "the second to be refused", |pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        pod.name_any() == "second" && conditions.into_iter().any(|one| one.type_ == "PodScheduled" && one.status == "False")
    })
    .await;
    let conditions = waits.status.unwrap().conditions.unwrap();
    let message = conditions.iter().find(|one| one.type_ == "PodScheduled").unwrap().message.clone().unwrap();
    assert!(message.starts_with("0/4 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules, "), "{message}");
}

#[tokio::test]
async fn a_pod_whose_volume_is_on_a_dead_node_waits_and_says_why() {
    let (_sandbox, client) = sandbox(SPEED).await;
    let classes = Api::<StorageClass>::all(client.clone());
    let class =
        json!({ "metadata": { "name": "local" }, "provisioner": "rancher.io/local-path", "volumeBindingMode": "WaitForFirstConsumer" });
    create(&classes, class).await;
    let term = json!({ "matchExpressions": [{ "key": "kubernetes.io/hostname", "operator": "In", "values": ["worker-1"] }] });
    let volume = json!({ "metadata": { "name": "pinned" }, "spec": {
        "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "storageClassName": "local", "hostPath": { "path": "/data" },
        "nodeAffinity": { "required": { "nodeSelectorTerms": [term] } },
    } });
    create(&Api::<PersistentVolume>::all(client.clone()), volume).await;
    let claim = json!({ "metadata": { "name": "data" }, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "local", "resources": { "requests": { "storage": "1Gi" } },
    } });
    create(&Api::<PersistentVolumeClaim>::default_namespaced(client.clone()), claim).await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let pod = |name: &str| {
        json!({ "metadata": { "name": name }, "spec": {
            "containers": [{ "name": "c", "image": "comeback", "args": ["sandbox-pause"], "volumeMounts": [{ "name": "data", "mountPath": "/data" }] }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }],
        } })
    };
    create(&pods, pod("first")).await;
    let first = wait_for_pod(&pods, "the pod to be ready", is_ready).await;
    assert_eq!(node_of(&first), "worker-1");
    assert!(
        Api::<VolumeAttachment>::all(client.clone()).list(&ListParams::default()).await.unwrap().items.is_empty(),
        "a directory is not attached"
    );
    switch(&client, "worker-1", "off").await.unwrap();
    let nodes = Api::<Node>::all(client.clone());
    wait_until(&nodes, "worker-1", "is tainted", |node: Option<&Node>| node.is_some_and(|node| taints(node).len() == 2)).await;
    create(&pods, pod("second")).await;
    let unschedulable = |pod: &Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut told = conditions.filter(|one| one.type_ == "PodScheduled" && one.status == "False");
        told.next().and_then(|one| one.message.clone())
    };
    let second = wait_for_pod(&pods, "the second to be refused", |pod| unschedulable(pod).is_some()).await;
    assert_eq!(
        unschedulable(&second).unwrap(),
        "0/4 nodes are available: 1 node(s) had untolerated taint(s), 3 node(s) didn't satisfy plugin(s) [VolumeBinding]. preemption: 0/4 nodes are \
         available: 4 Preemption is not helpful for scheduling."
    );
}

#[tokio::test]
async fn a_cordon_is_a_taint() {
    let (_sandbox, client) = sandbox(SPEED).await;
    let nodes = Api::<Node>::all(client.clone());
    nodes.cordon("worker-1").await.unwrap();
    let tainted =
        wait_until(&nodes, "worker-1", "is tainted", |node: Option<&Node>| node.is_some_and(|node| !taints(node).is_empty())).await;
    assert_eq!(taints(&tainted.unwrap()), [("node.kubernetes.io/unschedulable".to_owned(), "NoSchedule".to_owned())]);
    nodes.uncordon("worker-1").await.unwrap();
    wait_until(&nodes, "worker-1", "is not tainted", |node: Option<&Node>| node.is_some_and(|node| taints(node).is_empty())).await;
}
