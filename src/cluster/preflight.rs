//! What can be asked of a cluster before anything is broken: may we, is there room, will it come back?

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::{Namespace, Node, PersistentVolumeClaim, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    ResourceExt as _,
    api::{ListParams, PostParams},
};

use super::{Cluster, ClusterError, chain};
use crate::fault::rights::Right;

/// What a question came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// As it should be.
    Yes,
    /// A reader should know it.
    Careful,
    /// It speaks against a run.
    No,
    /// Nobody told.
    Unknown,
}

impl Answered {
    /// The word in front of it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Yes => "ok",
            Self::Careful => "careful",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether we may do this.
pub async fn may(cluster: &Cluster, right: &Right) -> Result<bool, ClusterError> {
    let attributes = ResourceAttributes {
        group: Some(right.group.to_owned()),
        resource: Some(right.resource.to_owned()),
        subresource: Some(right.subresource.to_owned()).filter(|part| !part.is_empty()),
        verb: Some(right.verb.to_owned()),
        namespace: right.namespaced.then(|| cluster.target.namespace.clone()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..SelfSubjectAccessReviewSpec::default() },
        ..SelfSubjectAccessReview::default()
    };
    let reviews = cluster.all::<SelfSubjectAccessReview>();
    let answer = cluster.call(format!("ask whether we may {right}"), reviews.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Asks about nodes, volume, budgets, grace and pod security.
pub async fn ask(cluster: &Cluster) -> Vec<(Answered, String)> {
    let mut found = Vec::new();
    found.push(unless_told(nodes(cluster).await));
    match cluster.pod().await {
        Ok(pod) => {
            found.push(unless_told(claim(cluster, &pod).await));
            found.push(unless_told(budgets(cluster, &pod).await));
            found.push(grace(&pod));
        }
        Err(error) => found.push((Answered::No, chain(&error))),
    }
    found.push(unless_told(security(cluster).await));
    found
}

fn unless_told(answer: Result<(Answered, String), ClusterError>) -> (Answered, String) {
    answer.unwrap_or_else(|error| (Answered::Unknown, chain(&error)))
}

/// The database needs a node to move to, and the prober one beside.
async fn nodes(cluster: &Cluster) -> Result<(Answered, String), ClusterError> {
    let nodes = cluster.call("list the nodes", cluster.all::<Node>().list(&ListParams::default())).await?.items;
    Ok(match nodes.iter().filter(|node| is_schedulable(node)).count() {
        0 | 1 => (Answered::No, "there is no second node that takes pods: what leaves its node stays pending".to_owned()),
        2 => (Answered::No, "two nodes take pods: one is the prober's, so the database has nowhere to move to".to_owned()),
        count => (Answered::Yes, format!("{count} nodes take pods: one for the database, one to move to, one for the prober")),
    })
}

fn is_schedulable(node: &Node) -> bool {
    let spec = node.spec.clone().unwrap_or_default();
    let closed = spec.unschedulable == Some(true) || spec.taints.iter().flatten().any(|taint| taint.effect != "PreferNoSchedule");
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && !closed
}

async fn claim(cluster: &Cluster, pod: &Pod) -> Result<(Answered, String), ClusterError> {
    let facts = cluster.volume(pod).await?;
    let name = &facts.claim;
    let claim = cluster.call(format!("read volume claim `{name}`"), cluster.namespaced::<PersistentVolumeClaim>().get(name)).await?;
    let modes = claim.spec.and_then(|spec| spec.access_modes).unwrap_or_default().join(", ");
    Ok((Answered::Yes, format!("claim `{name}` is bound to volume `{}`, {modes}", facts.volume)))
}

/// A budget that allows nothing blocks every eviction.
async fn budgets(cluster: &Cluster, pod: &Pod) -> Result<(Answered, String), ClusterError> {
    let what = "list the disruption budgets";
    let budgets = cluster.call(what, cluster.namespaced::<PodDisruptionBudget>().list(&ListParams::default())).await?.items;
    let labels = pod.labels();
    let of_the_pod = budgets.iter().filter(|budget| {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()).and_then(|selector| selector.match_labels.as_ref());
        selector.is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
    });
    let blocking: Vec<String> = of_the_pod
        .filter(|budget| budget.status.as_ref().is_some_and(|status| status.disruptions_allowed == 0))
        .map(|budget| format!("`{}`", budget.name_any()))
        .collect();
    if blocking.is_empty() {
        return Ok((Answered::Yes, "no disruption budget blocks an eviction".to_owned()));
    }
    Ok((Answered::No, format!("disruption budget {} lets no pod go: `drainNode` and `evictPod` will be blocked", blocking.join(", "))))
}

fn grace(pod: &Pod) -> (Answered, String) {
    match pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds) {
        Some(0) => (Answered::Careful, "the pod has no grace period: every planned move ends as a crash".to_owned()),
        Some(seconds) => (Answered::Yes, format!("the pod has {seconds} s to end in good order")),
        None => (Answered::Careful, "the pod does not say how long it may take to end: 30 s".to_owned()),
    }
}

/// What is enforced in the namespace decides whether the node helper is let in.
async fn security(cluster: &Cluster) -> Result<(Answered, String), ClusterError> {
    const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
    let name = &cluster.target.namespace;
    let namespace = cluster.call(format!("read namespace `{name}`"), cluster.all::<Namespace>().get(name)).await?;
    Ok(match namespace.labels().get(ENFORCE).map(String::as_str) {
        None | Some("privileged") => (Answered::Yes, "pod security lets privileged pods in, such as the node helper".to_owned()),
        Some(level) => (Answered::Careful, format!("pod security is `{level}` in namespace `{name}`: no node helper is let in")),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case::open(json!({}), true)]
    #[case::cordoned(json!({"unschedulable": true}), false)]
    #[case::tainted(json!({"taints": [{"key": "k", "effect": "NoSchedule"}]}), false)]
    #[case::rather_not(json!({"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}), true)]
    fn a_node_takes_pods_if_nothing_keeps_them_off(#[case] spec: Value, #[case] expected: bool) {
        let status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let node: Node = serde_json::from_value(json!({"spec": spec, "status": status})).unwrap();
        assert_eq!(is_schedulable(&node), expected);
        let lost: Node = serde_json::from_value(json!({"spec": {}, "status": {"conditions": []}})).unwrap();
        assert!(!is_schedulable(&lost));
    }

    #[test]
    fn a_pod_without_grace_is_told() {
        let pod = |seconds: Option<i64>| {
            serde_json::from_value(json!({"spec": {"containers": [], "terminationGracePeriodSeconds": seconds}})).unwrap()
        };
        assert_eq!(grace(&pod(Some(0))).0, Answered::Careful);
        assert_eq!(grace(&pod(Some(30))).0, Answered::Yes);
    }
}
