//! The embedded cluster: its own paths beside the Kubernetes API.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::{Container, Defaults, Hurt, PlatformError, Power, Signalled, Way, processes::FIRST_NAME};
use crate::{
    cluster::{Cluster, ClusterError},
    event::Fact,
};

/// The sandbox, through its API server.
#[derive(Debug)]
pub struct SandboxPlatform {
    pub(super) cluster: Cluster,
}

/// The processes of a container.
#[derive(Deserialize)]
struct Processes {
    processes: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    pid: i32,
    comm: String,
    #[serde(default)]
    role: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    signalled: Vec<Signalled>,
}

/// What the sandbox tells of a hurt, or of what it did.
#[derive(Deserialize)]
struct HurtAnswer {
    #[serde(default)]
    facts: Vec<Fact>,
    #[serde(default)]
    done: String,
}

#[derive(Deserialize)]
struct PowerAnswer {
    state: Power,
}

impl SandboxPlatform {
    /// Its timers run twenty times as fast as Kubernetes' own, so that a trial takes seconds; the proportions are kept.
    pub const DEFAULTS: Defaults = Defaults {
        steady_for: Duration::from_millis(400),
        stable_for: Duration::from_millis(400),
        give_up_after: Duration::from_secs(15),
        heartbeat: Duration::from_millis(500),
        start_within: Duration::from_secs(30),
        undo_within: Duration::from_secs(10),
        lasting: Duration::from_secs(1),
    };

    /// The sandbox behind this client.
    #[must_use]
    pub const fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    /// The way to a process that is there.
    pub(super) async fn aim_signal(&self, at: &Container<'_>, process: &str) -> Result<Way, PlatformError> {
        let Container { namespace, pod, container, .. } = at;
        let path = format!("/comeback/v1/namespaces/{namespace}/pods/{pod}/containers/{container}/processes");
        let request = http::Request::get(path).body(Vec::new()).expect("the path is made of names that Kubernetes accepts");
        let what = format!("list the processes of container `{container}` of pod `{pod}`");
        let there = self.cluster.call(what, self.cluster.client().request::<Processes>(request)).await?.processes;
        let is_meant = |one: &Listed| process == FIRST_NAME || one.comm == process || one.role.as_deref() == Some(process);
        if there.iter().any(is_meant) {
            return Ok(Way::Sandbox);
        }
        let all: Vec<String> = there.iter().map(|one| format!("{} ({})", one.comm, one.pid)).collect();
        let running = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        Err(PlatformError::NoProcess { process: process.to_owned(), pod: (*pod).to_owned(), running })
    }

    pub(super) async fn signal(&self, at: &Container<'_>, process: &str, signal: &str) -> Result<Vec<Signalled>, ClusterError> {
        let Container { namespace, pod, container, .. } = at;
        let what = format!("send {signal} to process `{process}` in container `{container}` of pod `{pod}`");
        let path = format!("/comeback/v1/namespaces/{namespace}/pods/{pod}/containers/{container}/signal");
        let body = json!({"process": process, "signal": signal}).to_string();
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.into_bytes())
            .expect("the path is made of names that Kubernetes accepts");
        let answer = self.cluster.call(what, self.cluster.client().request::<Answer>(request)).await?;
        Ok(answer.signalled)
    }

    pub(super) async fn begin(&self, hurt: &Hurt, at_most: Duration) -> Result<(), ClusterError> {
        let body = json!({"verb": "begin", "hurt": hurt, "atMostMs": u64::try_from(at_most.as_millis()).unwrap_or(u64::MAX)});
        self.hurt(format!("begin: {hurt}"), &body).await.map(drop)
    }

    pub(super) async fn end(&self, hurt: &Hurt) -> Result<(), ClusterError> {
        self.hurt(format!("mend: {hurt}"), &json!({"verb": "end", "hurt": hurt})).await.map(drop)
    }

    pub(super) async fn look(&self, hurt: &Hurt) -> Result<Vec<Fact>, ClusterError> {
        Ok(self.hurt(format!("look at: {hurt}"), &json!({"verb": "look", "hurt": hurt})).await?.facts)
    }

    pub(super) async fn reset_connections(&self, address: &str) -> Result<String, ClusterError> {
        let what = format!("reset the connections to `{address}`");
        Ok(self.hurt(what, &json!({"verb": "reset", "address": address})).await?.done)
    }

    pub(super) async fn exhaust_memory(&self, at: &Container<'_>) -> Result<String, ClusterError> {
        let Container { namespace, pod, container, .. } = at;
        let what = format!("take the memory of container `{container}` of pod `{pod}`");
        let body = json!({"verb": "exhaust", "namespace": namespace, "pod": pod, "container": container});
        Ok(self.hurt(what, &body).await?.done)
    }

    async fn hurt(&self, what: String, body: &serde_json::Value) -> Result<HurtAnswer, ClusterError> {
        let request = http::Request::post("/comeback/v1/hurts")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .expect("the path is constant");
        self.cluster.call(what, self.cluster.client().request::<HurtAnswer>(request)).await
    }

    pub(super) async fn power(&self, node: &str) -> Result<Power, ClusterError> {
        let request = http::Request::get(format!("/comeback/v1/nodes/{node}/power"))
            .body(Vec::new())
            .expect("the path is made of a name that Kubernetes accepts");
        let what = format!("ask for the power of node `{node}`");
        Ok(self.cluster.call(what, self.cluster.client().request::<PowerAnswer>(request)).await?.state)
    }

    pub(super) async fn switch(&self, node: &str, power: Power) -> Result<(), ClusterError> {
        let what = format!("switch node `{node}` {power}");
        let request = http::Request::post(format!("/comeback/v1/nodes/{node}/power"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(json!({"state": power}).to_string().into_bytes())
            .expect("the path is made of a name that Kubernetes accepts");
        self.cluster.call(what, self.cluster.client().request_text(request)).await.map(drop)
    }
}
