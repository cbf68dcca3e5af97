//! What is going to be done.

use std::{num::NonZeroU32, time::Duration};

use crate::{
    event::{EVENTS_SCHEMA, PlannedTrial, RunStarted, Settings},
    fault::Fault as _,
    platform::{Capability, Defaults, Platform},
    result,
    scenario::{Injection, Scenario, Suite},
};

/// How much longer than the limit the run waits before it gives up: a recovery just beyond it is then measured, not censored.
const BEYOND_THE_LIMIT: Duration = Duration::from_secs(5);

/// Plans a run of this suite: each scenario as often as it says, in the order of the files.
#[must_use]
pub fn plan(suite: &Suite, run: &str, seed: u64, platform: result::Platform, defaults: &Defaults) -> RunStarted {
    let mut trials = Vec::new();
    for file in &suite.files {
        for number in 1..=file.scenario.repeat.get() {
            trials.push(PlannedTrial {
                path: file.path.clone(),
                scenario: spelt_out(&file.scenario),
                number,
                settings: settings(&file.scenario, &platform.name, defaults),
            });
        }
    }
    RunStarted {
        schema: EVENTS_SCHEMA.to_owned(),
        run: run.to_owned(),
        comeback: env!("CARGO_PKG_VERSION").to_owned(),
        seed,
        platform,
        trials,
    }
}

/// The scenario with every fault as often as it is injected.
fn spelt_out(scenario: &Scenario) -> Scenario {
    let each = |injection: &Injection| {
        let once = Injection { repeat: NonZeroU32::MIN, ..injection.clone() };
        std::iter::repeat_n(once, injection.repeat.get() as usize)
    };
    Scenario { faults: scenario.faults.iter().flat_map(each).collect(), ..scenario.clone() }
}

/// Why trials of this plan cannot be made here, trial by trial; `None`: it can be made. Asked before anything is touched.
#[must_use]
pub fn skipped(plan: &RunStarted, platform: &Platform) -> Vec<Option<String>> {
    plan.trials.iter().map(|trial| not_possible(&trial.scenario, |capability| platform.can(capability).map(drop))).collect()
}

/// The first fault of the scenario that needs what is not there.
fn not_possible(scenario: &Scenario, can: impl Fn(Capability) -> Result<(), String>) -> Option<String> {
    scenario.faults.iter().map(|injection| &injection.fault).find_map(|fault| {
        let why = fault.needs().iter().find_map(|capability| can(*capability).err())?;
        Some(format!("`{}` is not possible here: {why}", fault.name()))
    })
}

fn settings(scenario: &Scenario, platform: &str, defaults: &Defaults) -> Settings {
    let recovery_within = scenario.expect.recovery_within.as_ref().and_then(|limit| limit.on(platform));
    let stable_for = scenario.stable_for.map_or(defaults.stable_for, |stable| stable.0);
    let at_least = recovery_within.map_or(Duration::ZERO, |limit| limit + stable_for + BEYOND_THE_LIMIT);
    Settings {
        steady_for: scenario.steady_for.map_or(defaults.steady_for, |steady| steady.0),
        stable_for,
        give_up_after: scenario.give_up_after.map_or(defaults.give_up_after.max(at_least), |give_up| give_up.0),
        recovery_within,
        lasting: defaults.lasting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{HumanDuration, Limit};

    const DEFAULTS: Defaults = Defaults {
        steady_for: Duration::from_secs(1),
        stable_for: Duration::from_secs(2),
        give_up_after: Duration::from_secs(15),
        heartbeat: Duration::from_secs(1),
        start_within: Duration::from_secs(30),
        undo_within: Duration::from_secs(10),
        lasting: Duration::from_secs(2),
    };

    fn planned(change: impl FnOnce(&mut Scenario)) -> Vec<PlannedTrial> {
        let mut suite = Suite::built_in();
        suite.files.truncate(1);
        change(&mut suite.files[0].scenario);
        let platform = result::Platform { name: "sandbox".into(), kubernetes: None, speed: Some(10), defect: None };
        plan(&suite, "run", 7, platform, &DEFAULTS).trials
    }

    #[test]
    fn a_scenario_is_tried_as_often_as_it_says() {
        let trials = planned(|scenario| scenario.repeat = 3.try_into().unwrap());
        assert_eq!(trials.iter().map(|trial| trial.number).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn what_a_fault_needs_and_the_place_lacks_skips_the_scenario() {
        use crate::scenario::{CrashNode, DeletePod, FaultSpec, KillProcess};
        let no_power = |capability| match capability {
            Capability::NodePower => Err("no switch".to_owned()),
            _ => Ok(()),
        };
        let scenario = |faults: Vec<FaultSpec>| {
            let mut scenario = Suite::built_in().files.swap_remove(0).scenario;
            scenario.faults = faults.into_iter().map(Injection::from).collect();
            scenario
        };
        let crash = || FaultSpec::CrashNode(CrashNode::default());
        let kill = || FaultSpec::KillProcess(KillProcess::default());
        assert_eq!(not_possible(&scenario(vec![kill(), FaultSpec::DeletePod(DeletePod::default())]), no_power), None);
        assert_eq!(
            not_possible(&scenario(vec![kill(), crash()]), no_power).as_deref(),
            Some("`crashNode` is not possible here: no switch")
        );
        assert_eq!(not_possible(&scenario(vec![]), |_| Err(String::new())), None);
    }

    #[test]
    fn it_is_given_up_only_beyond_the_limit() {
        let settings = |limit: Option<u64>, give_up: Option<u64>| {
            planned(|scenario| {
                scenario.expect.recovery_within = limit.map(|s| Limit::Everywhere(HumanDuration::from_millis(s * 1_000)));
                scenario.give_up_after = give_up.map(|s| HumanDuration::from_millis(s * 1_000));
            })[0]
                .settings
                .clone()
        };
        assert_eq!(settings(None, None).give_up_after, Duration::from_secs(15));
        assert_eq!(settings(Some(60), None).give_up_after, Duration::from_secs(67));
        assert_eq!(settings(Some(60), Some(5)).give_up_after, Duration::from_secs(5));
        assert_eq!(settings(Some(60), None).recovery_within, Some(Duration::from_mins(1)));
    }
}
