//! A command in a container, through the API server.
//!
//! The deadline is around all of it: kube reads without one. Both streams are read while the command runs, because the pipes behind them
//! hold a kilobyte. A command whose container ends tells nothing any more, and that is no error here: [`End::Lost`].

use std::time::Duration;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::api::AttachParams;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::cluster::{Cluster, ClusterError};

/// The longest answer that is read: a list of processes.
const MAX_ANSWER: u64 = 1024 * 1024;

/// How a command in a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With this exit code.
    Code(i32),
    /// It never began: there is no such program in the container.
    Missing,
    /// It never began, for this reason.
    Refused(String),
    /// Nobody told: the connection broke off, as it does when the container ends.
    Lost,
}

/// What a command in a container said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) end: End,
}

/// Runs a command in a container and waits for its end, for so long at most.
pub(super) async fn exec(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    container: &str,
    command: &[&str],
    within: Duration,
) -> Result<Said, ClusterError> {
    let what = format!("run `{}` in container `{container}` of pod `{pod}`", command.first().unwrap_or(&""));
    let pods = kube::Api::<Pod>::namespaced(cluster.client(), namespace);
    let params = AttachParams::default().container(container).stdin(false).stdout(true).stderr(true);
    let running = async {
        let mut process = pods.exec(pod, command.iter().copied(), &params).await?;
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let status = process.take_status().expect("it is taken once");
        let (stdout, stderr, status) = tokio::join!(read(stdout), read(stderr), status);
        Ok((stdout, stderr, status))
    };
    match tokio::time::timeout(within, running).await {
        Ok(Ok((stdout, stderr, status))) => Ok(Said { stdout, stderr, end: status.map_or(End::Lost, |status| end(&status)) }),
        Ok(Err(source)) => Err(ClusterError::of(what, source)),
        Err(_) => Err(ClusterError::Deadline { what, deadline: within }),
    }
}

/// Reads to the end, or as far as it goes: the container may end in the middle of it.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        let _ = (&mut stream).take(MAX_ANSWER).read_to_end(&mut bytes).await;
        // What is beyond is thrown away, so that the command can end.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the status at the end of a command says.
fn end(status: &Status) -> End {
    if status.status.as_deref() == Some("Success") {
        return End::Code(0);
    }
    let message = status.message.clone().unwrap_or_default();
    let causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    let code = causes
        .filter(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .find_map(|cause| cause.message.as_deref().and_then(|code| code.trim().parse().ok()));
    match code {
        Some(code) => End::Code(code),
        None if is_missing(&message) => End::Missing,
        None => End::Refused(message),
    }
}

/// Whether the container runtime says that there is no such program: runc and its wrappers word it in these ways.
fn is_missing(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("executable file not found") || message.contains("no such file or directory")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case::well(json!({"status": "Success"}), End::Code(0))]
    #[case::an_exit_code(
        json!({"status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated with exit code 137",
               "details": {"causes": [{"reason": "ExitCode", "message": "137"}]}}),
        End::Code(137)
    )]
    #[case::no_such_program(
        json!({"status": "Failure", "reason": "InternalError", "message": "error executing command in container: failed to exec in container: failed to start exec \"x\": OCI runtime exec failed: exec failed: unable to start container process: exec: \"bash\": executable file not found in $PATH"}),
        End::Missing
    )]
    #[case::no_such_path(
        json!({"status": "Failure", "message": "OCI runtime exec failed: exec: \"/comeback\": stat /comeback: no such file or directory"}),
        End::Missing
    )]
    #[case::refused(json!({"status": "Failure", "message": "container not found (\"mssql\")"}), End::Refused("container not found (\"mssql\")".into()))]
    fn the_end_is_told_by_the_status(#[case] status: Value, #[case] expected: End) {
        assert_eq!(end(&serde_json::from_value(status).unwrap()), expected);
    }
}
