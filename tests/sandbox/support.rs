//! What the tests of the sandbox share: waiting with a deadline, a workload, a signal.

use std::{
    fmt::Debug,
    future::Future,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use comeback::sandbox::{Options, Sandbox};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{PersistentVolumeClaim, Pod, Secret, Service},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams, PostParams},
    core::GroupVersionKind,
    discovery::ApiResource,
    runtime::{wait::Condition, watcher},
};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// Anything that a healthy sandbox does is done within this, on any machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// What must have died is dead within this.
pub(crate) const DEAD_WITHIN: Duration = Duration::from_secs(2);
/// How often something that cannot be watched is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// The program that pods run.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_comeback");

/// Starts a sandbox whose timers run so many times as fast as Kubernetes'.
pub(crate) async fn sandbox(speed: u32) -> (Sandbox, Client) {
    start(Options { speed, ..Options::new(PROGRAM) }).await
}

/// Starts a sandbox.
pub(crate) async fn start(options: Options) -> (Sandbox, Client) {
    let sandbox = Sandbox::start(options).await.expect("the sandbox starts");
    let client = sandbox.client().await.expect("a client from its kubeconfig");
    (sandbox, client)
}

/// Waits, but not for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("waited {SOON:?} for {what}"))
}

/// Waits until the object of that name is as it should be, by watching it; the deadline's panic shows how it was.
pub(crate) async fn wait_until<K>(api: &Api<K>, name: &str, what: &str, condition: impl Condition<K>) -> Option<K>
where
    K: kube::Resource + Clone + Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let waiting = kube::runtime::wait::await_condition(api.clone(), name, condition);
    match tokio::time::timeout(SOON, waiting).await {
        Ok(outcome) => outcome.expect("the watch holds"),
        Err(elapsed) => panic!("waited {SOON:?} until {name} {what} ({elapsed}); it is {:#?}", api.get_opt(name).await),
    }
}

/// Waits until a pod of the namespace is as it should be, by watching all of them.
pub(crate) async fn wait_for_pod(pods: &Api<Pod>, what: &str, is_it: impl Fn(&Pod) -> bool) -> Pod {
    use futures::StreamExt;
    soon(what, async {
        let mut events = watcher(pods.clone(), watcher::Config::default()).boxed();
        loop {
            match events.next().await.expect("a watch has no end").expect("the watch holds") {
                watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) if is_it(&pod) => return pod,
                _ => {}
            }
        }
    })
    .await
}

/// Looks again and again until it is so.
pub(crate) async fn until(what: &str, within: Duration, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + within;
    while !is_so().await {
        assert!(Instant::now() < deadline, "waited {within:?} until {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Makes an object from JSON.
pub(crate) async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: kube::Resource + Clone + Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let object = serde_json::from_value(object).expect("the object is of its kind");
    api.create(&PostParams::default(), &object).await.expect("the object is accepted")
}

/// The workload as the guide has it: a Secret, a claim, a Deployment of one replica with `args`, a Service on port 1433.
pub(crate) async fn deploy(client: &Client, args: Value, grace: i64) {
    let api = Api::<Secret>::default_namespaced(client.clone());
    create(&api, json!({ "metadata": { "name": "mssql" }, "stringData": { "password": "x" } })).await;
    let api = Api::<PersistentVolumeClaim>::default_namespaced(client.clone());
    let spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "8Gi" } } });
    create(&api, json!({ "metadata": { "name": "mssql-data" }, "spec": spec })).await;
    let api = Api::<Service>::default_namespaced(client.clone());
    create(&api, json!({ "metadata": { "name": "mssql" }, "spec": { "selector": { "app": "mssql" }, "ports": [{ "port": 1433 }] } })).await;
    let api = Api::<Deployment>::default_namespaced(client.clone());
    create(
        &api,
        json!({ "metadata": { "name": "mssql" }, "spec": {
        "replicas": 1, "strategy": { "type": "Recreate" }, "selector": { "matchLabels": { "app": "mssql" } },
        "template": { "metadata": { "labels": { "app": "mssql" } }, "spec": {
            "terminationGracePeriodSeconds": grace,
            "containers": [{
                "name": "mssql", "image": "comeback", "args": args,
                "env": [{ "name": "PASSWORD", "valueFrom": { "secretKeyRef": { "name": "mssql", "key": "password" } } }],
                "readinessProbe": { "tcpSocket": { "port": 1433 }, "periodSeconds": 1 },
                "volumeMounts": [{ "name": "data", "mountPath": "/var/opt/mssql" }],
            }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "mssql-data" } }],
        } },
    } }),
    )
    .await;
}

/// What `sandbox-pause` needs to stand in for SQL Server: two processes of its name, and its port.
pub(crate) fn server() -> Value {
    json!(["sandbox-pause", "--port", "1433", "--comm", "sqlservr", "--child"])
}

/// A pod on its own that runs `args`.
pub(crate) async fn run_pod(client: &Client, name: &str, args: Value, grace: i64) -> Pod {
    let spec = json!({
        "terminationGracePeriodSeconds": grace, "containers": [{ "name": "c", "image": "comeback", "args": args }],
    });
    create(&Api::<Pod>::default_namespaced(client.clone()), json!({ "metadata": { "name": name }, "spec": spec })).await
}

/// Whether the condition `Ready` is true.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none() && conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// Waits for the one pod of the workload to be ready, and not to be the one with that uid.
pub(crate) async fn ready_pod(client: &Client, not: &str) -> Pod {
    let pods = Api::<Pod>::default_namespaced(client.clone());
    wait_for_pod(&pods, "a ready pod", |pod| is_ready(pod) && pod.uid().as_deref() != Some(not)).await
}

/// The service's address.
pub(crate) async fn service_address(client: &Client) -> SocketAddr {
    let service = Api::<Service>::default_namespaced(client.clone()).get("mssql").await.expect("the service is there");
    let address = service.spec.and_then(|spec| spec.cluster_ip).expect("it has an address");
    SocketAddr::new(address.parse().expect("the address is one"), 1433)
}

/// What the server behind an address says when it is connected to.
pub(crate) async fn greeting(at: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    let mut text = Vec::new();
    while !text.ends_with(b"\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        text.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

/// Asks the sandbox's own path about the processes of a container.
pub(crate) async fn processes(client: &Client, pod: &str, container: &str) -> Result<Value, kube::Error> {
    let path = format!("/comeback/v1/namespaces/default/pods/{pod}/containers/{container}/processes");
    client.request(http::Request::get(path).body(Vec::new()).expect("a request")).await
}

/// Sends a signal through the sandbox's own path.
pub(crate) async fn signal(client: &Client, pod: &str, container: &str, process: &str, signal: &str) -> Result<Value, kube::Error> {
    let path = format!("/comeback/v1/namespaces/default/pods/{pod}/containers/{container}/signal");
    let body = json!({ "process": process, "signal": signal }).to_string().into_bytes();
    client.request(http::Request::post(path).body(body).expect("a request")).await
}

/// Asks how a node's power is.
pub(crate) async fn power(client: &Client, node: &str) -> Result<Value, kube::Error> {
    let path = format!("/comeback/v1/nodes/{node}/power");
    client.request(http::Request::get(path).body(Vec::new()).expect("a request")).await
}

/// Switches a node's power; it is in force when this returns.
pub(crate) async fn switch(client: &Client, node: &str, state: &str) -> Result<Value, kube::Error> {
    let path = format!("/comeback/v1/nodes/{node}/power");
    let body = json!({ "state": state }).to_string().into_bytes();
    client.request(http::Request::post(path).body(body).expect("a request")).await
}

/// The process ids in an answer of [`processes`].
pub(crate) fn pids(answer: &Value) -> Vec<i64> {
    answer["processes"].as_array().into_iter().flatten().filter_map(|one| one["pid"].as_i64()).collect()
}

/// Whether a process of ours is there: not a zombie, and not a stranger that was given its id.
pub(crate) fn is_alive(pid: i64) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    let is_ours = std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(PROGRAM));
    is_ours && state != Some('Z')
}

/// The reasons of the events about an object.
pub(crate) async fn reasons(client: &Client, name: &str) -> Vec<String> {
    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Event"), "events");
    let events = Api::<DynamicObject>::default_namespaced_with(client.clone(), &kind);
    let list = events.list(&ListParams::default().fields(&format!("involvedObject.name={name}"))).await.expect("events are listed");
    list.items.iter().filter_map(|event| event.data["reason"].as_str().map(str::to_owned)).collect()
}

/// The code of an API refusal.
pub(crate) fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("not a refusal of the API: {other:?}"),
    }
}
