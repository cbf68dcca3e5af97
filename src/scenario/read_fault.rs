//! From the tree to the faults: what each of them takes, and what fits behind what.

use std::{collections::BTreeSet, num::NonZeroU32, ops::RangeInclusive, time::Duration};

use super::{
    After, Assist, BreakEndpoints, Controller, CordonNode, CrashNode, Cue, DelayNetwork, DeletePod, DrainNode, EvictPod, ExhaustMemory,
    FailAttach, FaultSpec, FillVolume, FreezeNode, FreezeProcess, HumanDuration, Injection, IsolateNode, IsolatePod, KillContainer,
    KillProcess, Limit, LossyNetwork, NodeChoice, Percent, RebootNode, ResetConnections, RestartWorkload, ScaleToZero, Signal, SlowVolume,
    StopApiServer, StopController, StopKubelet, TaintEffect, TaintNode,
    diagnostics::{Diagnostic, Excerpt, listed, quoted},
    fault::{Level, MAX_LABEL, MAX_PROCESS},
    read::{limit, some_time},
    types::{MAX_DURATION, MAX_FAULT_REPEAT, MAX_FAULTS},
    walk::{Fields, Reader, choice, duration, entries, list, nearest, text, whole},
    yaml::{Node, Value},
};

/// Nothing at all, or no longer than anybody waits.
const ANY_TIME: RangeInclusive<Duration> = Duration::ZERO..=MAX_DURATION;

/// A fault as it was read, with the places that later faults are held against.
struct Found {
    injection: Injection,
    /// The fault's own place.
    place: Excerpt,
    /// That of the key which says when it comes.
    when: Option<Excerpt>,
}

/// The list of faults.
pub(super) fn faults(node: &Node, reader: &mut Reader<'_>) -> Option<Vec<Injection>> {
    if node.value == Value::Null {
        reader.wrong_type(node, "a list of faults", Some("write `faults: []` for the control trial, which breaks nothing".into()));
        return None;
    }
    let found = list(node, "a list of faults such as `[deletePod]`", MAX_FAULTS, reader, fault)?;
    in_order(&found, reader);
    Some(found.into_iter().map(|one| one.injection).collect())
}

fn fault(node: &Node, reader: &mut Reader<'_>) -> Option<Found> {
    const EXPECTED: &str = "a fault, which is a map with one key, such as `deletePod: { grace: 30s }`";
    if let Value::Text(name) = &node.value {
        let spec = known_fault(name, node, reader)?;
        return Some(Found { injection: spec.into(), place: reader.excerpt(node, ""), when: None });
    }
    let entries = entries(node, EXPECTED, reader)?;
    let [(name, key, parameters), more @ ..] = &entries[..] else {
        // A map whose only keys are faulty has been reported.
        if matches!(&node.value, Value::Map(entries) if entries.is_empty()) {
            reader.wrong_value(node, EXPECTED, None);
        }
        return None;
    };
    if let [(other, second, _), ..] = more {
        let help = if is_fault(other) {
            "make each an item of the list, with a dash of its own".to_owned()
        } else {
            format!("indent what belongs to the fault: `- {name}: {{ {other}: ... }}`")
        };
        let diagnostic = Diagnostic::at(
            reader.excerpt(second, "one too many"),
            format!("a fault is a map with one key, this one has {}", entries.len()),
        )
        .see(reader.excerpt(key, "the fault"))
        .help(help);
        reader.found.push(diagnostic);
    }
    let spec = known_fault(name, key, reader)?;
    let place = reader.excerpt(key, "");
    if parameters.value == Value::Null {
        return Some(Found { injection: spec.into(), place, when: None });
    }
    let found = reader.step(*name, |reader| parameters_of(&spec, parameters, place, reader));
    found.filter(|_| more.is_empty())
}

fn is_fault(name: &str) -> bool {
    FaultSpec::all().iter().any(|spec| spec.name() == name)
}

/// The fault of that name with its defaults; a name that is not known is noted.
fn known_fault(name: &str, node: &Node, reader: &mut Reader<'_>) -> Option<FaultSpec> {
    let all = FaultSpec::all();
    let names = all.iter().map(FaultSpec::name);
    let known = all.iter().find(|spec| spec.name() == name).cloned();
    if known.is_none() {
        let diagnostic = Diagnostic::at(reader.excerpt(node, "no such fault"), format!("unknown fault {}", quoted(name)));
        let diagnostic = match nearest(name, names) {
            Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
            None => diagnostic,
        };
        reader.found.push(diagnostic.note("`comeback faults` lists all of them"));
    }
    known
}

/// Reads the parameters of a fault, its own and those that say when it comes.
fn parameters_of(spec: &FaultSpec, node: &Node, place: Excerpt, r: &mut Reader<'_>) -> Option<Found> {
    let example = match spec {
        FaultSpec::KillProcess(_) => "a map such as `{ process: engine, signal: SIGKILL }`",
        FaultSpec::FreezeProcess(_) => "a map such as `{ process: engine, for: 10s }`",
        FaultSpec::DeletePod(_) | FaultSpec::EvictPod(_) => "a map such as `{ grace: 30s }`",
        FaultSpec::DrainNode(_) => "a map such as `{ node: target, grace: 30s }`",
        FaultSpec::CrashNode(_) => "a map such as `{ node: target, restoreAfter: 90s }`",
        FaultSpec::RebootNode(_) => "a map such as `{ node: target }`",
        FaultSpec::CordonNode(_) | FaultSpec::FreezeNode(_) | FaultSpec::StopKubelet(_) | FaultSpec::IsolateNode(_) => {
            "a map such as `{ node: target, for: 30s }`"
        }
        FaultSpec::TaintNode(_) => "a map such as `{ node: target, effect: NoExecute, for: 30s }`",
        FaultSpec::DelayNetwork(_) | FaultSpec::SlowVolume(_) => "a map such as `{ delay: 200ms, for: 30s }`",
        FaultSpec::LossyNetwork(_) => "a map such as `{ loss: 20%, for: 30s }`",
        FaultSpec::StopController(_) => "a map such as `{ controller: scheduler, for: 30s }`",
        FaultSpec::KillContainer(_) | FaultSpec::ExhaustMemory(_) | FaultSpec::RestartWorkload(_) | FaultSpec::ResetConnections(_) => {
            "a map such as `{ after: 10s }`"
        }
        FaultSpec::ScaleToZero(_)
        | FaultSpec::IsolatePod(_)
        | FaultSpec::FillVolume(_)
        | FaultSpec::FailAttach(_)
        | FaultSpec::StopApiServer(_)
        | FaultSpec::BreakEndpoints(_) => "a map such as `{ for: 30s }`",
    };
    let mut f = Fields::of(node, example, r)?;
    let fault = own_parameters(spec, &mut f, r);
    let when = f.node("after").or(f.node("during")).map(|node| r.excerpt(node, ""));
    if let (Some(_), Some(during)) = (f.node("after"), f.node("during")) {
        let message = "a fault comes `after` something or `during` another fault, not both";
        r.found.push(Diagnostic::at(r.excerpt(during, "one too many"), message).help("remove one of the two"));
    }
    let after = f.optional("after", r, after);
    let during = f.optional("during", r, during);
    let repeat = f.optional("repeat", r, |node, r| whole(node, &(1..=MAX_FAULT_REPEAT.into()), r));
    f.finish(r);
    let repeat = repeat.and_then(|repeat| u32::try_from(repeat).ok()).and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    Some(Found { injection: Injection { fault, after, during, repeat }, place, when })
}

/// A fault with the parameters that are its own; what is not given, or is wrong and noted, is as by default.
fn own_parameters(spec: &FaultSpec, f: &mut Fields<'_>, r: &mut Reader<'_>) -> FaultSpec {
    match spec.clone() {
        FaultSpec::KillProcess(default) => FaultSpec::KillProcess(KillProcess {
            process: f.optional("process", r, process).unwrap_or(default.process),
            signal: f.optional("signal", r, signal).unwrap_or(default.signal),
        }),
        FaultSpec::FreezeProcess(default) => FaultSpec::FreezeProcess(FreezeProcess {
            process: f.optional("process", r, process).unwrap_or(default.process),
            lasts: lasts(f, r),
        }),
        FaultSpec::KillContainer(_) => FaultSpec::KillContainer(KillContainer {}),
        FaultSpec::ExhaustMemory(_) => FaultSpec::ExhaustMemory(ExhaustMemory {}),
        FaultSpec::DeletePod(_) => FaultSpec::DeletePod(DeletePod { grace: f.optional("grace", r, any_time) }),
        FaultSpec::EvictPod(_) => FaultSpec::EvictPod(EvictPod { grace: f.optional("grace", r, any_time) }),
        FaultSpec::RestartWorkload(_) => FaultSpec::RestartWorkload(RestartWorkload {}),
        FaultSpec::ScaleToZero(_) => FaultSpec::ScaleToZero(ScaleToZero { lasts: lasts(f, r) }),
        FaultSpec::DrainNode(_) => FaultSpec::DrainNode(DrainNode { node: node(f, r), grace: f.optional("grace", r, any_time) }),
        FaultSpec::CordonNode(_) => FaultSpec::CordonNode(CordonNode { node: node(f, r), lasts: lasts(f, r) }),
        FaultSpec::CrashNode(_) => FaultSpec::CrashNode(CrashNode {
            node: node(f, r),
            restore_after: f.optional("restoreAfter", r, any_time),
            assist: f.optional("assist", r, |node, r| choice(node, &Assist::ALL, "a kind of assist", r)).unwrap_or_default(),
        }),
        FaultSpec::RebootNode(_) => FaultSpec::RebootNode(RebootNode { node: node(f, r) }),
        FaultSpec::FreezeNode(_) => FaultSpec::FreezeNode(FreezeNode { node: node(f, r), lasts: lasts(f, r) }),
        FaultSpec::StopKubelet(_) => FaultSpec::StopKubelet(StopKubelet { node: node(f, r), lasts: lasts(f, r) }),
        FaultSpec::IsolateNode(_) => FaultSpec::IsolateNode(IsolateNode { node: node(f, r), lasts: lasts(f, r) }),
        FaultSpec::TaintNode(_) => FaultSpec::TaintNode(TaintNode {
            node: node(f, r),
            effect: f.optional("effect", r, |node, r| choice(node, &TaintEffect::ALL, "an effect", r)).unwrap_or_default(),
            lasts: lasts(f, r),
        }),
        FaultSpec::IsolatePod(_) => FaultSpec::IsolatePod(IsolatePod { lasts: lasts(f, r) }),
        FaultSpec::DelayNetwork(default) => {
            FaultSpec::DelayNetwork(DelayNetwork { delay: f.optional("delay", r, some_time).unwrap_or(default.delay), lasts: lasts(f, r) })
        }
        FaultSpec::LossyNetwork(default) => {
            FaultSpec::LossyNetwork(LossyNetwork { loss: f.optional("loss", r, percent).unwrap_or(default.loss), lasts: lasts(f, r) })
        }
        FaultSpec::ResetConnections(_) => FaultSpec::ResetConnections(ResetConnections {}),
        FaultSpec::FillVolume(_) => FaultSpec::FillVolume(FillVolume { lasts: lasts(f, r) }),
        FaultSpec::SlowVolume(default) => {
            FaultSpec::SlowVolume(SlowVolume { delay: f.optional("delay", r, some_time).unwrap_or(default.delay), lasts: lasts(f, r) })
        }
        FaultSpec::FailAttach(_) => FaultSpec::FailAttach(FailAttach { lasts: lasts(f, r) }),
        FaultSpec::StopApiServer(_) => FaultSpec::StopApiServer(StopApiServer { lasts: lasts(f, r) }),
        FaultSpec::StopController(_) => FaultSpec::StopController(StopController {
            controller: f.optional("controller", r, |node, r| choice(node, &Controller::ALL, "a controller", r)).unwrap_or_default(),
            lasts: lasts(f, r),
        }),
        FaultSpec::BreakEndpoints(_) => FaultSpec::BreakEndpoints(BreakEndpoints { lasts: lasts(f, r) }),
    }
}

fn process(node: &Node, reader: &mut Reader<'_>) -> Option<String> {
    let expected = format!("the name of a process, of 1 to {MAX_PROCESS} characters and without a path");
    text(node, &expected, reader, |text| {
        (1..=MAX_PROCESS).contains(&text.chars().count()) && !text.chars().any(|c| c == '/' || c.is_control())
    })
}

fn signal(node: &Node, reader: &mut Reader<'_>) -> Option<Signal> {
    if let Value::Whole(_, number) = &node.value {
        reader.wrong_type(
            node,
            "the name of a signal such as `SIGKILL`",
            Some(format!("the names are in `man 7 signal`; `kill -l {number}` tells this one")),
        );
        return None;
    }
    choice(node, &Signal::ALL, "a signal", reader)
}

fn any_time(node: &Node, reader: &mut Reader<'_>) -> Option<HumanDuration> {
    duration(node, &ANY_TIME, reader)
}

fn lasts(fields: &mut Fields<'_>, reader: &mut Reader<'_>) -> Option<Limit> {
    fields.optional("for", reader, limit)
}

fn percent(node: &Node, reader: &mut Reader<'_>) -> Option<Percent> {
    const EXPECTED: &str = "from `1%` to `100%`";
    match &node.value {
        Value::Whole(_, text) => {
            reader.wrong_type(
                node,
                "a part of a hundred such as `20%`",
                Some(format!("write `{text}%`")).filter(|_| !text.starts_with('-')),
            );
            None
        }
        _ => text(node, EXPECTED, reader, |text| Percent::parse(text).is_some()).and_then(|text| Percent::parse(&text)),
    }
}

fn node(fields: &mut Fields<'_>, reader: &mut Reader<'_>) -> NodeChoice {
    fields.optional("node", reader, chosen).unwrap_or_default()
}

/// A word, or a map that gives a name or a label.
fn chosen(node: &Node, reader: &mut Reader<'_>) -> Option<NodeChoice> {
    if !matches!(node.value, Value::Map(_)) {
        let word = choice(node, &NodeWord::ALL, "a choice of node", reader);
        if word.is_none() && matches!(node.value, Value::Text(_)) {
            let last = reader.found.pop().expect("a choice that is none is noted");
            reader.found.push(last.help("a node of your own is given as `{ name: worker-2 }` or `{ label: zone=a }`"));
        }
        return Some(match word? {
            NodeWord::Target => NodeChoice::Target,
            NodeWord::Other => NodeChoice::Other,
        });
    }
    let given = entries(node, "a node", reader)?;
    let mut fields = Fields::of(node, "a node", reader)?;
    let name = fields.optional("name", reader, |node, r| {
        text(node, "the name of a node", r, |text| (1..=MAX_LABEL).contains(&text.chars().count()) && !text.contains(char::is_control))
    });
    let label = fields.optional("label", reader, |node, r| {
        text(node, "a label such as `zone=a`", r, |text| {
            let parts: Vec<&str> = text.split('=').collect();
            parts.len() == 2 && !parts[0].is_empty() && text.chars().count() <= MAX_LABEL && !text.contains(char::is_control)
        })
    });
    fields.finish(reader);
    if given.len() != 1 {
        reader.wrong_value(node, "`target`, `other`, or a map with either `name` or `label`", None);
        return None;
    }
    name.map(NodeChoice::Name).or(label.map(NodeChoice::Label))
}

/// The choices of a node that are a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
enum NodeWord {
    Target,
    Other,
}

impl NodeWord {
    const ALL: [Self; 2] = [Self::Target, Self::Other];
}

fn after(node: &Node, reader: &mut Reader<'_>) -> Option<After> {
    if let Value::Text(word) = &node.value {
        if let Some(cue) = Cue::ALL.into_iter().find(|cue| cue.name() == word) {
            return Some(After::Seen(cue));
        }
        // A word without a digit was meant to be a cue.
        if !word.contains(|c: char| c.is_ascii_digit()) && !word.is_empty() {
            let names = Cue::ALL.map(Cue::name);
            let help = nearest(word, names).map(|meant| format!("did you mean `{meant}`?"));
            reader.wrong_value(node, &format!("a duration such as `2s`, or one of {}", listed(names)), help);
            return None;
        }
    }
    any_time(node, reader).map(After::Elapsed)
}

fn during(node: &Node, reader: &mut Reader<'_>) -> Option<String> {
    let name = text(node, "the name of an earlier fault", reader, |_| true)?;
    known_fault(&name, node, reader).map(|_| name)
}

/// Notes faults that cannot come when they are to come.
fn in_order(found: &[Found], reader: &mut Reader<'_>) {
    for (index, one) in found.iter().enumerate() {
        let injection = &one.injection;
        let place = || one.when.clone().unwrap_or_else(|| one.place.clone());
        if index == 0 && (injection.after.is_some() || injection.during.is_some()) {
            let message = "the first fault comes as soon as the service is steady: there is nothing before it to wait for";
            reader
                .found
                .push(Diagnostic::at(place(), message).help("remove `after` or `during`; `steadyFor` says how long it is waited for"));
            continue;
        }
        let of_its_object = matches!(&injection.fault, FaultSpec::CrashNode(CrashNode { assist: Assist::DeleteNode, .. }));
        let may_be_cordoned = found[..index].iter().any(|earlier| matches!(earlier.injection.fault, FaultSpec::CordonNode(_)));
        if of_its_object && may_be_cordoned && (injection.after.is_some() || injection.during.is_some()) {
            let message = "a node whose object is deleted while `cordonNode` is in force would be given back cordoned";
            reader.found.push(Diagnostic::at(place(), message).help("let it come when the database is back: remove `after` or `during`"));
            continue;
        }
        let Some(during) = &injection.during else { continue };
        let Some(base) = found[..index].iter().rev().find(|earlier| earlier.injection.fault.name() == during) else {
            let names: BTreeSet<_> = found[..index].iter().map(|earlier| earlier.injection.fault.name()).collect();
            let message = format!("no `{during}` comes before this fault");
            reader.found.push(Diagnostic::at(place(), message).note(format!("before it there are {}", listed(names))));
            continue;
        };
        if let Some(why) = contradiction(&base.injection.fault, &injection.fault) {
            let name = injection.fault.name();
            let message = format!("`{name}` cannot come during `{during}`: {why}");
            reader.found.push(
                Diagnostic::at(place(), message).see(base.place.clone()).help(format!("let it come after `{during}`: remove `during`")),
            );
        }
    }
}

/// Why a fault makes no sense while another one is in force.
fn contradiction(base: &FaultSpec, fault: &FaultSpec) -> Option<&'static str> {
    let in_force = base.lasts().is_some() || matches!(base, FaultSpec::DrainNode(_) | FaultSpec::CrashNode(_));
    if !in_force {
        return Some("that one does not last, so nothing is in force");
    }
    if base.name() == fault.name() {
        return Some("it is in force already");
    }
    let hits_the_database = matches!(fault.level(), Level::Process | Level::Container | Level::Network)
        || matches!(fault, FaultSpec::DeletePod(_) | FaultSpec::EvictPod(_));
    if matches!(base, FaultSpec::ScaleToZero(_)) && (hits_the_database || fault.node() == Some(&NodeChoice::Target)) {
        return Some("there is no pod to hit while that lasts");
    }
    let of_the_same_node = base.node().is_some() && base.node() == fault.node();
    let is_off = matches!(base, FaultSpec::CrashNode(_) | FaultSpec::FreezeNode(_));
    if is_off && of_the_same_node && !matches!(fault, FaultSpec::CordonNode(_) | FaultSpec::TaintNode(_) | FaultSpec::DrainNode(_)) {
        return Some("nothing runs on that node while that lasts");
    }
    let asks_the_api = !matches!(fault.level(), Level::ControlPlane) || matches!(fault, FaultSpec::BreakEndpoints(_));
    if matches!(base, FaultSpec::StopApiServer(_)) && asks_the_api {
        return Some("its victim cannot be found while the API server is stopped");
    }
    None
}
