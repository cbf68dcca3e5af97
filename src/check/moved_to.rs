//! The database is where the scenario expects it (`movedTo`).

use super::Finding;
use crate::{
    event::{PodFacts, Side},
    measure::TrialHistory,
    scenario::MovedTo,
};

pub(super) fn moved_to(trial: &TrialHistory) -> Finding {
    let Some(expected) = trial.plan.scenario.expect.moved_to else {
        return Finding::skipped("the scenario does not say where it should be");
    };
    if trial.faults.iter().any(|fault| fault.confirmed.is_none()) || !trial.ran_its_course() {
        return Finding::unproven("not every fault was seen to take effect, so it need not have moved");
    }
    let (Some(before), Some(after)) = (node(trial, Side::Before), node(trial, Side::After)) else {
        return Finding::unproven("the node was not seen both before and after the fault");
    };
    match (expected, before == after) {
        (MovedTo::OtherNode, false) => Finding::passed(format!("it moved from node `{before}` to node `{after}`")),
        (MovedTo::SameNode, true) => Finding::passed(format!("it stayed on node `{before}`")),
        (MovedTo::OtherNode, true) => Finding::failed(format!("it stayed on node `{before}` and should have moved")),
        (MovedTo::SameNode, false) => Finding::failed(format!("it moved from node `{before}` to node `{after}` and should have stayed")),
    }
}

fn node(trial: &TrialHistory, side: Side) -> Option<&str> {
    let PodFacts { node, .. } = trial.snapshots.get(&side)?.pod.known()?;
    node.as_deref()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{super::makers::*, *};
    use crate::{event::Answer, result::Verdict};

    #[rstest]
    #[case::it_should_move_and_did(Some(MovedTo::OtherNode), "worker-2", Verdict::Passed)]
    #[case::it_should_move_and_stayed(Some(MovedTo::OtherNode), "worker-1", Verdict::Failed)]
    #[case::it_should_stay_and_did(Some(MovedTo::SameNode), "worker-1", Verdict::Passed)]
    #[case::it_should_stay_and_moved(Some(MovedTo::SameNode), "worker-2", Verdict::Failed)]
    #[case::nobody_said(None, "worker-2", Verdict::Skipped)]
    fn where_it_is_against_where_it_should_be(#[case] expected: Option<MovedTo>, #[case] node: &str, #[case] verdict: Verdict) {
        let mut trial = clean();
        trial.plan.scenario.expect.moved_to = expected;
        let Answer::Known(pod) = &mut trial.snapshots.get_mut(&Side::After).unwrap().pod else { unreachable!() };
        pod.node = Some(node.into());
        assert_eq!(moved_to(&trial).verdict, verdict);
    }

    #[test]
    fn what_was_not_broken_need_not_have_moved() {
        let cut_short: [fn(&mut TrialHistory); 3] =
            [|trial| trial.faults[0].confirmed = None, |trial| trial.end = None, |trial| trial.faults[0].failed = Some("404".into())];
        for change in cut_short {
            let mut trial = clean();
            trial.plan.scenario.expect.moved_to = Some(MovedTo::SameNode);
            change(&mut trial);
            assert_eq!(moved_to(&trial).verdict, Verdict::Unproven);
        }
    }

    #[test]
    fn a_node_that_was_not_seen_proves_nothing() {
        let mut trial = clean();
        trial.plan.scenario.expect.moved_to = Some(MovedTo::OtherNode);
        trial.snapshots.get_mut(&Side::After).unwrap().pod = Answer::Unavailable("…".into());
        assert_eq!(moved_to(&trial).verdict, Verdict::Unproven);
    }
}
