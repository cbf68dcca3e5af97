//! `breakEndpoints`: the service in front of the database matches no pod for a while, as after a typing error in its selector.
//!
//! Breaks: new connections are refused although the database serves; those that are open go on. Undone by giving the service the selector that it had.

use std::collections::BTreeMap;

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::api::ListParams;
use tokio::time::{Instant, sleep};

use super::{Aim, Fault, FaultError, Scene, Undo, undo::set_selector};
use crate::{cluster::ClusterError, event::Fact, scenario::BreakEndpoints};

/// A label that no pod has.
const NOWHERE: (&str, &str) = ("comeback.dev/fault", "matches-nothing");
/// The label that says to which service a slice belongs.
const OF_SERVICE: &str = "kubernetes.io/service-name";
const LOOK_PERIOD: std::time::Duration = std::time::Duration::from_millis(100);

impl Fault for BreakEndpoints {
    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let (namespace, service) = (scene.cluster.target.namespace.clone(), scene.cluster.target.service.clone());
        let object = scene.cluster.call(format!("read service `{service}`"), scene.cluster.namespaced::<Service>().get(&service)).await?;
        let selector = object.spec.and_then(|spec| spec.selector).filter(|selector| !selector.is_empty());
        let selector =
            selector.ok_or_else(|| ClusterError::Incomplete { what: format!("service `{service}`"), missing: "selector to break" })?;
        if selector.get(NOWHERE.0).map(String::as_str) == Some(NOWHERE.1) {
            return Err(FaultError::NotPossible(format!(
                "service `{service}` matches nothing already: let this come when that has been undone"
            )));
        }
        let what = format!("service `{service}` in front of pod `{}`", pod.name);
        let undo = vec![Undo::RestoreSelector { namespace, service, selector }];
        Ok(Aim { undo, ..Aim::at(what, "kubernetes api: patch service", pod) })
    }

    async fn inject(&self, scene: &Scene<'_>, _aim: &Aim) -> Result<String, FaultError> {
        let target = &scene.cluster.target;
        let nowhere = BTreeMap::from([(NOWHERE.0.to_owned(), NOWHERE.1.to_owned())]);
        set_selector(scene.cluster, &target.namespace, &target.service, &nowhere).await?;
        Ok(format!("service `{}` was given a selector that matches nothing", target.service))
    }

    async fn witness(&self, scene: &Scene<'_>, _aim: &Aim) -> Result<Vec<Fact>, FaultError> {
        let service = &scene.cluster.target.service;
        let params = ListParams::default().labels(&format!("{OF_SERVICE}={service}"));
        let slices = scene
            .cluster
            .call(format!("list the endpoints of service `{service}`"), scene.cluster.namespaced::<EndpointSlice>().list(&params))
            .await?;
        let endpoints = slices.items.iter().flat_map(|slice| &slice.endpoints);
        let ready = endpoints.filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true)).count();
        Ok(vec![Fact { what: format!("ready endpoints of service `{service}`"), value: ready.to_string() }])
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        let end = Instant::now() + scene.patience;
        while Instant::now() < end && !scene.stop.is_cancelled() {
            if let Ok(facts) = self.witness(scene, aim).await
                && facts.iter().all(|fact| fact.value == "0")
            {
                return Some("the service has no ready endpoint".to_owned());
            }
            sleep(LOOK_PERIOD).await;
        }
        None
    }
}
