//! One run at a time: the Lease that a run holds in the namespace that it breaks.
//!
//! A run renews it every few seconds. Whoever finds one (another run, or `comeback heal`) watches whether it is renewed before he takes its
//! holder for dead. The stamps in it are never compared with a clock of ours: two machines need not agree on the time, and a lease that does
//! not change for as long as it is valid is dead on any clock.

use std::{fmt, time::Duration};

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
    time::{Instant, sleep},
};

use super::{Cluster, ClusterError};

/// The name of the lease.
pub const LEASE: &str = "comeback-run";
/// How long a run may go without renewing it before it counts as dead.
pub const LEASE_DURATION: Duration = Duration::from_secs(10);
/// How often a run renews it.
const RENEW_PERIOD: Duration = Duration::from_secs(3);
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
    renewing: JoinHandle<()>,
    lost: watch::Receiver<Option<String>>,
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
        let namespace = cluster.target.namespace.clone();
        let holder = format!("{run} on {} (process {})", host(), std::process::id());
        for _ in 0..TRIES {
            let taken = match read(cluster, &namespace).await? {
                None => create(cluster, &holder).await,
                Some(lease) => {
                    if let Some(holder) = alive(cluster, &namespace, &lease).await? {
                        return Err(LeaseError::Taken { holder, namespace });
                    }
                    replace(cluster, &lease, &holder).await
                }
            };
            match taken {
                Ok(lease) => return Ok(Self::hold(cluster.clone(), holder, lease)),
                Err(error) if matches!(error.status(), Some(CONFLICT | NOT_FOUND)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(LeaseError::Contended { namespace })
    }

    fn hold(cluster: Cluster, holder: String, lease: Lease) -> Self {
        let (sender, lost) = watch::channel(None);
        let renewing = tokio::spawn(renew(cluster.clone(), holder.clone(), lease, sender));
        Self { cluster, holder, renewing, lost }
    }

    /// Why the lease is no longer ours, if it is not: somebody took it, or removed it.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.lost.borrow().clone()
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
async fn renew(cluster: Cluster, holder: String, mut lease: Lease, lost: watch::Sender<Option<String>>) {
    let namespace = cluster.target.namespace.clone();
    loop {
        sleep(RENEW_PERIOD).await;
        match replace(&cluster, &lease, &holder).await {
            Ok(renewed) => lease = renewed,
            Err(error) if matches!(error.status(), Some(CONFLICT | NOT_FOUND)) => match read(&cluster, &namespace).await {
                Ok(Some(now)) if held_by(&now) == Some(holder.as_str()) => lease = now,
                Ok(now) => {
                    let who = now.as_ref().and_then(held_by).map_or_else(|| "nobody".to_owned(), str::to_owned);
                    lost.send_replace(Some(format!("the lease `{LEASE}` in namespace `{namespace}` is now held by {who}")));
                    return;
                }
                Err(_) => {}
            },
            // A cluster that does not answer gives it to nobody else either.
            Err(_) => {}
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
