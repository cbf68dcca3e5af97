//! A node's power switch, which Kubernetes lacks.
//!
//! - `GET  /comeback/v1/nodes/{node}/power` tells what is in force: `{"state": "on"}`
//! - `POST /comeback/v1/nodes/{node}/power` with `{"state": "off"}` or `{"state": "on"}` returns when it is in force: off when no process of the node is left, on when
//!   its kubelet has started. Setting it as it is changes nothing.
//!
//! The control plane has no switch: the API that would take it is not on that node here, so nothing true could be shown.

use axum::{
    http::{Method, StatusCode},
    response::Response,
};
use serde_json::json;

use super::{
    super::{
        Cluster, Defect, hurts,
        kinds::Kind,
        object::Look,
        power::{NotInForce, SWITCH_TIMEOUT, State},
        refusal::Refusal,
    },
    Asked, json_response,
};

/// The node that is never switched.
const CONTROL_PLANE: &str = "control-plane";

/// Answers a request about a node's power.
pub(super) async fn answer(cluster: &Cluster, asked: &Asked, node: &str) -> Result<Response, Refusal> {
    if cluster.defect == Some(Defect::FaultsDoNothing) {
        return pretend(cluster, asked, node);
    }
    let state = match asked.method {
        Method::GET => cluster.power.state(node).ok_or_else(|| Refusal::not_found(Kind::Node, node))?,
        Method::POST => {
            let wanted = asked.object()?;
            let word = wanted.text("/state");
            let state =
                State::of_word(word).ok_or_else(|| Refusal::unprocessable(format!("`state` is `{word}`, and power is `on` or `off`")))?;
            if node == CONTROL_PLANE {
                return Err(Refusal::unprocessable(
                    "the control plane of the sandbox has no power switch: its API would go on all the same",
                ));
            }
            let set = cluster.power.set(node, state).ok_or_else(|| Refusal::not_found(Kind::Node, node))?;
            set.in_force().await.map_err(|why| match why {
                NotInForce::SetAgain => Refusal::conflict(Kind::Node, node, "its power was switched again in the meantime"),
                NotInForce::TooLate => Refusal::internal(format!(
                    "the power of node `{node}` is not `{word}` after {SWITCH_TIMEOUT:?}: a process of it does not die"
                )),
            })?;
            state
        }
        _ => return Err(Refusal::method_not_allowed()),
    };
    Ok(json_response(StatusCode::OK, &json!({ "state": state.word() })))
}

/// Says that a switch is as it was set, without setting it: a sandbox that only pretends.
fn pretend(cluster: &Cluster, asked: &Asked, node: &str) -> Result<Response, Refusal> {
    let mut claims = hurts::claims(&cluster.hurts);
    if asked.method == Method::POST
        && let Some(state) = State::of_word(asked.object()?.text("/state"))
    {
        claims.insert(node.to_owned(), state);
    }
    let state = claims.get(node).copied().unwrap_or(State::On);
    Ok(json_response(StatusCode::OK, &json!({ "state": state.word() })))
}
