//! The embedded cluster: its own paths beside the Kubernetes API.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::{Container, Defaults, Power, Signalled};
use crate::{
    cluster::{Cluster, ClusterError},
    scenario::Signal,
};

/// The sandbox, through its API server.
#[derive(Debug)]
pub struct SandboxPlatform {
    cluster: Cluster,
}

#[derive(Deserialize)]
struct Answer {
    signalled: Vec<Signalled>,
}

#[derive(Deserialize)]
struct PowerAnswer {
    state: Power,
}

impl SandboxPlatform {
    /// Its timers run ten times as fast as Kubernetes' own, so that a trial takes seconds; the proportions are kept.
    pub const DEFAULTS: Defaults = Defaults {
        steady_for: Duration::from_secs(1),
        stable_for: Duration::from_secs(1),
        give_up_after: Duration::from_secs(15),
        heartbeat: Duration::from_secs(1),
        start_within: Duration::from_secs(30),
        undo_within: Duration::from_secs(10),
    };

    /// The sandbox behind this client.
    #[must_use]
    pub const fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    pub(super) async fn signal(&self, at: &Container<'_>, process: &str, signal: Signal) -> Result<Vec<Signalled>, ClusterError> {
        let Container { namespace, pod, container, .. } = at;
        let what = format!("send {} to process `{process}` in container `{container}` of pod `{pod}`", signal.name());
        let path = format!("/comeback/v1/namespaces/{namespace}/pods/{pod}/containers/{container}/signal");
        let body = json!({"process": process, "signal": signal.name()}).to_string();
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.into_bytes())
            .expect("the path is made of names that Kubernetes accepts");
        let answer = self.cluster.call(what, self.cluster.client().request::<Answer>(request)).await?;
        Ok(answer.signalled)
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
