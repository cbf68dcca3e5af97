//! `crashNode`: the node that runs the database loses its power.

use super::{Aim, Fault, FaultError, Scene};
use crate::scenario::CrashNode;

impl Fault for CrashNode {
    async fn aim(&self, _: &Scene<'_>) -> Result<Aim, FaultError> {
        Err(FaultError::NotPossible("this place has no power switch for its nodes".to_owned()))
    }

    async fn inject(&self, _: &Scene<'_>, _: &Aim) -> Result<String, FaultError> {
        Err(FaultError::NotPossible("this place has no power switch for its nodes".to_owned()))
    }

    async fn confirm(&self, _: &Scene<'_>, _: &Aim) -> Option<String> {
        None
    }
}
