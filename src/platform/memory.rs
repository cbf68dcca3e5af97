//! The memory of the database's container, taken from inside until the kernel kills the engine: by our own binary where it is in the image, else by bash.

use std::time::Duration;

use super::{
    Container, PlatformError,
    exec::{End, Said, exec},
    signal::{KILLED, OWN_BINARY, inside},
};
use crate::cluster::Cluster;

/// How long it may take until all the memory is taken.
const WITHIN: Duration = Duration::from_mins(1);

/// Takes memory with bash and coreutils. Arguments: the numbers of the processes that are to die for it.
const SCRIPT: &str = include_str!("memory.bash");

/// What is to die: see [`processes`](super::processes).
const ENGINE: &str = "engine";

/// Takes all the memory that the container may have, and says what became of it.
pub(super) async fn exhaust(cluster: &Cluster, at: &Container<'_>) -> Result<String, PlatformError> {
    match taken(cluster, at, &[OWN_BINARY, "exhaust-memory"]).await? {
        Some(said) => Ok(format!("{said}, by {OWN_BINARY}")),
        None => by_bash(cluster, at).await,
    }
}

async fn by_bash(cluster: &Cluster, at: &Container<'_>) -> Result<String, PlatformError> {
    let neither = || {
        PlatformError::NotPossible(format!(
            "container `{}` holds neither our binary nor bash with coreutils, which take the memory",
            at.container
        ))
    };
    let engines = inside(cluster, at, ENGINE).await?.ok_or_else(neither)?;
    let numbers: Vec<String> = engines.iter().map(|process| process.pid.to_string()).collect();
    let command: Vec<&str> = ["bash", "-c", SCRIPT, "comeback-memory"].into_iter().chain(numbers.iter().map(String::as_str)).collect();
    let said = taken(cluster, at, &command).await?.ok_or_else(neither)?;
    Ok(format!("{said}, by bash"))
}

/// Runs what takes the memory. `None`: it is not there.
async fn taken(cluster: &Cluster, at: &Container<'_>, command: &[&str]) -> Result<Option<String>, PlatformError> {
    let Said { stderr, end, .. } = exec(cluster, at.namespace, at.pod, at.container, command, WITHIN).await?;
    match end {
        // The kernel ended it, or all of its container.
        End::Lost | End::Code(0 | KILLED) => Ok(Some("the memory was taken until the kernel killed".to_owned())),
        End::Missing | End::Code(126 | 127) => Ok(None),
        end => {
            let said = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing").to_owned();
            Err(PlatformError::NotPossible(format!("the memory of container `{}` was not exhausted ({end:?}): {said}", at.container)))
        }
    }
}
