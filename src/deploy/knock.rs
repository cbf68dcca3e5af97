//! The first acknowledged write: a client within the cluster, on another node than the database, through the service address.
//!
//! A service address leads nowhere from outside of the cluster, so a short-lived pod of our own image does it (`comeback knock`): it makes a database of
//! its own, writes a row, reads it back on another connection, and drops the database. The pod is removed afterwards, also when it failed; should
//! its maker die, a deadline of its own ends it, and the next one that knocks removes what is left.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    api::{DeleteParams, ListParams, PostParams},
    runtime::watcher,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    NAMESPACE, PASSWORD_KEY, RUN, SECRET,
    engine::{USER_ID, own_security},
    shape::COMPONENT,
    wait::{Look, NotUp, State, explained, last_line, state, until},
};
use crate::{
    cluster::{Cluster, ClusterError},
    event::ServiceFacts,
    workload::{Password, Server, SqlError},
};

/// What [`COMPONENT`] says on its pod.
pub const KNOCK: &str = "knock";
/// The container in it.
const CONTAINER: &str = "knock";

/// How long the pod may take to be scheduled and started, beside the time that it knocks for.
const START_DEADLINE: Duration = Duration::from_mins(1);
/// How long one attempt may take.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(15);
/// How long between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// The database that is made for it.
const DATABASE: &str = "comeback_knock";

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knocked {
    /// What the server calls itself.
    pub version: String,
    /// How long it took from the first attempt to the acknowledged write that was read back.
    pub after_ms: u64,
    /// How many attempts it took.
    pub attempts: u32,
}

/// No write was acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum KnockError {
    /// A call to the cluster failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The pod did not come to an end.
    #[error(transparent)]
    NotUp(#[from] NotUp),
    /// The pod came to an end without a write.
    #[error("no write was acknowledged through the service address {address}: {why}")]
    Refused {
        /// Where it knocked.
        address: String,
        /// What the client said.
        why: String,
    },
}

/// Knocks from within the cluster, for `within` from the start of the pod. `image` is our own.
pub async fn from_within(cluster: &Cluster, service: &ServiceFacts, image: &str, within: Duration) -> Result<Knocked, KnockError> {
    remove(cluster).await?;
    let knocked = knock_once(cluster, service, image, within).await;
    // Whatever came of it. The first error is the one to tell.
    match (knocked, remove(cluster).await) {
        (Ok(knocked), Ok(())) => Ok(knocked),
        (Ok(_), Err(error)) => Err(error.into()),
        (Err(error), _) => Err(error),
    }
}

/// Removes every pod that ever knocked here.
pub async fn remove(cluster: &Cluster) -> Result<(), ClusterError> {
    let ours = ListParams::default().labels(&format!("{COMPONENT}={KNOCK},app.kubernetes.io/managed-by=comeback"));
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    cluster.call("remove the pods that knock", cluster.namespaced::<Pod>().delete_collection(&now, &ours)).await.map(drop)
}

async fn knock_once(cluster: &Cluster, service: &ServiceFacts, image: &str, within: Duration) -> Result<Knocked, KnockError> {
    let address = format!("{}:{}", service.cluster_ip, service.port);
    let manifest = pod(&cluster.target.selector, &address, image, within);
    let pod: Pod = serde_json::from_value(manifest).expect("the manifest is a pod");
    let name = pod.metadata.name.clone().expect("the manifest has a name");
    let pods = cluster.namespaced::<Pod>();
    cluster.call(format!("create pod `{name}`"), pods.create(&PostParams::default(), &pod)).await?;

    let deadline = START_DEADLINE + within;
    let which = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let ended = until(&pods, which, deadline, |pods| {
        let Some(pod) = pods.values().next() else { return Look::NotYet("its pod is not there".to_owned()) };
        match state(pod, CONTAINER) {
            State::Ended(_) => Look::Yes(pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded")),
            State::Ready => Look::NotYet("it knocks, and was not answered".to_owned()),
            State::Waiting(how) => Look::NotYet(how),
            State::Hopeless(how) => Look::Never(how),
        }
    });
    let succeeded = match ended.await {
        Ok(succeeded) => succeeded,
        Err((in_vain, how)) => {
            let why = explained(cluster, &format!("{COMPONENT}={KNOCK}"), CONTAINER, how).await;
            return Err(NotUp { what: "the client that writes the first row".to_owned(), waited: in_vain.then_some(deadline), why }.into());
        }
    };
    let said = last_line(cluster, &name, CONTAINER).await.unwrap_or_else(|| "it left no log".to_owned());
    match serde_json::from_str(&said) {
        Ok(knocked) if succeeded => Ok(knocked),
        Ok(_) | Err(_) => Err(KnockError::Refused { address, why: said.trim_start_matches("error: ").to_owned() }),
    }
}

fn pod(selector: &str, address: &str, image: &str, within: Duration) -> Value {
    let name = format!("comeback-knock-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let (key, value) = selector.split_once('=').expect("our selectors are one label");
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {COMPONENT: KNOCK, "app.kubernetes.io/managed-by": "comeback", "comeback.dev/run": RUN},
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            // Ends it should its maker be gone.
            "activeDeadlineSeconds": (START_DEADLINE + within).as_secs() + 30,
            "enableServiceLinks": false,
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": USER_ID},
            // Another node than the database's: what is to be seen is the service address, not the way within one node.
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
                "labelSelector": {"matchLabels": {key: value}},
                "topologyKey": "kubernetes.io/hostname",
            }]}},
            "containers": [{
                "name": CONTAINER,
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": ["knock", address, "--within", humantime::format_duration(within).to_string().replace(' ', "")],
                "env": [{"name": PASSWORD_KEY, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": PASSWORD_KEY}}}],
                "securityContext": own_security(),
                "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
            }],
        },
    })
}

/// Writes one row and reads it back, again and again until it succeeds or the time is up: what `comeback knock` does.
///
/// # Errors
/// The last error, when the time is up.
pub async fn until_answered(host: &str, port: u16, user: &str, password: Password, within: Duration) -> Result<Knocked, SqlError> {
    let server = Server { host: host.to_owned(), port, user: user.to_owned(), password, application: "comeback knock".to_owned() };
    let begin = Instant::now();
    let end = begin + within;
    let mut attempts = 0;
    loop {
        attempts += 1;
        match write_and_read(&server, (Instant::now() + ATTEMPT_DEADLINE).min(end)).await {
            Ok(version) => {
                let after_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
                return Ok(Knocked { version, after_ms, attempts });
            }
            Err(error) if Instant::now() + PAUSE >= end => return Err(error),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn write_and_read(server: &Server, deadline: Instant) -> Result<String, SqlError> {
    let mut master = server.connect("master", deadline).await?;
    master.batch(&format!("IF DB_ID(N'{DATABASE}') IS NULL CREATE DATABASE [{DATABASE}]"), deadline).await?;
    let version = master.ask("SELECT @@VERSION", deadline).await?;

    let id = uuid::Uuid::new_v4().to_string();
    let mut session = server.connect(DATABASE, deadline).await?;
    session
        .batch("IF OBJECT_ID(N'dbo.knock', N'U') IS NULL CREATE TABLE dbo.knock (id varchar(36) NOT NULL PRIMARY KEY)", deadline)
        .await?;
    session.query("INSERT INTO dbo.knock (id) VALUES (@P1)", &[&id.as_str()], deadline).await?;
    session.close(deadline).await?;

    let mut other = server.connect(DATABASE, deadline).await?;
    let rows = other.query("SELECT id FROM dbo.knock WHERE id = @P1", &[&id.as_str()], deadline).await?;
    other.close(deadline).await?;
    if rows.len() != 1 {
        let kind = crate::workload::SqlErrorKind::Broken("the row that was acknowledged is not there on another connection".to_owned());
        return Err(SqlError { stage: crate::event::Stage::Write, kind });
    }
    // It is in nobody's way if it stays, and the next one uses it.
    let _ = master.batch(&format!("DROP DATABASE [{DATABASE}]"), deadline).await;
    let _ = master.close(deadline).await;
    Ok(version.known().map_or_else(|| "it does not tell".to_owned(), |version| super::wait::short(version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_keeps_away_from_the_database_ends_by_itself_and_knows_no_password() {
        let pod: Pod = serde_json::from_value(pod("app=mssql-guide", "10.96.0.9:1433", "comeback:1", Duration::from_mins(2))).unwrap();
        let spec = pod.spec.unwrap();
        let terms = spec.affinity.unwrap().pod_anti_affinity.unwrap().required_during_scheduling_ignored_during_execution.unwrap();
        assert_eq!(terms[0].label_selector.as_ref().unwrap().match_labels.as_ref().unwrap()["app"], "mssql-guide");
        assert_eq!(spec.active_deadline_seconds, Some(210));
        assert_eq!(spec.containers[0].args.as_deref().unwrap(), ["knock", "10.96.0.9:1433", "--within", "2m"]);
        assert!(spec.containers[0].env.as_ref().unwrap().iter().all(|variable| variable.value.is_none()));
        assert_eq!(spec.automount_service_account_token, Some(false));
    }
}
