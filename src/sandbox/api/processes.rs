//! What the Kubernetes API lacks: the processes of a container, and signals to them.
//!
//! - `GET  /comeback/v1/namespaces/{ns}/pods/{pod}/containers/{container}/processes`
//! - `POST /comeback/v1/namespaces/{ns}/pods/{pod}/containers/{container}/signal` with `{"process": "engine", "signal": "SIGKILL"}`
//!
//! `process` is `@first` (the container's first process), `engine` (the `sqlservr` whose parent is a `sqlservr`), `watchdog` (the one whose parent is not), or the kernel's name of a process.

use axum::{http::StatusCode, response::Response};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{
    super::{
        Cluster, Defect,
        kinds::Kind,
        object::Look,
        process::{Process, Running},
        refusal::Refusal,
        store::Key,
    },
    Asked, json_response,
    path::ContainerPlace,
};
use crate::platform::processes::FIRST_NAME;

/// Answers a request about the processes of a container. Reading all of `/proc` takes its time, so it is done where that holds up nobody.
pub(super) async fn answer(cluster: &Cluster, asked: Asked, place: ContainerPlace) -> Result<Response, Refusal> {
    let pod = Key::new(Kind::Pod, &place.namespace, &place.pod);
    let process = cluster.containers.find(&pod, &place.container).map(|found| found.process).ok_or_else(|| {
        Refusal::nothing_found(format!("container `{}` of pod `{}/{}` is not running here", place.container, place.namespace, place.pod))
    })?;
    // One that only pretends sends nothing, and says who got it.
    let pretends = cluster.defect == Some(Defect::FaultsDoNothing);
    let looked = tokio::task::spawn_blocking(move || look(&process, &asked, &place, pretends)).await;
    looked.map_err(|_| Refusal::internal("the sandbox is stopping"))?
}

fn look(process: &Process, asked: &Asked, place: &ContainerPlace, pretends: bool) -> Result<Response, Refusal> {
    let there = process.members();
    let body = match (asked.method.as_str(), place.verb.as_str()) {
        ("GET", "processes") => json!({ "processes": there.iter().map(|one| described(one, &there)).collect::<Vec<_>>() }),
        ("POST", "signal") => {
            let wanted = asked.object()?;
            json!({ "signalled": signal(process, &there, &wanted, pretends)? })
        }
        (_, "processes" | "signal") => return Err(Refusal::method_not_allowed()),
        _ => return Err(Refusal::no_such_path()),
    };
    Ok(json_response(StatusCode::OK, &body))
}

fn signal(process: &Process, there: &[Running], wanted: &Value, pretends: bool) -> Result<Vec<Value>, Refusal> {
    let (which, name) = (wanted.text("/process"), wanted.text("/signal"));
    if which.is_empty() {
        return Err(Refusal::unprocessable("`process` must name a process: `engine`, `watchdog`, or the kernel's name of one"));
    }
    let full = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    let signal: Signal =
        full.parse().map_err(|_| Refusal::unprocessable(format!("`signal` is `{name}`, which is no signal of Linux's")))?;
    let first = if which == FIRST_NAME { there.first() } else { None };
    let meant: Vec<_> = there.iter().filter(|one| one.comm == which || role(one, there) == Some(which)).chain(first).collect();
    if meant.is_empty() {
        let list = there.iter().map(|one| format!("{} ({})", one.comm, one.pid)).collect::<Vec<_>>().join(", ");
        let list = if list.is_empty() { "none".to_owned() } else { list };
        return Err(Refusal::nothing_found(format!("no process `{which}` in this container; there are: {list}")));
    }
    let signalled: Vec<_> =
        meant.into_iter().filter(|one| pretends || process.signal(one, signal)).map(|one| described(one, there)).collect();
    if signalled.is_empty() {
        return Err(Refusal::nothing_found(format!("process `{which}` ended before the signal was sent")));
    }
    Ok(signalled)
}

/// SQL Server runs as two processes of one name: a watchdog, and the engine that is its child.
pub(in crate::sandbox) fn role(one: &Running, there: &[Running]) -> Option<&'static str> {
    const SERVER: &str = "sqlservr";
    if one.comm != SERVER {
        return None;
    }
    let parent = there.iter().find(|other| other.pid == one.parent);
    Some(if parent.is_some_and(|parent| parent.comm == SERVER) { "engine" } else { "watchdog" })
}

fn described(one: &Running, there: &[Running]) -> Value {
    let mut described = json!({ "pid": one.pid, "parent": one.parent, "comm": one.comm });
    if let Some(role) = role(one, there) {
        described["role"] = role.into();
    }
    described
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(pid: i32, parent: i32, comm: &str) -> Running {
        Running { pid, parent, group: 1, comm: comm.to_owned(), started: 0, state: 'S' }
    }

    #[test]
    fn the_engine_is_the_server_whose_parent_is_a_server() {
        let there = [running(10, 1, "sqlservr"), running(11, 10, "sqlservr"), running(12, 10, "sh")];
        assert_eq!(there.iter().map(|one| role(one, &there)).collect::<Vec<_>>(), [Some("watchdog"), Some("engine"), None]);
    }
}
