//! What a container said: `pods/log`.
//!
//! Served: `container`, `previous`, `tailLines`, `limitBytes`, `follow`. Lines carry no time of their own, so `timestamps` and `sinceSeconds` are
//! refused rather than answered wrongly.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

use super::{
    super::{Cluster, kubelet::log_file, object::Look, refusal::Refusal, store::Key},
    Asked, only_container,
};

/// How often a followed log is looked at. `kubectl logs -f` is read by people.
const FOLLOW_PERIOD: Duration = Duration::from_millis(50);
/// How much of a followed log goes out at once.
const CHUNK: usize = 64 * 1024;

/// Answers `pods/log`.
pub(super) async fn answer(cluster: &Arc<Cluster>, asked: &Asked, key: &Key) -> Result<Response, Refusal> {
    if asked.method != Method::GET {
        return Err(Refusal::method_not_allowed());
    }
    for unknown in ["timestamps", "sinceSeconds", "sinceTime"] {
        if asked.parameter(unknown).is_some_and(|value| value != "false") {
            return Err(Refusal::bad_request(format!("the sandbox keeps no time for each line of a log: leave out `{unknown}`")));
        }
    }
    let pod = cluster.store.get(key.kind, &key.namespace, &key.name).ok_or_else(|| Refusal::not_found(key.kind, &key.name))?;
    let container = only_container(&pod, asked.parameter("container"))?;
    let restarts = pod
        .list("/status/containerStatuses")
        .iter()
        .find(|status| status.text("/name") == container)
        .and_then(|status| status.int("/restartCount"))
        .unwrap_or_default();
    let life = if asked.flag("previous") { restarts - 1 } else { restarts };
    let file = log_file(&cluster.dir, pod.uid(), container, life);
    let Ok(mut text) = tokio::fs::read(&file).await else {
        let why = if asked.flag("previous") {
            format!("previous terminated container \"{container}\" in pod \"{}\" not found", key.name)
        } else {
            format!("container \"{container}\" in pod \"{}\" is waiting to start", key.name)
        };
        return Err(Refusal::bad_request(why));
    };
    let length = text.len() as u64;
    if let Some(lines) = asked.number("tailLines")? {
        text.drain(..start_of_last_lines(&text, usize::try_from(lines).unwrap_or_default()));
    }
    if let Some(limit) = asked.number("limitBytes")? {
        text.truncate(usize::try_from(limit).unwrap_or_default());
    }
    let headers = [(header::CONTENT_TYPE, "text/plain")];
    if !asked.flag("follow") {
        return Ok((StatusCode::OK, headers, text).into_response());
    }
    let following =
        Following { cluster: cluster.clone(), key: key.clone(), uid: pod.uid().to_owned(), container: container.to_owned(), life, file };
    let first = stream::once(async move { Ok::<_, std::io::Error>(Bytes::from(text)) });
    let rest = stream::try_unfold((following, length), |(following, at)| async move {
        let more = following.more(at).await?;
        Ok::<_, std::io::Error>(more.map(|more| {
            let at = at + more.len() as u64;
            (more, (following, at))
        }))
    });
    Ok((StatusCode::OK, headers, Body::from_stream(futures::StreamExt::chain(first, rest))).into_response())
}

/// Where the last so many lines begin.
fn start_of_last_lines(text: &[u8], lines: usize) -> usize {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    if lines == 0 {
        return text.len();
    }
    body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').nth(lines - 1).map_or(0, |(at, _)| at + 1)
}

struct Following {
    cluster: Arc<Cluster>,
    key: Key,
    uid: String,
    container: String,
    life: i64,
    file: PathBuf,
}

impl Following {
    /// What was written after `at`; `None` once the container has ended and everything has been sent.
    async fn more(&self, at: u64) -> std::io::Result<Option<Bytes>> {
        loop {
            // Asked before reading, so that what was written last is still read.
            let is_live = self.is_live();
            let mut file = match File::open(&self.file).await {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            file.seek(std::io::SeekFrom::Start(at)).await?;
            let mut text = Vec::new();
            file.take(CHUNK as u64).read_to_end(&mut text).await?;
            if !text.is_empty() {
                return Ok(Some(text.into()));
            }
            if !is_live {
                return Ok(None);
            }
            tokio::select! {
                () = self.cluster.stopping.cancelled() => return Ok(None),
                () = tokio::time::sleep(FOLLOW_PERIOD) => {}
            }
        }
    }

    fn is_live(&self) -> bool {
        let Some(pod) = self.cluster.store.get(self.key.kind, &self.key.namespace, &self.key.name) else { return false };
        pod.uid() == self.uid
            && pod.list("/status/containerStatuses").iter().any(|status| {
                status.text("/name") == self.container && status.int("/restartCount") == Some(self.life) && status.has("/state/running")
            })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none("a\nb\nc\n", 0, "")]
    #[case::one("a\nb\nc\n", 1, "c\n")]
    #[case::two("a\nb\nc\n", 2, "b\nc\n")]
    #[case::more_than_there_are("a\nb\n", 9, "a\nb\n")]
    #[case::without_a_last_newline("a\nb", 1, "b")]
    #[case::of_nothing("", 3, "")]
    fn the_last_lines(#[case] text: &str, #[case] lines: usize, #[case] expected: &str) {
        assert_eq!(&text[start_of_last_lines(text.as_bytes(), lines)..], expected);
    }
}
