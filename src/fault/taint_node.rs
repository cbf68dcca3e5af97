//! `taintNode`: a node has a taint for a while.
//!
//! Breaks: with `NoExecute` the database's pod, which does not tolerate it, is deleted and comes back elsewhere; with `NoSchedule` nothing, as long as the
//! pod stays where it is. Undone by taking the taint away.

use k8s_openapi::api::core::v1::Taint;

use super::{
    Aim, Fault, FaultError, Scene, Undo,
    nodes::{Harm, TAINT, one_victim, with_pod},
    pod_ended,
    undo::set_taints,
};
use crate::{
    event::Fact,
    scenario::{TaintEffect, TaintNode},
};

/// How often the node is looked at.
const LOOK_PERIOD: std::time::Duration = std::time::Duration::from_millis(100);
const CONFLICT: u16 = 409;

impl Fault for TaintNode {
    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let harm = if self.effect == TaintEffect::NoExecute { Harm::Evicts } else { Harm::Spares };
        let node = one_victim(scene, &self.node, &pod, harm).await?;
        let undo = vec![Undo::RemoveTaint { node: node.clone(), key: TAINT.to_owned(), effect: self.effect.name().to_owned() }];
        let what = format!("node `{node}`{}", with_pod(&node, &pod));
        let mechanism = format!("kubernetes api: taint {TAINT}:{}", self.effect.name());
        Ok(Aim { node: Some(node), undo, ..Aim::at(what, mechanism, pod) })
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        let node = aim.node.as_deref().expect("aiming has chosen the node");
        let effect = self.effect.name();
        loop {
            let object = scene.cluster.node(node).await?;
            let mut taints = object.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
            if !taints.iter().any(|taint| taint.key == TAINT && taint.effect == effect) {
                taints.push(Taint { key: TAINT.to_owned(), value: None, effect: effect.to_owned(), time_added: None });
            }
            match set_taints(scene.cluster, &format!("taint node `{node}`"), &object, &taints).await {
                Ok(()) => return Ok(format!("node `{node}` was tainted")),
                // Somebody changed the node in between: it is read anew.
                Err(error) if error.status() == Some(CONFLICT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn witness(&self, scene: &Scene<'_>, aim: &Aim) -> Result<Vec<Fact>, FaultError> {
        let node = aim.node.as_deref().expect("aiming has chosen the node");
        let taints = scene.cluster.node(node).await?.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let there = taints.iter().any(|taint| taint.key == TAINT && taint.effect == self.effect.name());
        let value = if there { format!("{TAINT}:{}", self.effect.name()) } else { "none".to_owned() };
        Ok(vec![Fact { what: format!("our taint of node `{node}`"), value }])
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        if self.effect == TaintEffect::NoExecute && aim.pod.node == aim.node {
            return pod_ended(scene, &aim.pod).await;
        }
        let end = tokio::time::Instant::now() + scene.patience;
        while tokio::time::Instant::now() < end {
            if scene.stop.is_cancelled() {
                return None;
            }
            if let Ok(facts) = self.witness(scene, aim).await
                && let Some(fact) = facts.into_iter().find(|fact| fact.value != "none")
            {
                return Some(format!("{}: {}", fact.what, fact.value));
            }
            tokio::time::sleep(LOOK_PERIOD).await;
        }
        None
    }
}
