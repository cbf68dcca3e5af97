//! The database came back on the volume that it had.
//!
//! Two questions, asked of two witnesses: the cluster, whether pod, claim and volume are bound as before; and the database, whether the mark is
//! there that was stored when the trial began. A claim that is bound as before to a directory that was emptied fails by the second.

use super::Finding;
use crate::{
    event::{Answer, Side},
    measure::TrialHistory,
};

pub(super) fn same_volume(trial: &TrialHistory) -> Finding {
    let (Some(before), Some(after)) = (trial.snapshots.get(&Side::Before), trial.snapshots.get(&Side::After)) else {
        return Finding::unproven("the volume was not looked at both before and after the fault");
    };
    if let (Answer::Known(before), Answer::Known(after)) = (&before.volume, &after.volume)
        && before != after
    {
        return Finding::failed(format!(
            "the pod mounts another volume: claim `{}` on volume `{}` (uid {}) before, claim `{}` on volume `{}` (uid {}) after",
            before.claim, before.volume, before.volume_uid, after.claim, after.volume, after.volume_uid
        ));
    }
    match (&before.volume_mark, &after.volume_mark) {
        (Answer::Known(Some(mark)), Answer::Known(found)) if found.as_ref() != Some(mark) => Finding::failed(match found {
            None => {
                "the mark that was stored before the fault is not there: the database serves another volume, or an empty one".to_owned()
            }
            Some(found) => format!("the mark on the volume is `{found}` and was `{mark}`: the database serves another volume"),
        }),
        (Answer::Known(Some(_)), Answer::Known(_)) => match (&before.volume, &after.volume) {
            (Answer::Known(volume), Answer::Known(_)) => {
                Finding::passed(format!("claim `{}` on volume `{}`, with the mark that was stored before", volume.claim, volume.volume))
            }
            (Answer::Unavailable(why), _) | (_, Answer::Unavailable(why)) => {
                Finding::unproven(format!("the mark is there, but the cluster does not tell the volume: {why}"))
            }
        },
        (Answer::Known(None), _) => Finding::unproven("no mark was stored before the fault"),
        (Answer::Unavailable(why), _) | (_, Answer::Unavailable(why)) => {
            Finding::unproven(format!("the mark on the volume could not be read: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::makers::*, *};
    use crate::result::Verdict;

    fn after(change: impl FnOnce(&mut crate::event::Snapshot)) -> Verdict {
        let mut trial = clean();
        change(trial.snapshots.get_mut(&Side::After).unwrap());
        same_volume(&trial).verdict
    }

    #[test]
    fn the_same_claim_volume_and_mark_pass() {
        assert_eq!(same_volume(&clean()).verdict, Verdict::Passed);
    }

    #[test]
    fn another_volume_fails() {
        let other = |snapshot: &mut crate::event::Snapshot| {
            let Answer::Known(volume) = &mut snapshot.volume else { unreachable!() };
            volume.volume_uid = "another".into();
        };
        assert_eq!(after(other), Verdict::Failed);
    }

    #[test]
    fn the_same_claim_on_an_emptied_directory_fails() {
        assert_eq!(after(|snapshot| snapshot.volume_mark = Answer::Known(None)), Verdict::Failed);
        assert_eq!(after(|snapshot| snapshot.volume_mark = Answer::Known(Some("other".into()))), Verdict::Failed);
    }

    #[test]
    fn a_question_without_an_answer_is_no_pass() {
        assert_eq!(after(|snapshot| snapshot.volume_mark = Answer::Unavailable("…".into())), Verdict::Unproven);
        assert_eq!(after(|snapshot| snapshot.volume = Answer::Unavailable("…".into())), Verdict::Unproven);
        let mut trial = clean();
        trial.snapshots.remove(&Side::After);
        assert_eq!(same_volume(&trial).verdict, Verdict::Unproven);
    }
}
