//! `comeback faults`: the catalogue.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{exit::Exit, term};
use crate::{
    fault::{Fault as _, rights},
    platform::{Means, Place},
    scenario::FaultSpec,
};

/// List every fault: what it does, where it is possible, by which mechanism, and what one must be allowed to do for it
#[derive(Debug, Args)]
pub(super) struct Faults {
    /// Print it as JSON.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Output>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Json,
}

/// By what a fault is done on a place of this kind, or why it cannot be.
fn means(fault: &FaultSpec, place: Place) -> Result<Means, &'static str> {
    let mut found = Means { mechanism: "kubernetes api", privilege: "" };
    for capability in fault.needs() {
        found = place.can(*capability)?;
    }
    Ok(found)
}

impl Faults {
    pub(super) fn run(&self) -> Exit {
        let text = match self.output {
            Some(Output::Json) => format!("{:#}\n", as_json()),
            None => as_text(),
        };
        match term::data(&text) {
            Ok(()) => Exit::Passed,
            Err(error) => {
                term::prose(&format!("error: could not write to stdout\n  cause: {error}"));
                Exit::Environment
            }
        }
    }
}

fn rights_of(fault: &FaultSpec, place: Place) -> Vec<String> {
    rights::rights(fault, place).iter().map(ToString::to_string).collect()
}

fn as_json() -> Value {
    let all = FaultSpec::all();
    let one = |fault: &FaultSpec| {
        let places = Place::ALL.map(|place| {
            let told = match means(fault, place) {
                Ok(means) => {
                    json!({"possible": true, "mechanism": means.mechanism, "privilege": means.privilege, "rights": rights_of(fault, place)})
                }
                Err(why) => json!({"possible": false, "why": why}),
            };
            (place.name().to_owned(), told)
        });
        json!({
            "fault": fault.name(), "level": fault.level().name(), "about": fault.about(), "platforms": Value::Object(places.into_iter().collect()),
        })
    };
    all.iter().map(one).collect()
}

fn as_text() -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut level = None;
    for fault in FaultSpec::all() {
        if level != Some(fault.level()) {
            let gap = if level.is_none() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}{}", fault.level().name());
            level = Some(fault.level());
        }
        let _ = writeln!(text, "  {}: {}", fault.name(), fault.about());
        for place in Place::ALL {
            let told = match means(&fault, place) {
                Ok(Means { mechanism, privilege }) => {
                    let rights = rights_of(&fault, place);
                    let mut needs: Vec<&str> = rights.iter().map(String::as_str).collect();
                    if !privilege.is_empty() && !needs.contains(&privilege) {
                        needs.insert(0, privilege);
                    }
                    if needs.is_empty() { mechanism.to_owned() } else { format!("{mechanism} ({})", needs.join(", ")) }
                }
                Err(why) => format!("not possible: {why}"),
            };
            let _ = writeln!(text, "    {:<8} {told}", place.name());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_possible_on_the_sandbox_and_a_refusal_says_why() {
        for fault in FaultSpec::all() {
            assert!(means(&fault, Place::Sandbox).is_ok(), "{}", fault.name());
            for place in Place::ALL {
                assert!(means(&fault, place).err().is_none_or(|why| why.len() > 20), "{} on {}", fault.name(), place.name());
            }
        }
        let told = as_json();
        assert_eq!(told.as_array().unwrap().len(), FaultSpec::all().len());
        assert!(as_text().contains("fillVolume"));
    }
}
