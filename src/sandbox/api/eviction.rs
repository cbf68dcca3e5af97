//! `pods/eviction`: a deletion that asks the disruption budgets first.

use axum::{
    http::{Method, StatusCode},
    response::Response,
};
use serde_json::{Value, json};

use super::{
    super::{
        Cluster, Defect,
        control::disruption::{protects, tell_allowed},
        kinds::Kind,
        object::{self, Look, pod},
        refusal::Refusal,
        store::{Key, Part},
    },
    Asked, json_response,
    objects::deletion_options,
};

/// Answers a request to evict a pod.
pub(super) fn answer(cluster: &Cluster, asked: &Asked, key: &Key) -> Result<Response, Refusal> {
    if asked.method != Method::POST {
        return Err(Refusal::method_not_allowed());
    }
    let body = asked.object()?;
    let name = body.name();
    if !name.is_empty() && name != key.name {
        return Err(Refusal::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut how = deletion_options(&body["deleteOptions"])?;
    how.dry_run |= asked.is_dry_run();
    let pod = cluster.store.get(Kind::Pod, &key.namespace, &key.name).ok_or_else(|| Refusal::not_found(Kind::Pod, &key.name))?;
    let success = || json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    if cluster.defect == Some(Defect::FaultsDoNothing) {
        return Ok(json_response(StatusCode::CREATED, &success()));
    }
    // A pod that has ended, has not begun or is leaving serves nobody: no budget protects it.
    if !pod::is_finished(&pod) && !pod.is_terminating() && pod.text("/status/phase") != "Pending" {
        ask_budgets(cluster, &pod, how.dry_run)?;
    }
    if !how.dry_run && how.uid.as_deref().is_none_or(|uid| uid == pod.uid()) {
        let change = |pod: &mut Value| {
            object::set_condition(pod, "DisruptionTarget", true, "EvictionByEvictionAPI", "Eviction API: evicting");
            Ok(())
        };
        cluster.store.update(key, Part::Status, false, change)?;
    }
    cluster.store.delete(key, &how)?;
    Ok(json_response(StatusCode::CREATED, &success()))
}

/// Asks the budget of a pod, if it has one, and takes one off it.
fn ask_budgets(cluster: &Cluster, pod: &Value, dry_run: bool) -> Result<(), Refusal> {
    let budgets = cluster.store.list(Kind::PodDisruptionBudget, Some(pod.namespace()));
    let budgets: Vec<_> = budgets.iter().filter(|budget| protects(budget, pod)).collect();
    let budget = match budgets.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Refusal::internal(why));
        }
    };
    if !object::condition_holds(pod, "Ready") {
        let number = |at: &str| budget.int(at).unwrap_or_default();
        let (healthy, desired) = (number("/status/currentHealthy"), number("/status/desiredHealthy"));
        if budget.text("/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow" || (healthy >= desired && desired > 0) {
            // It does not count among the healthy ones, so nothing is lost.
            return Ok(());
        }
    }
    // Asked and counted down in one step: of two evictions at once, one sees what the other took.
    let take = |budget: &mut Value| {
        if let Some(refusal) = refusal_of(budget) {
            return Err(refusal);
        }
        let left = budget.int("/status/disruptionsAllowed").unwrap_or_default() - 1;
        object::set(budget, "/status/disruptionsAllowed", left);
        if left == 0 {
            tell_allowed(budget);
        }
        let name = pod.name().replace('~', "~0").replace('/', "~1");
        object::set(budget, &format!("/status/disruptedPods/{name}"), object::now());
        Ok(())
    };
    cluster.store.update(&Key::of(Kind::PodDisruptionBudget, budget), Part::Status, dry_run, take).map(drop)
}

/// Why a budget allows no eviction now, in the words of the real server.
fn refusal_of(budget: &Value) -> Option<Refusal> {
    let number = |at: &str| budget.int(at).unwrap_or_default();
    let name = budget.name();
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return Some(Refusal::disruption(&format!("The disruption budget {name} is still being processed by the server."), Some(10)));
    }
    if number("/status/disruptionsAllowed") > 0 {
        return None;
    }
    let (healthy, desired) = (number("/status/currentHealthy"), number("/status/desiredHealthy"));
    let why = if healthy <= desired {
        format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
    } else {
        format!("The disruption budget {name} does not allow evicting pods currently")
    };
    Some(Refusal::disruption(&why, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(observed: i64, allowed: i64, healthy: i64, desired: i64) -> Value {
        json!({
            "metadata": { "name": "b", "generation": 2 },
            "status": {
                "observedGeneration": observed, "disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": desired,
            },
        })
    }

    #[test]
    fn a_budget_says_what_it_needs_and_has() {
        assert!(refusal_of(&budget(2, 1, 2, 1)).is_none());
        let refusal = refusal_of(&budget(2, 0, 1, 1)).unwrap();
        assert_eq!((refusal.code, refusal.message.as_str()), (429, "Cannot evict pod as it would violate the pod's disruption budget."));
        let cause = &refusal.status()["details"]["causes"][0];
        assert_eq!(cause["reason"], "DisruptionBudget");
        assert_eq!(cause["message"], "The disruption budget b needs 1 healthy pods and has 1 currently");
        assert_eq!(refusal.retry_after, None, "nobody knows when");
    }

    #[test]
    fn a_budget_that_was_just_changed_asks_for_some_patience() {
        let refusal = refusal_of(&budget(1, 1, 2, 1)).unwrap();
        assert_eq!((refusal.code, refusal.retry_after), (429, Some(10)));
        assert_eq!(refusal.status()["details"]["retryAfterSeconds"], 10);
    }
}
