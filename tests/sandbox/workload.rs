//! A workload that is hurt and comes back: restarts, drains, deletions, the service in front of it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use comeback::sandbox::{Defect, Options};
use futures::StreamExt;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Node, Pod, Service},
    storage::v1::VolumeAttachment,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams},
    runtime::conditions,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    DEAD_WITHIN, PROGRAM, SOON, code, deploy, greeting, is_alive, is_ready, pids, processes, ready_pod, reasons, run_pod, sandbox, server,
    service_address, signal, soon, start, until, wait_for_pod, wait_until,
};

fn node_of(pod: &Pod) -> String {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).expect("the pod has a node")
}

fn container(pod: &Pod) -> &k8s_openapi::api::core::v1::ContainerStatus {
    &pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()).expect("the kubelet has told")[0]
}

fn waiting_reason(pod: &Pod) -> Option<&str> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}

#[tokio::test]
async fn a_workload_answers_through_its_service_and_refuses_when_there_is_nobody() {
    let (_sandbox, client) = sandbox(20).await;
    deploy(&client, server(), 30).await;
    let pod = ready_pod(&client, "").await;
    let service = service_address(&client).await;
    until("the service answers", SOON, async || greeting(service).await.is_ok()).await;
    assert_eq!(greeting(service).await.unwrap(), pod.name_any());

    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    deployments.patch("mssql", &PatchParams::default(), &Patch::Merge(json!({ "spec": { "replicas": 0 } }))).await.unwrap();
    let pods = Api::<Pod>::default_namespaced(client.clone());
    wait_until(&pods, &pod.name_any(), "is gone", conditions::is_deleted(&pod.uid().unwrap())).await;
    let error = greeting(service).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "nobody listens: {error}");
}

#[tokio::test]
async fn a_connection_through_the_service_carries_both_ways_and_a_half_close() {
    let (_sandbox, client) = sandbox(20).await;
    deploy(&client, server(), 30).await;
    ready_pod(&client, "").await;
    let service = service_address(&client).await;
    until("the service answers", SOON, async || greeting(service).await.is_ok()).await;
    let mut stream = TcpStream::connect(service).await.unwrap();
    stream.write_all(b"over and out").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    soon("the echo", stream.read_to_string(&mut text)).await.unwrap();
    assert!(text.ends_with("over and out"), "{text}");
}

#[tokio::test]
async fn a_killed_engine_takes_its_container_with_it_and_the_container_is_started_again() {
    let (_sandbox, client) = sandbox(20).await;
    deploy(&client, server(), 30).await;
    let before = ready_pod(&client, "").await;
    let name = before.name_any();
    let old = pids(&processes(&client, &name, "mssql").await.unwrap());
    assert_eq!(old.len(), 2);
    let service = service_address(&client).await;
    until("the service answers", SOON, async || greeting(service).await.is_ok()).await;
    let mut open = TcpStream::connect(service).await.unwrap();

    let answer = signal(&client, &name, "mssql", "engine", "SIGKILL").await.unwrap();
    assert_eq!(answer["signalled"][0]["role"], "engine");
    assert_eq!(answer["signalled"].as_array().unwrap().len(), 1);
    until("both processes are dead", DEAD_WITHIN, async || !old.iter().any(|pid| is_alive(*pid))).await;
    // The connection ends with its peer, by a reset or an end of file.
    let mut rest = Vec::new();
    soon("the end of the connection", open.read_to_end(&mut rest)).await.ok();

    let pods = Api::<Pod>::default_namespaced(client.clone());
    let after = wait_for_pod(&pods, "the pod to be ready again", |pod| is_ready(pod) && container(pod).restart_count == 1).await;
    assert_eq!(after.uid(), before.uid());
    assert_ne!(container(&after).container_id, container(&before).container_id);
    let last = container(&after).last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (1, Some("Error")));
    assert_eq!(last.container_id, container(&before).container_id);
}

#[tokio::test]
async fn a_first_restart_shows_its_end() {
    let (_sandbox, client) = sandbox(20).await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    run_pod(&client, "p", json!(["sandbox-pause"]), 0).await;
    let ready = wait_for_pod(&pods, "the pod to be ready", is_ready).await;
    signal(&client, "p", "c", "comeback", "SIGKILL").await.unwrap();
    let mut changes = pods.watch(&WatchParams::default(), &ready.resource_version().unwrap()).await.unwrap().boxed();
    let mut ended = false;
    soon("the restart", async {
        loop {
            let WatchEvent::Modified(pod) = changes.next().await.unwrap().unwrap() else { panic!("the pod only changes") };
            ended |= container(&pod).state.as_ref().unwrap().terminated.is_some() && !is_ready(&pod);
            if container(&pod).restart_count == 1 {
                return;
            }
        }
    })
    .await;
    assert!(ended, "it went from one life to the next without an end");
}

#[tokio::test]
async fn a_signal_to_nobody_or_of_no_kind_is_refused() {
    let (_sandbox, client) = sandbox(20).await;
    deploy(&client, server(), 30).await;
    let name = ready_pod(&client, "").await.name_any();
    let error = signal(&client, &name, "mssql", "nosuch", "SIGKILL").await.unwrap_err();
    assert_eq!(code(&error), 404);
    assert!(error.to_string().contains("sqlservr ("), "it lists who is there: {error}");
    assert_eq!(code(&signal(&client, &name, "mssql", "engine", "SIGNOSUCH").await.unwrap_err()), 422);
    assert_eq!(code(&signal(&client, &name, "nosuch", "engine", "SIGKILL").await.unwrap_err()), 404);
    assert_eq!(pids(&processes(&client, &name, "mssql").await.unwrap()).len(), 2, "nobody was hurt");
}

#[tokio::test]
async fn a_drained_pod_comes_back_elsewhere_and_its_volume_follows() {
    let (sandbox, client) = sandbox(20).await;
    deploy(&client, server(), 30).await;
    let before = ready_pod(&client, "").await;
    let from = node_of(&before);
    let attachments = Api::<VolumeAttachment>::all(client.clone());
    let attached = async || {
        let list = attachments.list(&ListParams::default()).await.unwrap();
        list.items.into_iter().map(|one| (one.spec.source.persistent_volume_name.unwrap(), one.spec.node_name)).collect::<Vec<_>>()
    };
    let [(volume, node)] = attached().await.try_into().unwrap();
    assert_eq!(node, from);
    let file = sandbox.dir().join("volumes").join(&volume).join("written");
    std::fs::write(&file, "before").unwrap();

    let version = attachments.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let nodes = Api::<Node>::all(client.clone());
    nodes.cordon(&from).await.unwrap();
    let pods = Api::<Pod>::default_namespaced(client.clone());
    pods.evict(&before.name_any(), &EvictParams::default()).await.unwrap();
    let after = ready_pod(&client, &before.uid().unwrap()).await;
    assert_ne!(node_of(&after), from);
    assert_eq!(attached().await, [(volume, node_of(&after))]);
    // A kubelet that mounts at that very moment has to see that it is too late: it is told before the attachment goes.
    let mut changes = attachments.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let first = soon("a change", changes.next()).await.unwrap().unwrap();
    assert!(matches!(&first, WatchEvent::Modified(one) if !one.status.as_ref().unwrap().attached), "{first:?}");
    let second = soon("a change", changes.next()).await.unwrap().unwrap();
    assert!(matches!(second, WatchEvent::Deleted(_)), "{second:?}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "before");
    assert!(pods.get_opt(&before.name_any()).await.unwrap().is_none(), "one node at a time");
    nodes.uncordon(&from).await.unwrap();
    assert!(!nodes.get(&from).await.unwrap().spec.unwrap().unschedulable.unwrap_or_default());
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_waits_and_says_why() {
    let (_sandbox, client) = sandbox(20).await;
    let nodes = Api::<Node>::all(client.clone());
    for name in ["worker-1", "worker-2", "worker-3"] {
        nodes.cordon(name).await.unwrap();
    }
    run_pod(&client, "p", json!(["sandbox-pause"]), 0).await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let unschedulable = |pod: &Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions
            .into_iter()
            .any(|one| one.type_ == "PodScheduled" && one.status == "False" && one.reason.as_deref() == Some("Unschedulable"))
    };
    wait_for_pod(&pods, "the pod to be unschedulable", unschedulable).await;
    nodes.uncordon("worker-2").await.unwrap();
    assert_eq!(node_of(&wait_for_pod(&pods, "the pod to be ready", is_ready).await), "worker-2");
    assert!(reasons(&client, "p").await.contains(&"FailedScheduling".to_owned()));
}

#[tokio::test]
async fn a_container_that_keeps_failing_backs_off() {
    let (_sandbox, client) = sandbox(20).await;
    let began = Instant::now();
    run_pod(&client, "p", json!(["sandbox-pause", "--exit", "3"]), 0).await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    // The first restart is immediate; the second waits 10 s and the third 20 s of Kubernetes' time.
    let third = wait_for_pod(&pods, "the third restart to be awaited", |pod| {
        waiting_reason(pod) == Some("CrashLoopBackOff") && container(pod).restart_count == 2
    })
    .await;
    assert!(began.elapsed() >= Duration::from_secs(10) / 20, "{:?}", began.elapsed());
    let last = container(&third).last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    assert_eq!(third.status.as_ref().unwrap().phase.as_deref(), Some("Running"));
    assert!(reasons(&client, "p").await.contains(&"BackOff".to_owned()));
}

#[tokio::test]
async fn there_can_be_more_pods_in_a_run_than_there_are_addresses() {
    /// More than a /24 has, in rounds of as many as may run side by side.
    const ROUNDS: usize = 18;
    const AT_ONCE: usize = 16;
    let (_sandbox, client) = sandbox(20).await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    for round in 0..ROUNDS {
        let one = async |n: usize| {
            let name = format!("p-{round}-{n}");
            let made = run_pod(&client, &name, json!(["sandbox-pause"]), 30).await;
            wait_until(&pods, &name, "runs", conditions::is_pod_running()).await;
            pods.delete(&name, &DeleteParams::default()).await.unwrap();
            wait_until(&pods, &name, "is gone", conditions::is_deleted(&made.uid().unwrap())).await;
        };
        futures::future::join_all((0..AT_ONCE).map(one)).await;
    }
}

#[tokio::test]
async fn a_replaced_service_keeps_its_address() {
    let (_sandbox, client) = sandbox(20).await;
    let services = Api::<Service>::default_namespaced(client);
    let manifest = json!({ "metadata": { "name": "s" }, "spec": { "ports": [{ "port": 1433 }] } });
    let address = |service: &Service| service.spec.as_ref().unwrap().cluster_ip.clone().unwrap();
    let made = crate::support::create(&services, manifest.clone()).await;
    let again = services.replace("s", &kube::api::PostParams::default(), &serde_json::from_value(manifest).unwrap()).await.unwrap();
    assert_eq!(address(&made), address(&again));
}

#[tokio::test]
async fn a_service_whose_address_is_taken_says_so() {
    let (_sandbox, client) = sandbox(20).await;
    let everywhere = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = everywhere.local_addr().unwrap().port();
    deploy(&client, server(), 30).await;
    let services = Api::<Service>::default_namespaced(client.clone());
    let spec = json!({ "selector": { "app": "mssql" }, "ports": [{ "port": port, "targetPort": 1433 }] });
    crate::support::create(&services, json!({ "metadata": { "name": "other" }, "spec": spec })).await;
    until("it is told", SOON, async || reasons(&client, "other").await.contains(&"FailedToListen".to_owned())).await;
}

#[tokio::test]
async fn an_image_that_is_not_ours_is_not_pulled() {
    let (_sandbox, client) = sandbox(20).await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let spec = json!({ "containers": [{ "name": "c", "image": "mcr.microsoft.com/mssql/server:2022-latest" }] });
    crate::support::create(&pods, json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    let pod = wait_for_pod(&pods, "the back-off", |pod| waiting_reason(pod) == Some("ImagePullBackOff")).await;
    assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Pending"));
}

#[tokio::test]
async fn a_deleted_pod_has_its_grace_period_and_a_forced_one_runs_on_without_its_object() {
    let (_sandbox, client) = sandbox(20).await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let stubborn = json!(["sandbox-pause", "--ignore-term"]);
    // The process has to be there, and deaf, before it is told to stop.
    let listening = async |name: &str| {
        wait_for_pod(&pods, "the pod to be ready", |pod| pod.name_any() == name && is_ready(pod)).await;
        until("it is up", SOON, async || {
            pods.logs(name, &kube::api::LogParams::default()).await.is_ok_and(|log| log.contains("waiting as"))
        })
        .await;
    };

    let graceful = run_pod(&client, "graceful", stubborn.clone(), 20).await;
    listening("graceful").await;
    let pid = pids(&processes(&client, "graceful", "c").await.unwrap())[0];
    let began = Instant::now();
    pods.delete("graceful", &DeleteParams::default()).await.unwrap();
    wait_until(&pods, "graceful", "is gone", conditions::is_deleted(&graceful.uid().unwrap())).await;
    assert!(began.elapsed() >= Duration::from_secs(20) / 20, "it had its time: {:?}", began.elapsed());
    assert!(!is_alive(pid), "an object that is gone leaves no process");

    run_pod(&client, "forced", stubborn, 20).await;
    listening("forced").await;
    let pid = pids(&processes(&client, "forced", "c").await.unwrap())[0];
    let began = Instant::now();
    pods.delete("forced", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(pods.get_opt("forced").await.unwrap().is_none(), "the object goes at once");
    until("the process is dead", SOON, async || !is_alive(pid)).await;
    assert!(began.elapsed() >= Duration::from_secs(20) / 20, "a kubelet stops in order what it knew: {:?}", began.elapsed());
}

#[tokio::test]
async fn what_a_finished_pod_said_goes_with_its_object() {
    let (sandbox, client) = sandbox(20).await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let args = json!(["sandbox-pause", "--exit", "0"]);
    let spec = json!({ "restartPolicy": "Never", "containers": [{ "name": "c", "image": "comeback", "args": args }] });
    let made = crate::support::create(&pods, json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    wait_for_pod(&pods, "the pod to have ended", |pod| pod.status.as_ref().unwrap().phase.as_deref() == Some("Succeeded")).await;
    let directory = sandbox.dir().join("pods").join(made.uid().unwrap());
    assert!(directory.is_dir());
    pods.delete("p", &DeleteParams::default()).await.unwrap();
    until("its directory is removed", SOON, async || !directory.exists()).await;
}

#[tokio::test]
async fn a_failing_liveness_probe_restarts_the_container() {
    let (_sandbox, client) = sandbox(20).await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let probe = json!({ "exec": { "command": ["comeback", "sandbox-pause", "--exit", "1"] }, "periodSeconds": 1, "failureThreshold": 2 });
    let spec = json!({ "terminationGracePeriodSeconds": 30, "containers": [
        { "name": "c", "image": "comeback", "args": ["sandbox-pause"], "livenessProbe": probe },
    ] });
    crate::support::create(&pods, json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    wait_for_pod(&pods, "a restart", |pod| {
        pod.status.as_ref().is_some_and(|status| status.container_statuses.is_some()) && container(pod).restart_count >= 1
    })
    .await;
    let told = reasons(&client, "p").await;
    assert!(told.contains(&"Unhealthy".to_owned()) && told.contains(&"Killing".to_owned()), "{told:?}");
}

#[tokio::test]
async fn a_new_template_replaces_the_pod_and_recreate_never_runs_two() {
    let (_sandbox, client) = sandbox(20).await;
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    // Without a volume, which alone would keep the second one from running; and slow to stop, so that there is time for a second.
    let args = json!(["sandbox-pause", "--port", "1433", "--ignore-term"]);
    let template = json!({ "metadata": { "labels": { "app": "d" } }, "spec": {
        "terminationGracePeriodSeconds": 20, "containers": [{
            "name": "c", "image": "comeback", "args": args, "readinessProbe": { "tcpSocket": { "port": 1433 }, "periodSeconds": 1 },
        }],
    } });
    let spec = json!({
        "replicas": 1, "strategy": { "type": "Recreate" }, "selector": { "matchLabels": { "app": "d" } }, "template": template,
    });
    crate::support::create(&deployments, json!({ "metadata": { "name": "d" }, "spec": spec })).await;
    let before = ready_pod(&client, "").await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let version = pods.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    deployments.restart("d").await.unwrap();
    let mut changes = pods.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let mut unfinished = BTreeSet::from([before.uid().unwrap()]);
    let after = soon("another pod to be ready", async {
        loop {
            match changes.next().await.unwrap().unwrap() {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                    if matches!(phase, Some("Succeeded" | "Failed")) {
                        unfinished.remove(&pod.uid().unwrap());
                    } else {
                        unfinished.insert(pod.uid().unwrap());
                    }
                    assert!(unfinished.len() <= 1, "two at once: {pod:?}");
                    if is_ready(&pod) && pod.uid() != before.uid() {
                        return pod;
                    }
                }
                WatchEvent::Deleted(pod) => {
                    unfinished.remove(&pod.uid().unwrap());
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
    })
    .await;
    assert_ne!(after.labels()["pod-template-hash"], before.labels()["pod-template-hash"]);
    wait_until(&deployments, "d", "is complete", conditions::is_deployment_completed()).await;
}

#[tokio::test]
async fn a_rolling_update_keeps_enough_pods_available() {
    let (_sandbox, client) = sandbox(20).await;
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    crate::support::create(
        &deployments,
        json!({ "metadata": { "name": "d" }, "spec": {
        "replicas": 3, "selector": { "matchLabels": { "a": "b" } },
        "strategy": { "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
        "template": { "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{
            "name": "c", "image": "comeback", "args": ["sandbox-pause", "--port", "1433"],
            "readinessProbe": { "tcpSocket": { "port": 1433 }, "periodSeconds": 1 },
        }] } },
    } }),
    )
    .await;
    let complete = async || wait_until(&deployments, "d", "is complete", conditions::is_deployment_completed()).await.unwrap();
    complete().await;
    deployments.restart("d").await.unwrap();
    // Every state that is told has enough available pods and not too many in all.
    let sets = Api::<ReplicaSet>::default_namespaced(client.clone());
    let mut events = kube::runtime::watcher::watch_object(deployments.clone(), "d").boxed();
    let status = soon("the roll-out to be over", async {
        loop {
            let deployment = events.next().await.unwrap().unwrap().expect("it is there");
            let (status, generation) = (deployment.status.unwrap(), deployment.metadata.generation);
            assert!(status.available_replicas.unwrap_or_default() >= 3, "{status:?}");
            // What is asked for in all, and not `status.replicas`: that adds up what two sets said at different moments.
            let asked: i32 =
                sets.list(&ListParams::default()).await.unwrap().iter().map(|set| set.spec.as_ref().unwrap().replicas.unwrap()).sum();
            assert!(asked <= 4, "{asked} {status:?}");
            if status.observed_generation == generation && status.updated_replicas == Some(3) && status.replicas == Some(3) {
                return status;
            }
        }
    })
    .await;
    assert_eq!(status.available_replicas, Some(3));
    assert_eq!(complete().await.annotations()["deployment.kubernetes.io/revision"], "2");
}

#[tokio::test]
async fn what_a_deployment_owns_goes_with_it() {
    let (_sandbox, client) = sandbox(20).await;
    deploy(&client, server(), 30).await;
    let pod = ready_pod(&client, "").await;
    Api::<Deployment>::default_namespaced(client.clone()).delete("mssql", &DeleteParams::foreground()).await.unwrap();
    let pods = Api::<Pod>::default_namespaced(client.clone());
    wait_until(&pods, &pod.name_any(), "is gone", conditions::is_deleted(&pod.uid().unwrap())).await;
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    until("the deployment is gone", SOON, async || deployments.get_opt("mssql").await.unwrap().is_none()).await;
}

#[tokio::test]
async fn the_defect_of_a_changed_address_changes_it() {
    let (_sandbox, client) = start(Options { speed: 20, defect: Some(Defect::ChangeAddress), ..Options::new(PROGRAM) }).await;
    deploy(&client, server(), 30).await;
    let pod = ready_pod(&client, "").await;
    let services = Api::<Service>::default_namespaced(client.clone());
    let before = services.get("mssql").await.unwrap();
    Api::<Pod>::default_namespaced(client.clone()).delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    ready_pod(&client, &pod.uid().unwrap()).await;
    until("the service is another", SOON, async || {
        services
            .get_opt("mssql")
            .await
            .unwrap()
            .is_some_and(|after| after.uid() != before.uid() && after.spec.unwrap().cluster_ip != before.spec.as_ref().unwrap().cluster_ip)
    })
    .await;
    let service = service_address(&client).await;
    until("the new service answers", SOON, async || greeting(service).await.is_ok()).await;
}

#[tokio::test]
async fn the_defect_of_an_undo_that_fails_leaves_the_node_cordoned() {
    let (_sandbox, client) = start(Options { defect: Some(Defect::UndoFails), ..Options::new(PROGRAM) }).await;
    let nodes = Api::<Node>::all(client);
    nodes.cordon("worker-1").await.unwrap();
    assert_eq!(code(&nodes.uncordon("worker-1").await.unwrap_err()), 500);
    assert_eq!(nodes.get("worker-1").await.unwrap().spec.unwrap().unschedulable, Some(true));
}
