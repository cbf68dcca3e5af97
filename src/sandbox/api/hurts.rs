//! What lasts, and what happens once, that Kubernetes lacks: `POST /comeback/v1/hurts` with a `verb`.
//!
//! - `begin` with `hurt` and `atMostMs`, `end` with `hurt`, `look` with `hurt`, which answers with `facts`;
//! - `reset` with `address`: every connection to it is reset; `exhaust` with `namespace`, `pod`, `container`: the container is killed as the kernel kills one
//!   without memory. Both answer with what was `done`.

use std::{sync::Arc, time::Duration};

use axum::{
    http::{Method, StatusCode},
    response::Response,
};
use serde_json::json;

use super::{
    super::{
        Cluster, Defect,
        hurts::{self, address},
        kinds::Kind,
        object::Look,
        refusal::Refusal,
        store::Key,
    },
    Asked, json_response,
    processes::role,
};
use crate::platform::Hurt;

/// Answers a request about what is hurt.
pub(super) async fn answer(cluster: &Arc<Cluster>, asked: &Asked) -> Result<Response, Refusal> {
    if asked.method != Method::POST {
        return Err(Refusal::method_not_allowed());
    }
    let body = asked.object()?;
    let verb = body.text("/verb");
    let hurt = || {
        serde_json::from_value::<Hurt>(body["hurt"].clone())
            .map_err(|error| Refusal::unprocessable(format!("`hurt` cannot be read: {error}")))
    };
    // One that only pretends says that all is done.
    let pretends = cluster.defect == Some(Defect::FaultsDoNothing);
    let done = |what: String| Ok(json_response(StatusCode::OK, &json!({ "done": what })));
    match verb {
        "begin" | "reset" | "exhaust" if pretends => done("as it was asked for".to_owned()),
        "begin" => {
            let at_most = Duration::from_millis(body.int("/atMostMs").and_then(|ms| u64::try_from(ms).ok()).unwrap_or_default());
            hurts::begin(cluster, hurt()?, at_most).map_err(Refusal::unprocessable)?;
            done("begun".to_owned())
        }
        "end" => {
            hurts::end(cluster, &hurt()?).map_err(Refusal::internal)?;
            done("ended".to_owned())
        }
        "look" => Ok(json_response(StatusCode::OK, &json!({ "facts": hurts::look(cluster, &hurt()?) }))),
        "reset" => {
            let text = body.text("/address");
            let address = address(text).ok_or_else(|| Refusal::unprocessable(format!("`{text}` is no address")))?;
            let count = cluster.hurts.reset_all(address).await;
            done(format!("{count} connections to {address} were reset"))
        }
        "exhaust" => {
            let (namespace, pod, container) = (body.text("/namespace"), body.text("/pod"), body.text("/container"));
            let found = cluster.containers.find(&Key::new(Kind::Pod, namespace, pod), container);
            let found = found
                .ok_or_else(|| Refusal::nothing_found(format!("container `{container}` of pod `{namespace}/{pod}` is not running here")))?;
            found.process.mark_out_of_memory();
            let there = found.process.members();
            let victims: Vec<_> = there.iter().filter(|one| role(one, &there) == Some("engine")).collect();
            let killed = victims.into_iter().filter(|one| found.process.signal(one, nix::sys::signal::Signal::SIGKILL)).count();
            if killed == 0 {
                // Nobody takes more memory than the first process.
                found.process.kill_all();
            }
            done("the container had no memory left: its largest process was killed".to_owned())
        }
        other => Err(Refusal::unprocessable(format!("`verb` is `{other}`, and there are `begin`, `end`, `look`, `reset`, `exhaust`"))),
    }
}
