//! Disruption budgets: evictions that are not allowed now.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, EvictParams},
    runtime::conditions,
};
use serde_json::json;

use crate::support::{code, create, deploy, ready_pod, sandbox, server, wait_until};

fn status(budget: &PodDisruptionBudget) -> Option<(i32, i32, i32, i32)> {
    let status = budget.status.as_ref()?;
    let is_current = status.observed_generation == budget.metadata.generation;
    is_current.then_some((status.disruptions_allowed, status.current_healthy, status.desired_healthy, status.expected_pods))
}

#[tokio::test]
async fn a_pod_that_is_needed_is_not_evicted_and_can_be_deleted() {
    let (_sandbox, client) = sandbox(50).await;
    deploy(&client, server(), 30).await;
    let pod = ready_pod(&client, "").await;
    let budgets = Api::<PodDisruptionBudget>::default_namespaced(client.clone());
    let spec = json!({ "minAvailable": 1, "selector": { "matchLabels": { "app": "mssql" } } });
    create(&budgets, json!({ "metadata": { "name": "mssql" }, "spec": spec })).await;
    let is = |wanted| move |budget: Option<&PodDisruptionBudget>| budget.and_then(status) == Some(wanted);
    wait_until(&budgets, "mssql", "allows nothing", is((0, 1, 1, 1))).await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let kube::Error::Api(refusal) = pods.evict(&pod.name_any(), &EvictParams::default()).await.unwrap_err() else {
        panic!("the API refuses")
    };
    assert_eq!((refusal.code, refusal.reason.as_str()), (429, "TooManyRequests"));
    assert_eq!(refusal.message, "Cannot evict pod as it would violate the pod's disruption budget.");
    let cause = &refusal.details.as_ref().unwrap().causes[0];
    assert_eq!(cause.reason, "DisruptionBudget");
    assert_eq!(cause.message, "The disruption budget mssql needs 1 healthy pods and has 1 currently");
    assert_eq!(pods.get(&pod.name_any()).await.unwrap().uid(), pod.uid());

    // A budget is about evictions only.
    pods.delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    ready_pod(&client, &pod.uid().unwrap()).await;
}

#[tokio::test]
async fn a_budget_with_room_lets_one_go_and_the_next_waits() {
    let (_sandbox, client) = sandbox(50).await;
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    let object = json!({ "metadata": { "name": "d" }, "spec": {
        "replicas": 3, "selector": { "matchLabels": { "app": "d" } },
        "template": { "metadata": { "labels": { "app": "d" } }, "spec": {
            "containers": [{ "name": "c", "image": "comeback", "args": ["sandbox-pause"] }],
        } },
    } });
    create(&deployments, object).await;
    let budgets = Api::<PodDisruptionBudget>::default_namespaced(client.clone());
    let spec = json!({ "maxUnavailable": 1, "selector": { "matchLabels": { "app": "d" } } });
    create(&budgets, json!({ "metadata": { "name": "d" }, "spec": spec })).await;
    let is = |wanted| move |budget: Option<&PodDisruptionBudget>| budget.and_then(status) == Some(wanted);
    wait_until(&budgets, "d", "allows one", is((1, 3, 2, 3))).await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let [first, second] = {
        let mut list = pods.list(&kube::api::ListParams::default()).await.unwrap().items.into_iter();
        [list.next().unwrap(), list.next().unwrap()]
    };
    // There is no place for a replacement: the budget stays used up.
    let nodes = Api::<Node>::all(client.clone());
    for node in ["worker-1", "worker-2", "worker-3"] {
        nodes.cordon(node).await.unwrap();
    }
    pods.evict(&first.name_any(), &EvictParams::default()).await.unwrap();
    let error = pods.evict(&second.name_any(), &EvictParams::default()).await.unwrap_err();
    assert_eq!(code(&error), 429);
    wait_until(&pods, &first.name_any(), "is gone", conditions::is_deleted(&first.uid().unwrap())).await;
    nodes.uncordon("worker-1").await.unwrap();
    wait_until(&budgets, "d", "allows one again", is((1, 3, 2, 3))).await;
    let evicted = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": second.name_any() } });
    let path = format!("/api/v1/namespaces/default/pods/{}/eviction", second.name_any());
    let request = http::Request::post(path).body(evicted.to_string().into_bytes()).unwrap();
    let answer: serde_json::Value = client.request(request).await.unwrap();
    assert_eq!(answer["status"], "Success");
}
