//! One run at a time: the Lease that a run holds in the namespace that it breaks.
//!
//! A run renews it every few seconds. Whoever finds one (another run, or `comeback heal`) watches whether it is renewed before he takes its
//! holder for dead. The stamps in it are never compared with a clock of ours: two machines need not agree on the time, and a lease that does
//! not change for as long as it is valid is dead on any clock.
//!
//! Its holder counts the same way: whoever has not renewed it for [`LEASE_DURATION`] (the API server did not answer, the process was stopped)
//! has lost it, whether or not somebody has taken it yet. Healing is such a run too.
//!
//! A run that stops the API server itself cannot renew it meanwhile, and neither can anybody take it: it is excused for that long. Whether it is still
//! its own then, the API server says: a lease is only ever written over the version that was read.

use std::{fmt, sync::Arc, time::Duration};

use chrono::{SecondsFormat, Utc};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions},
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{Cluster, ClusterError};

/// The name of the lease.
pub const LEASE: &str = "comeback-run";
/// How long a run may go without renewing it before it counts as dead.
pub const LEASE_DURATION: Duration = Duration::from_secs(10);
/// How often a run renews it.
const RENEW_PERIOD: Duration = Duration::from_secs(3);
/// How long one try to renew it may take: a few of them fit into [`LEASE_DURATION`].
const RENEW_DEADLINE: Duration = Duration::from_secs(3);
/// How often one who waits looks whether it was renewed.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// How often it is tried to take it, while others try too.
const TRIES: u32 = 5;

const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;

/// The lease could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// A call to the cluster failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Another run is alive.
    #[error("run {holder} is at work in namespace `{namespace}`: wait until it has ended, or stop it with Ctrl-C")]
    Taken {
        /// Who holds it.
        holder: String,
        /// Where.
        namespace: String,
    },
    /// Others took it again and again.
    #[error("could not take the lease `{LEASE}` in namespace `{namespace}`: others took it at the same time")]
    Contended {
        /// Where.
        namespace: String,
    },
}

/// The lease of this run. It is renewed until it is released or dropped.
pub struct RunLease {
    cluster: Cluster,
    holder: String,
    before: Option<String>,
    renewing: JoinHandle<()>,
    hold: Arc<watch::Sender<Hold>>,
}

/// How well a lease is held.
#[derive(Clone, Debug)]
struct Hold {
    /// When the renewal was sent that succeeded last.
    renewed: Instant,
    /// Until when nobody can renew it, nor take it.
    excused: Instant,
    /// Why it is no longer ours.
    lost: Option<String>,
}

impl Hold {
    /// Why it is no longer ours at this moment, if it is not.
    fn lost_at(&self, now: Instant) -> Option<String> {
        let stale = || {
            let valid = humantime::format_duration(LEASE_DURATION);
            format!("the lease `{LEASE}` could not be renewed for {valid}, so another process may have it")
        };
        let since = self.renewed.max(self.excused);
        self.lost.clone().or_else(|| (now.saturating_duration_since(since) >= LEASE_DURATION).then(stale))
    }
}

impl fmt::Debug for RunLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunLease").field("holder", &self.holder).finish_non_exhaustive()
    }
}

impl Drop for RunLease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl RunLease {
    /// Takes the lease in the target's namespace. One that somebody holds is watched for [`LEASE_DURATION`] first.
    ///
    /// # Errors
    /// If another run renews it.
    pub async fn acquire(cluster: &Cluster, run: &str) -> Result<Self, LeaseError> {
        Self::take(cluster, run, false).await
    }

    /// Takes the lease from whoever holds it: a run that is alive then notices that it has lost it, and ends.
    ///
    /// # Errors
    /// If a call fails, or others take it at the same time.
    pub async fn seize(cluster: &Cluster, run: &str) -> Result<Self, LeaseError> {
        Self::take(cluster, run, true).await
    }

    async fn take(cluster: &Cluster, run: &str, force: bool) -> Result<Self, LeaseError> {
        let namespace = cluster.target.namespace.clone();
        let holder = format!("{run} on {} (process {})", host(), std::process::id());
        for _ in 0..TRIES {
            let found = read(cluster, &namespace).await?;
            if let Some(lease) = &found
                && !force
                && let Some(holder) = alive(cluster, &namespace, lease).await?
            {
                return Err(LeaseError::Taken { holder, namespace });
            }
            let sent = Instant::now();
            let taken = match &found {
                None => create(cluster, &holder).await,
                Some(lease) => replace(cluster, lease, &holder).await,
            };
            match taken {
                Ok(lease) => {
                    let before = found.as_ref().and_then(held_by).map(str::to_owned);
                    return Ok(Self::hold(cluster.clone(), holder, before, lease, sent));
                }
                Err(error) if matches!(error.status(), Some(CONFLICT | NOT_FOUND)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(LeaseError::Contended { namespace })
    }

    fn hold(cluster: Cluster, holder: String, before: Option<String>, lease: Lease, sent: Instant) -> Self {
        let hold = Arc::new(watch::Sender::new(Hold { renewed: sent, excused: sent, lost: None }));
        let renewing = tokio::spawn(renew(cluster.clone(), holder.clone(), lease, Arc::clone(&hold)));
        Self { cluster, holder, before, renewing, hold }
    }

    /// Who held it before, and did not give it back.
    #[must_use]
    pub fn before(&self) -> Option<&str> {
        self.before.as_deref()
    }

    /// Why the lease is no longer ours, if it is not: somebody took it, or removed it, or it was not renewed in time. Nothing may be broken
    /// then any more.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.hold.borrow().lost_at(Instant::now())
    }

    /// Excuses that it is not renewed until then, because the API server is stopped for everybody.
    pub fn excuse(&self, until: Instant) {
        self.hold.send_modify(|hold| hold.excused = hold.excused.max(until));
    }

    /// Gives it back. One that is no longer ours is left alone.
    pub async fn release(self) -> Result<(), ClusterError> {
        self.renewing.abort();
        if self.lost().is_some() {
            return Ok(());
        }
        let namespace = self.cluster.target.namespace.clone();
        match read(&self.cluster, &namespace).await? {
            Some(lease) if held_by(&lease) == Some(self.holder.as_str()) => remove(&self.cluster, &namespace, &lease).await,
            Some(_) | None => Ok(()),
        }
    }
}

/// Renews the lease until it is lost.
async fn renew(cluster: Cluster, holder: String, mut lease: Lease, hold: Arc<watch::Sender<Hold>>) {
    let namespace = cluster.target.namespace.clone();
    let mut pause = RENEW_PERIOD;
    loop {
        sleep(pause).await;
        // What was lost by time is not taken back: in between another may have had it.
        let stale = hold.borrow().lost_at(Instant::now());
        if stale.is_some() {
            hold.send_modify(|hold| hold.lost = stale);
            return;
        }
        let sent = Instant::now();
        pause = LOOK_PERIOD;
        match timeout(RENEW_DEADLINE, replace(&cluster, &lease, &holder)).await {
            Ok(Ok(renewed)) => {
                lease = renewed;
                pause = RENEW_PERIOD;
                hold.send_modify(|hold| {
                    // One that comes too late renews what was lost.
                    hold.lost = hold.lost_at(Instant::now());
                    hold.renewed = sent;
                });
            }
            Ok(Err(error)) if matches!(error.status(), Some(CONFLICT | NOT_FOUND)) => {
                match timeout(RENEW_DEADLINE, read(&cluster, &namespace)).await {
                    // A try that was given up on was done after all.
                    Ok(Ok(Some(now))) if held_by(&now) == Some(holder.as_str()) => lease = now,
                    Ok(Ok(now)) => {
                        let who = now.as_ref().and_then(held_by).map_or_else(|| "nobody".to_owned(), str::to_owned);
                        let why = format!("the lease `{LEASE}` in namespace `{namespace}` is now held by {who}");
                        hold.send_modify(|hold| hold.lost = Some(why));
                        return;
                    }
                    Ok(Err(_)) | Err(_) => {}
                }
            }
            // Whether it was done nobody knows: it is tried again until it has run out.
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// Who holds the lease of this namespace and renews it; `None`: nobody who is alive. Watches for up to [`LEASE_DURATION`].
pub async fn holder(cluster: &Cluster, namespace: &str) -> Result<Option<String>, ClusterError> {
    match read(cluster, namespace).await? {
        Some(lease) => alive(cluster, namespace, &lease).await,
        None => Ok(None),
    }
}

/// Whether there is a lease in this namespace, whoever holds it.
pub async fn is_there(cluster: &Cluster, namespace: &str) -> Result<bool, ClusterError> {
    Ok(read(cluster, namespace).await?.is_some())
}

/// Removes the lease of this namespace, whoever holds it.
pub async fn clear(cluster: &Cluster, namespace: &str) -> Result<(), ClusterError> {
    match read(cluster, namespace).await? {
        Some(lease) => remove(cluster, namespace, &lease).await,
        None => Ok(()),
    }
}

/// Watches whether the holder of a lease renews it.
async fn alive(cluster: &Cluster, namespace: &str, seen: &Lease) -> Result<Option<String>, ClusterError> {
    if held_by(seen).is_none() {
        return Ok(None);
    }
    let end = Instant::now() + LEASE_DURATION;
    loop {
        match read(cluster, namespace).await? {
            None => return Ok(None),
            Some(now) if now.metadata.resource_version != seen.metadata.resource_version => return Ok(held_by(&now).map(str::to_owned)),
            Some(_) if Instant::now() >= end => return Ok(None),
            Some(_) => sleep(LOOK_PERIOD).await,
        }
    }
}

fn held_by(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn leases(cluster: &Cluster, namespace: &str) -> Api<Lease> {
    Api::namespaced(cluster.client(), namespace)
}

async fn read(cluster: &Cluster, namespace: &str) -> Result<Option<Lease>, ClusterError> {
    let leases = leases(cluster, namespace);
    cluster.call(format!("read the lease `{LEASE}` in namespace `{namespace}`"), leases.get_opt(LEASE)).await
}

async fn create(cluster: &Cluster, holder: &str) -> Result<Lease, ClusterError> {
    let namespace = &cluster.target.namespace;
    let lease = lease(namespace, holder, None, 0);
    let what = format!("create the lease `{LEASE}` in namespace `{namespace}`");
    cluster.call(what, leases(cluster, namespace).create(&PostParams::default(), &lease)).await
}

/// Writes it anew, if nobody has since it was read.
async fn replace(cluster: &Cluster, old: &Lease, holder: &str) -> Result<Lease, ClusterError> {
    let namespace = &cluster.target.namespace;
    let transitions = old.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
    let taken_over = i32::from(held_by(old) != Some(holder));
    let lease = lease(namespace, holder, Some(old), transitions + taken_over);
    let what = format!("renew the lease `{LEASE}` in namespace `{namespace}`");
    cluster.call(what, leases(cluster, namespace).replace(LEASE, &PostParams::default(), &lease)).await
}

async fn remove(cluster: &Cluster, namespace: &str, lease: &Lease) -> Result<(), ClusterError> {
    let preconditions = Preconditions { uid: lease.metadata.uid.clone(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let what = format!("remove the lease `{LEASE}` in namespace `{namespace}`");
    let leases = leases(cluster, namespace);
    match cluster.call(what, leases.delete(LEASE, &params)).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.status(), Some(NOT_FOUND | CONFLICT)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A lease, made anew or in the place of `old` and no other: the API server makes one that is gone again when only its version is given.
fn lease(namespace: &str, holder: &str, old: Option<&Lease>, transitions: i32) -> Lease {
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
    let mut metadata = json!({"name": LEASE, "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "comeback"}});
    if let Some(old) = old {
        metadata["resourceVersion"] = Value::from(old.metadata.resource_version.as_deref());
        metadata["uid"] = Value::from(old.metadata.uid.as_deref());
    }
    let spec = json!({
        "holderIdentity": holder,
        "leaseDurationSeconds": LEASE_DURATION.as_secs(),
        "renewTime": now,
        "leaseTransitions": transitions,
    });
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a lease is one")
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "an unknown host".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use axum::{
        Json, Router,
        http::StatusCode,
        routing::{get, post},
    };

    use super::*;
    use crate::cluster::fake;

    #[test]
    fn a_lease_that_was_not_renewed_in_time_is_lost() {
        let renewed = Instant::now();
        let hold = Hold { renewed, excused: renewed, lost: None };
        assert_eq!(hold.lost_at(renewed + LEASE_DURATION - Duration::from_millis(1)), None);
        // As after SIGSTOP: nobody had to tell.
        assert!(hold.lost_at(renewed + LEASE_DURATION).is_some_and(|why| why.contains("could not be renewed for 10s")));
        let taken = Hold { lost: Some("taken".into()), ..hold };
        assert_eq!(taken.lost_at(renewed).as_deref(), Some("taken"));
    }

    #[test]
    fn one_that_is_excused_is_not_lost_by_time_but_when_another_takes_it() {
        let renewed = Instant::now();
        let excused = renewed + LEASE_DURATION * 6;
        let hold = Hold { renewed, excused, lost: None };
        assert_eq!(hold.lost_at(excused + LEASE_DURATION - Duration::from_millis(1)), None);
        assert!(hold.lost_at(excused + LEASE_DURATION).is_some());
        assert!(Hold { lost: Some("taken".into()), ..hold }.lost_at(renewed).is_some());
    }

    #[test]
    fn a_try_that_hangs_leaves_time_for_another() {
        assert!(RENEW_PERIOD + (RENEW_DEADLINE + LOOK_PERIOD) * 2 <= LEASE_DURATION);
    }

    #[tokio::test]
    async fn whoever_cannot_renew_loses_it_and_does_not_take_it_back() {
        let broken = Arc::new(AtomicBool::new(true));
        let answers = broken.clone();
        let path = "/apis/coordination.k8s.io/v1/namespaces/db/leases";
        let renewed = move |lease: Json<Value>| async move {
            if answers.load(Ordering::SeqCst) { Err(StatusCode::SERVICE_UNAVAILABLE) } else { Ok(lease) }
        };
        let missing = || async {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
            (StatusCode::NOT_FOUND, Json(status))
        };
        let router = Router::new()
            .route(path, post(|lease: Json<Value>| async move { lease }))
            .route(&format!("{path}/{LEASE}"), get(missing).put(renewed));
        let lease = RunLease::acquire(&fake::cluster(router).await, "run-1").await.unwrap();
        assert_eq!(lease.lost(), None);
        let mut hold = lease.hold.subscribe();
        let told = hold.wait_for(|hold| hold.lost.is_some());
        timeout(LEASE_DURATION * 2, told).await.expect("it is told").expect("the one who renews is there");
        broken.store(false, Ordering::SeqCst);
        assert!(lease.lost().is_some_and(|why| why.contains("could not be renewed")));
    }
}
