//! The sign of life of a node: its lease, which its kubelet renews every quarter of the time for which it holds.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::header::DATE;
use k8s_openapi::api::coordination::v1::Lease;
use kube::client::Body;

use super::{Cluster, ClusterError};

const NOT_FOUND: u16 = 404;
/// How long a lease holds that does not say it: Kubernetes' default.
const HOLDS: Duration = Duration::from_secs(40);

/// What a node's lease tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// When the node renewed it, by its own clock, as it stands there.
    pub renewed: String,
    /// How long ago that was when the API server answered, by that one's clock, in whole seconds; `None`: one of the two is not told. Where the clocks of the
    /// two differ, it is wrong by as much.
    pub age: Option<Duration>,
    /// How long it holds.
    pub holds: Duration,
}

impl Heartbeat {
    /// Whether it should have been renewed since, and not only just: half of its time is two renewals. `None`: its age is not told.
    #[must_use]
    pub fn is_overdue(&self) -> Option<bool> {
        self.age.map(|age| age >= self.holds / 2)
    }
}

impl Cluster {
    /// When a node last said that it lives; `None`: it never did, or its lease went with its object.
    pub async fn heartbeat(&self, node: &str) -> Result<Option<Heartbeat>, ClusterError> {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}");
        let request = http::Request::get(path).body(Body::empty()).expect("the name of a node is part of a path");
        let asked = async {
            let answer = self.client().send(request).await?;
            let (head, body) = answer.into_parts();
            let bytes = body.collect_bytes().await?;
            if !head.status.is_success() {
                // What the API server says of it.
                let status = serde_json::from_slice(&bytes).unwrap_or_default();
                return Err(kube::Error::Api(Box::new(status)));
            }
            let now = head.headers.get(DATE).and_then(|date| DateTime::parse_from_rfc2822(date.to_str().ok()?).ok());
            let lease: Lease = serde_json::from_slice(&bytes).map_err(kube::Error::SerdeError)?;
            Ok((now.map(|now| now.to_utc()), lease))
        };
        match self.call(format!("read the lease of node `{node}`"), asked).await {
            Ok((now, lease)) => Ok(of(now, &lease)),
            Err(error) if error.status() == Some(NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn of(now: Option<DateTime<Utc>>, lease: &Lease) -> Option<Heartbeat> {
    let spec = lease.spec.as_ref()?;
    let holds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(HOLDS, Duration::from_secs);
    let renewed = spec.renew_time.as_ref()?.0.to_string();
    let age = now.zip(renewed.parse::<DateTime<Utc>>().ok()).map(|(now, renewed)| (now - renewed).to_std().unwrap_or_default());
    Some(Heartbeat { renewed, age: age.map(|age| Duration::from_secs(age.as_secs())), holds })
}

#[cfg(test)]
mod tests {
    use axum::{
        Json, Router,
        http::{HeaderMap, StatusCode},
        routing::get,
    };
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::fake;

    const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/w1";

    fn lease(renewed: &str) -> Value {
        let spec = json!({"renewTime": renewed, "leaseDurationSeconds": 42});
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "w1"}, "spec": spec})
    }

    #[rstest]
    #[case::two_renewals_ago("2026-01-01T00:00:00.500000Z", "Thu, 01 Jan 2026 00:00:22 GMT", Some((21, true)))]
    #[case::hardly_less("2026-01-01T00:00:00.500000Z", "Thu, 01 Jan 2026 00:00:21 GMT", Some((20, false)))]
    #[case::just_now("2026-01-01T00:00:00.500000Z", "Thu, 01 Jan 2026 00:00:00 GMT", Some((0, false)))]
    #[case::in_the_future_of_the_other_clock("2026-01-01T00:00:05Z", "Thu, 01 Jan 2026 00:00:00 GMT", Some((0, false)))]
    #[case::no_date("2026-01-01T00:00:05Z", "soon", None)]
    #[tokio::test]
    async fn its_age_is_told_by_the_clock_of_the_api_server(
        #[case] renewed: &'static str,
        #[case] date: &'static str,
        #[case] expected: Option<(u64, bool)>,
    ) {
        let answer = move || async move {
            let mut head = HeaderMap::new();
            head.insert(DATE, date.parse().unwrap());
            (head, Json(lease(renewed)))
        };
        let cluster = fake::cluster(Router::new().route(PATH, get(answer))).await;
        let found = cluster.heartbeat("w1").await.unwrap().expect("there is one");
        assert_eq!(found.age.map(|age| age.as_secs()).zip(found.is_overdue()), expected);
        assert!(found.renewed.starts_with("2026-01-01T00:00:0"), "{}", found.renewed);
    }

    #[tokio::test]
    async fn one_that_is_not_there_is_none_and_one_that_may_not_be_read_is_an_error() {
        let status = |code: u16, reason: &'static str| {
            let body =
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason});
            get(move || async move { (StatusCode::from_u16(code).unwrap(), Json(body)) })
        };
        let absent = fake::cluster(Router::new().route(PATH, status(404, "NotFound"))).await;
        assert_eq!(absent.heartbeat("w1").await.unwrap(), None);
        let denied = fake::cluster(Router::new().route(PATH, status(403, "Forbidden"))).await;
        let error = super::super::chain(&denied.heartbeat("w1").await.unwrap_err());
        assert!(error.contains("lease of node `w1`"), "{error}");
    }
}
