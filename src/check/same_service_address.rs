//! Clients find the database behind the same service address: the same object, the same address, the same port.

use super::Finding;
use crate::{
    event::{Answer, ServiceFacts, Side},
    measure::TrialHistory,
};

pub(super) fn same_service_address(trial: &TrialHistory) -> Finding {
    let (Some(before), Some(after)) = (trial.snapshots.get(&Side::Before), trial.snapshots.get(&Side::After)) else {
        return Finding::unproven("the service was not looked at both before and after the fault");
    };
    match (&before.service, &after.service) {
        (Answer::Known(before), Answer::Known(after)) if before == after => {
            Finding::passed(format!("{}, the same service object", address(before)))
        }
        (Answer::Known(before), Answer::Known(after)) if address(before) == address(after) => Finding::failed(format!(
            "{}, but the service is another object: uid {} before, {} after",
            address(after),
            before.uid,
            after.uid
        )),
        (Answer::Known(before), Answer::Known(after)) => {
            Finding::failed(format!("the service address was {} and is {}", address(before), address(after)))
        }
        (Answer::Unavailable(why), _) => Finding::unproven(format!("the cluster did not tell the service before the fault: {why}")),
        (_, Answer::Unavailable(why)) => Finding::unproven(format!("the cluster did not tell the service after the fault: {why}")),
    }
}

fn address(service: &ServiceFacts) -> String {
    format!("{}:{}", service.cluster_ip, service.port)
}

#[cfg(test)]
mod tests {
    use super::{super::makers::*, *};
    use crate::{event::Snapshot, result::Verdict};

    fn after(change: impl FnOnce(&mut ServiceFacts)) -> Finding {
        let mut trial = clean();
        let Some(Snapshot { service: Answer::Known(service), .. }) = trial.snapshots.get_mut(&Side::After) else { unreachable!() };
        change(service);
        same_service_address(&trial)
    }

    #[test]
    fn the_same_address_passes() {
        assert_eq!(same_service_address(&clean()).verdict, Verdict::Passed);
    }

    #[test]
    fn another_address_port_or_object_fails() {
        assert_eq!(
            after(|service| service.cluster_ip = "10.0.0.9".into()).detail,
            "the service address was 10.0.0.1:1433 and is 10.0.0.9:1433"
        );
        assert_eq!(after(|service| service.port = 1434).verdict, Verdict::Failed);
        assert_eq!(after(|service| service.uid = "another".into()).verdict, Verdict::Failed);
    }

    #[test]
    fn a_service_that_cannot_be_seen_is_no_pass() {
        let mut trial = clean();
        trial.snapshots.get_mut(&Side::After).unwrap().service = Answer::Unavailable("forbidden".into());
        assert_eq!(same_service_address(&trial).verdict, Verdict::Unproven);
    }
}
