//! `scaleToZero`: the workload is scaled to nothing for a while, as somebody does who saves money, or means another namespace.
//!
//! Breaks: the pod ends in good order, and none comes in its place. Clients are refused until it is scaled back. Undone by giving the workload the count that
//! it had.

use super::{Aim, Fault, FaultError, Scene, Undo, pod_ended, workload::WorkloadName};
use crate::{cluster::pod_facts, event::Fact, scenario::ScaleToZero};

impl Fault for ScaleToZero {
    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let object = scene.cluster.pod().await?;
        let workload = WorkloadName::of(scene, &object).await?;
        let replicas = workload.stand(scene.cluster).await?.wanted;
        let pod = pod_facts(&object, &scene.cluster.target.container);
        let what = format!("{} with pod `{}`", workload.text(), pod.name);
        let undo = vec![Undo::Scale { workload, replicas }];
        Ok(Aim { undo, ..Aim::at(what, "kubernetes api: scale", pod) })
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        let Some(Undo::Scale { workload, .. }) = aim.undo.first() else { unreachable!("aiming has said what is scaled back") };
        workload.scale(scene.cluster, 0).await?;
        Ok(format!("{} was scaled to 0", workload.text()))
    }

    async fn witness(&self, scene: &Scene<'_>, aim: &Aim) -> Result<Vec<Fact>, FaultError> {
        let Some(Undo::Scale { workload, .. }) = aim.undo.first() else { unreachable!("aiming has said what is scaled back") };
        let stand = workload.stand(scene.cluster).await?;
        Ok(vec![
            Fact { what: "replicas that are wanted".to_owned(), value: stand.wanted.to_string() },
            Fact { what: "replicas that are there".to_owned(), value: stand.there.to_string() },
        ])
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        pod_ended(scene, &aim.pod).await
    }
}
