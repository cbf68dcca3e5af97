//! Stateful sets: pods with names that stay, one after the other.
//!
//! The law: *no two pods of one name.* The name is taken until the object is gone, so a pod that is being deleted on a node that is silent is not replaced, however
//! long that takes: somebody has to delete it by force, declare the node out of service or delete it, or the node has to come back. That is what tells the recovery
//! of a stateful set from that of a Deployment.
//!
//! Each template that was ever asked for is a `ControllerRevision`; an update replaces the pods from the last to the first. `minReadySeconds` is taken as 0, and
//! claims made from templates are kept for ever, as they are by default.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    super::{
        Cluster,
        events::{Source, Tone, tell},
        kinds::Kind,
        object::{self, Look, condition_holds, pod},
        store::{Deletion, Key, Part},
    },
    deployment::template_hash,
};

/// Which revision a pod was made from.
const REVISION: &str = "/metadata/labels/controller-revision-hash";

/// Brings every stateful set one step further.
pub(super) fn reconcile(cluster: &Cluster) {
    for set in cluster.store.list(Kind::StatefulSet, None) {
        let Some((current, update)) = revisions(cluster, &set) else { continue };
        let sight = Sight { cluster, set: &set, current: &current, update: &update };
        // What is told is what was found: what is done about it is told the next time.
        let pods = sight.pods();
        if !set.is_terminating() {
            sight.step(&pods);
        }
        sight.tell_status(&pods);
        sight.forget_history(&pods);
    }
}

/// One stateful set and its two revisions: the one that its pods had, and the one that they are to have.
struct Sight<'a> {
    cluster: &'a Cluster,
    set: &'a Value,
    current: &'a Value,
    update: &'a Value,
}

impl Sight<'_> {
    fn replicas(&self) -> i64 {
        self.set.int("/spec/replicas").unwrap_or(1)
    }

    fn start(&self) -> i64 {
        self.set.int("/spec/ordinals/start").unwrap_or_default()
    }

    /// Its pods, by ordinal.
    fn pods(&self) -> Vec<(i64, Arc<Value>)> {
        let pods = self.cluster.store.list(Kind::Pod, Some(self.set.namespace()));
        let owned = pods.into_iter().filter(|one| object::is_controlled_by(one, self.set.uid()));
        let mut owned: Vec<_> = owned.filter_map(|one| Some((ordinal(self.set.name(), one.name())?, one))).collect();
        owned.sort_by_key(|(ordinal, _)| *ordinal);
        owned
    }

    fn step(&self, pods: &[(i64, Arc<Value>)]) {
        let wanted = self.start()..self.start() + self.replicas();
        let in_turn = self.set.text("/spec/podManagementPolicy") != "Parallel";
        for ordinal in wanted.clone() {
            match pods.iter().find(|(at, _)| *at == ordinal) {
                None => {
                    self.make_pod(ordinal);
                    if in_turn {
                        return;
                    }
                }
                Some((_, one)) if pod::is_finished(one) => {
                    // Its name is needed.
                    if !one.is_terminating() {
                        self.delete_pod(one);
                    }
                    if in_turn {
                        return;
                    }
                }
                Some((_, one)) if in_turn && (one.is_terminating() || !is_running_and_ready(one)) => {
                    if one.text("/status/phase") == "Pending" {
                        self.make_claims(ordinal);
                    }
                    return;
                }
                Some(_) => {}
            }
        }
        let condemned: Vec<_> = pods.iter().filter(|(ordinal, _)| !wanted.contains(ordinal)).map(|(_, one)| one).collect();
        // The first that is not well may go although it is not.
        let first_unwell = condemned.iter().find(|one| one.is_terminating() || !is_running_and_ready(one)).map(|one| one.uid());
        for one in condemned.iter().rev() {
            if one.is_terminating() {
                if in_turn {
                    return;
                }
                continue;
            }
            if in_turn && !is_running_and_ready(one) && Some(one.uid()) != first_unwell {
                return;
            }
            self.delete_pod(one);
            if in_turn {
                return;
            }
        }
        if self.set.text("/spec/updateStrategy/type") == "OnDelete" {
            return;
        }
        let from = self.start() + self.set.int("/spec/updateStrategy/rollingUpdate/partition").unwrap_or_default();
        for (_, one) in pods.iter().rev().filter(|(ordinal, _)| wanted.contains(ordinal) && *ordinal >= from) {
            if one.text(REVISION) != self.update.name() && !one.is_terminating() {
                return self.delete_pod(one);
            }
            if one.is_terminating() || !is_running_and_ready(one) {
                return;
            }
        }
    }

    /// The claims of the templates, for the pod with that ordinal: the name of the volume and that of the claim.
    fn claims(&self, ordinal: i64) -> Vec<(Value, String)> {
        let templates = self.set.list("/spec/volumeClaimTemplates").iter();
        templates.map(|template| (template.clone(), format!("{}-{}-{ordinal}", template.name(), self.set.name()))).collect()
    }

    fn make_claims(&self, ordinal: i64) {
        for (template, name) in self.claims(ordinal) {
            if self.cluster.store.get(Kind::PersistentVolumeClaim, self.set.namespace(), &name).is_some() {
                continue;
            }
            let mut claim = json!({ "metadata": template["metadata"], "spec": template["spec"] });
            object::set(&mut claim, "/metadata/name", name.as_str());
            object::set(&mut claim, "/metadata/namespace", self.set.namespace());
            for (key, value) in self.set.pointer("/spec/selector/matchLabels").and_then(Value::as_object).into_iter().flatten() {
                claim["metadata"]["labels"][key] = value.clone();
            }
            let pod = format!("{}-{ordinal}", self.set.name());
            match self.cluster.store.create(Kind::PersistentVolumeClaim, claim, false) {
                Ok(_) => {
                    let message = format!("Create Claim {name} Pod {pod} in StatefulSet {} success", self.set.name());
                    self.tell(Tone::Normal, "SuccessfulCreate", &message);
                }
                Err(refusal) => {
                    let message = format!("Create Claim {name} for Pod {pod} in StatefulSet {} failed error: {refusal}", self.set.name());
                    self.tell(Tone::Warning, "FailedCreate", &message);
                }
            }
        }
    }

    fn make_pod(&self, ordinal: i64) {
        self.make_claims(ordinal);
        // A pod below the partition, or one that was there before the update began, is made as it was.
        let partition = self.set.int("/spec/updateStrategy/rollingUpdate/partition").unwrap_or_default();
        let is_current = self.set.text("/spec/updateStrategy/type") == "RollingUpdate" && ordinal < self.start() + partition;
        let revision = if is_current { self.current } else { self.update };
        let template = &revision["data"]["spec"]["template"];
        let name = format!("{}-{ordinal}", self.set.name());
        let mut made = json!({
            "metadata": {
                "name": name, "generateName": format!("{}-", self.set.name()), "namespace": self.set.namespace(),
                "labels": template["metadata"]["labels"], "ownerReferences": [object::controller_reference(self.set)],
            },
            "spec": template["spec"],
        });
        if let Some(annotations) = template.pointer("/metadata/annotations") {
            made["metadata"]["annotations"] = annotations.clone();
        }
        object::set(&mut made, REVISION, revision.name());
        object::set(&mut made, "/metadata/labels/statefulset.kubernetes.io~1pod-name", name.as_str());
        object::set(&mut made, "/metadata/labels/apps.kubernetes.io~1pod-index", ordinal.to_string());
        object::set(&mut made, "/spec/hostname", name.as_str());
        if self.set.has("/spec/serviceName") {
            object::set(&mut made, "/spec/subdomain", self.set.text("/spec/serviceName"));
        }
        let claims = self.claims(ordinal);
        let volumes = object::list_mut(&mut made, "/spec/volumes");
        volumes.retain(|volume| !claims.iter().any(|(template, _)| template.name() == volume.text("/name")));
        let own =
            claims.iter().map(|(template, claim)| json!({ "name": template.name(), "persistentVolumeClaim": { "claimName": claim } }));
        volumes.splice(0..0, own.collect::<Vec<_>>());
        match self.cluster.store.create(Kind::Pod, made, false) {
            Ok(_) => self.tell_of_pod(Tone::Normal, "Create", &name, ""),
            Err(refusal) if refusal.reason == "AlreadyExists" => {}
            Err(refusal) => self.tell_of_pod(Tone::Warning, "Create", &name, &refusal.message),
        }
    }

    fn delete_pod(&self, one: &Value) {
        let how = Deletion { uid: Some(one.uid().to_owned()), ..Deletion::default() };
        if self.cluster.store.delete(&Key::of(Kind::Pod, one), &how).is_ok() {
            self.tell_of_pod(Tone::Normal, "Delete", one.name(), "");
        }
    }

    fn tell(&self, tone: Tone, reason: &str, message: &str) {
        tell(&self.cluster.store, Source::controller("statefulset-controller"), self.set, tone, reason, message);
    }

    fn tell_of_pod(&self, tone: Tone, verb: &str, pod: &str, error: &str) {
        let set = self.set.name();
        if tone == Tone::Normal {
            self.tell(tone, &format!("Successful{verb}"), &format!("{verb} Pod {pod} in StatefulSet {set} successful"));
        } else {
            self.tell(tone, &format!("Failed{verb}"), &format!("{verb} Pod {pod} in StatefulSet {set} failed error: {error}"));
        }
    }

    fn tell_status(&self, pods: &[(i64, Arc<Value>)]) {
        let count = |is: &dyn Fn(&Value) -> bool| i64::try_from(pods.iter().filter(|(_, one)| is(one)).count()).unwrap_or(i64::MAX);
        let of = |revision: &Value| count(&|one| !one.is_terminating() && one.text(REVISION) == revision.name());
        let (total, ready, updated) = (count(&|_| true), count(&is_running_and_ready), of(self.update));
        let (mut in_current, mut current) = (of(self.current), self.current.name());
        let wanted = self.replicas();
        let rolls = self.set.text("/spec/updateStrategy/type") == "RollingUpdate";
        if rolls && updated == wanted && ready == wanted && total == wanted {
            (in_current, current) = (updated, self.update.name());
        }
        let generation = self.set.int("/metadata/generation").unwrap_or(1);
        let change = |object: &mut Value| {
            for (field, number) in
                [("observedGeneration", generation), ("replicas", total), ("availableReplicas", ready), ("collisionCount", 0)]
            {
                object::set(object, &format!("/status/{field}"), number);
            }
            // A zero of these is left out, as the real controller leaves it out.
            for (field, number) in [("readyReplicas", ready), ("currentReplicas", in_current), ("updatedReplicas", updated)] {
                let at = format!("/status/{field}");
                if number == 0 {
                    object::remove(object, &at);
                } else {
                    object::set(object, &at, number);
                }
            }
            object::set(object, "/status/currentRevision", current);
            object::set(object, "/status/updateRevision", self.update.name());
            Ok(())
        };
        self.cluster.store.update(&Key::of(Kind::StatefulSet, self.set), Part::Status, false, change).ok();
    }

    /// Forgets the oldest revisions that nobody has any more.
    fn forget_history(&self, pods: &[(i64, Arc<Value>)]) {
        let limit = usize::try_from(self.set.int("/spec/revisionHistoryLimit").unwrap_or(10)).unwrap_or_default();
        let is_live = |name: &str| {
            name == self.current.name() || name == self.update.name() || pods.iter().any(|(_, one)| one.text(REVISION) == name)
        };
        let idle: Vec<_> = revisions_of(self.cluster, self.set).into_iter().filter(|one| !is_live(one.name())).collect();
        for one in idle.iter().take(idle.len().saturating_sub(limit)) {
            self.cluster.store.delete(&Key::of(Kind::ControllerRevision, one), &Deletion::default()).ok();
        }
    }
}

/// The ordinal of a pod of that set, from its name.
fn ordinal(set: &str, pod: &str) -> Option<i64> {
    pod.strip_prefix(set)?.strip_prefix('-')?.parse().ok()
}

/// Whether its status says so. A pod that is leaving may well be ready.
fn is_running_and_ready(one: &Value) -> bool {
    one.text("/status/phase") == "Running" && condition_holds(one, "Ready")
}

fn revisions_of(cluster: &Cluster, set: &Value) -> Vec<Arc<Value>> {
    let mut revisions = cluster.store.list(Kind::ControllerRevision, Some(set.namespace()));
    revisions.retain(|one| object::is_controlled_by(one, set.uid()));
    revisions.sort_by_key(|one| one.int("/revision"));
    revisions
}

/// The revision that the pods had, and the one that they are to have, which is made if it is not there.
fn revisions(cluster: &Cluster, set: &Value) -> Option<(Arc<Value>, Arc<Value>)> {
    let known = revisions_of(cluster, set);
    let template = &set["spec"]["template"];
    let next = known.last().and_then(|one| one.int("/revision")).unwrap_or_default() + 1;
    let same = known.iter().rfind(|one| one["data"]["spec"]["template"] == *template);
    let update = match same {
        Some(same) if same.int("/revision") == Some(next - 1) => same.clone(),
        Some(same) => {
            // Asked for again: it is the latest once more.
            let change = |revision: &mut Value| {
                object::set(revision, "/revision", next);
                Ok(())
            };
            cluster.store.update(&Key::of(Kind::ControllerRevision, same), Part::Main, false, change).ok()?
        }
        None => make_revision(cluster, set, next)?,
    };
    let current = known.into_iter().find(|one| one.name() == set.text("/status/currentRevision")).unwrap_or_else(|| update.clone());
    Some((current, update))
}

fn make_revision(cluster: &Cluster, set: &Value, number: i64) -> Option<Arc<Value>> {
    let template = &set["spec"]["template"];
    // The name is that of the template; should two templates have one name, the next is tried.
    for collision in 0_u32.. {
        let hash = template_hash(template, collision);
        let mut labels = template.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
        labels["controller.kubernetes.io/hash"] = hash.as_str().into();
        let revision = json!({
            "metadata": {
                "name": format!("{}-{hash}", set.name()), "namespace": set.namespace(), "labels": labels,
                "ownerReferences": [object::controller_reference(set)],
            },
            "data": { "spec": { "template": template } }, "revision": number,
        });
        match cluster.store.create(Kind::ControllerRevision, revision, false) {
            Err(refusal) if refusal.reason == "AlreadyExists" => {}
            other => return other.ok(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinal_is_what_follows_the_name_of_the_set() {
        assert_eq!(ordinal("mssql", "mssql-0"), Some(0));
        assert_eq!(ordinal("mssql", "mssql-12"), Some(12));
        assert_eq!(ordinal("mssql", "mssql-abc"), None);
        assert_eq!(ordinal("mssql", "other-0"), None);
        assert_eq!(ordinal("mssql", "mssql-a-0"), None, "that is a pod of another set");
    }
}
