//! The JSON Schema and the reader judge alike.
//!
//! The types are defined once, but they are read by a walker (for its messages) and described by a schema (for editors). Here one document that
//! holds every key is changed in every place in many ways, and both have to agree on each. What a schema cannot say is listed.

use std::collections::BTreeSet;

use comeback::scenario::{FaultSpec, parse, schema};
use serde_json::{Value, json};

/// A document with every key that there is.
fn everything() -> Value {
    json!({
        "version": 1,
        "name": "everything",
        "about": "All keys.",
        "tags": ["one", "two"],
        "target": "deployment",
        "load": { "writers": 4, "rate": "200/s", "rowsBefore": 10_000 },
        "probe": { "every": "100ms", "timeout": "1s" },
        "faults": [
            { "killProcess": { "process": "engine", "signal": "SIGKILL", "repeat": 3 } },
            { "freezeProcess": { "process": "engine", "for": "10s", "after": "podGone", "repeat": 1 } },
            { "killContainer": { "during": "freezeProcess" } },
            { "exhaustMemory": { "after": "2s" } },
            { "deletePod": { "grace": "30s" } },
            { "evictPod": { "grace": "30s" } },
            { "restartWorkload": {} },
            { "scaleToZero": { "for": { "sandbox": "1s", "kind": "30s" } } },
            { "drainNode": { "node": "target", "grace": "30s" } },
            { "crashNode": { "node": "other", "restoreAfter": "90s", "assist": "none" } },
            { "rebootNode": { "node": { "name": "worker-2" } } },
            { "cordonNode": { "node": { "label": "zone=a" }, "for": "10s" } },
            { "freezeNode": { "node": "target", "for": "10s" } },
            { "stopKubelet": { "node": "target", "for": "10s" } },
            { "isolateNode": { "node": "target", "for": "10s" } },
            { "taintNode": { "node": "target", "effect": "NoExecute", "for": "10s" } },
            { "isolatePod": { "for": "10s" } },
            { "delayNetwork": { "delay": "200ms", "for": "10s" } },
            { "lossyNetwork": { "loss": "20%", "for": "10s" } },
            { "resetConnections": {} },
            { "fillVolume": { "for": "10s" } },
            { "slowVolume": { "delay": "200ms", "for": "10s" } },
            { "failAttach": { "for": "10s" } },
            { "stopApiServer": { "for": "10s" } },
            { "stopController": { "controller": "scheduler", "for": "10s" } },
            { "breakEndpoints": { "for": "10s" } },
        ],
        "expect": {
            "recoveryWithin": { "sandbox": "10s", "kind": "1m", "aks": "20m", "cluster": "20m" },
            "lostRows": 0,
            "movedTo": "otherNode",
            "serviceAddress": "unchanged",
        },
        "repeat": 3,
        "steadyFor": "2s",
        "stableFor": "10s",
        "giveUpAfter": "30m",
    })
}

/// What is put in the place of every value.
fn replacements() -> Vec<Value> {
    let mut values =
        vec![json!(null), json!(true), json!([]), json!(["x"]), json!(["x", "x"]), json!([null]), json!({}), json!({ "zzz": 1 })];
    values.extend([0, 1, 2, -1, 64, 65, 10_000, 10_001, 1_000_000_001, 1_000_000_000_001_i64].map(|n| json!(n)));
    values.extend([json!(1.5), json!(1e30), json!("x".repeat(63)), json!("x".repeat(64)), json!("x".repeat(65)), json!("ä".repeat(500))]);
    values.push(json!("ä".repeat(501)));
    let texts = [
        "",
        "x",
        "Upper",
        "with space",
        "a/b",
        "-",
        "tab\there",
        "engine",
        "SIGKILL",
        "sigkill",
        "SIGSTOP",
        "deletePod",
        "deletepod",
        "target",
        "statefulSet",
        "statefulset",
        "guide",
        "none",
        "forceDelete",
        "outOfServiceTaint",
        "other",
        "zone=a",
        "zone=a=b",
        "=a",
        "NoExecute",
        "NoSchedule",
        "noSchedule",
        "scheduler",
        "controllerManager",
        "recovering",
        "freezeProcess",
        "killProcess",
        "1%",
        "100%",
        "101%",
        "0%",
        "020%",
        "otherNode",
        "sameNode",
        "unchanged",
        "1",
        "1s",
        "2s",
        "10s",
        "500ms",
        "1m 30s",
        "1.5m",
        "1.s",
        "-1s",
        "1x",
        "s",
        " 1s",
        "1s ",
        "1 s",
        "a line\n",
        "two\nlines",
        "\u{85}",
        "0/s",
        "1/s",
        "01/s",
        "1000000/s",
        "1000001/s",
        "1/m",
        "1.5/s",
        "/s",
        "-1/s",
    ];
    values.extend(texts.map(|text| json!(text)));
    values.extend([json!([{ "deletePod": null }]), json!(["deletePod"]), json!([{}]), json!([{ "deletePod": {}, "drainNode": {} }])]);
    values.extend([json!({ "deletePod": null }), json!({ "kind": "10s" }), json!({ "kind": 10 }), json!({ "moon": "10s" })]);
    values.extend([json!({ "name": "n" }), json!({ "label": "a=b" }), json!({ "label": "a" }), json!({ "name": "n", "label": "a=b" })]);
    values.extend([json!({ "name": "" }), json!({ "name": "n".repeat(382) }), json!({ "label": format!("{}=", "n".repeat(382)) })]);
    values
}

/// Every place of a document, as JSON pointers.
fn places(value: &Value, at: &str, places: &mut Vec<String>) {
    places.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| places_below(value, at, key, places)),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, value)| places_below(value, at, &n.to_string(), places)),
        _ => {}
    }
}

fn places_below(value: &Value, at: &str, step: &str, all: &mut Vec<String>) {
    places(value, &format!("{at}/{step}"), all);
}

fn all_places() -> Vec<String> {
    let mut all = Vec::new();
    places(&everything(), "", &mut all);
    all
}

/// What only the reader can say: it compares lengths of time with a limit or with each other, faults with expectations and with other faults.
const BEYOND_A_SCHEMA: &[&str] = &[
    "must be at most",
    "must be at least",
    "attempts at once",
    "the run gives up after",
    "there is no fault that could move anything",
    "there is nothing before it to wait for",
    "not both",
    "comes before this fault",
    "cannot come during",
    "would be given back cordoned",
];

/// Compares both judgements of one document.
fn judged_alike(document: &Value, what: &str, validator: &jsonschema::Validator, complaints: &mut Vec<String>) {
    let by_schema = validator.is_valid(document);
    let read = parse("x.yaml", &document.to_string());
    if by_schema == read.is_ok() {
        return;
    }
    let messages: Vec<_> = read.err().iter().flat_map(comeback::scenario::Diagnostics::iter).map(|one| one.message().to_owned()).collect();
    if by_schema && messages.iter().all(|message| BEYOND_A_SCHEMA.iter().any(|part| message.contains(part))) {
        return;
    }
    let errors: Vec<_> = validator.iter_errors(document).map(|error| error.to_string()).collect();
    complaints.push(format!("{what}\n  schema: {errors:?}\n  reader: {messages:?}"));
}

fn validator() -> jsonschema::Validator {
    jsonschema::validator_for(schema().as_value()).expect("the schema is one")
}

#[test]
fn a_change_in_any_place_is_judged_alike() {
    let (validator, mut complaints, mut judged) = (validator(), Vec::new(), 0);
    judged_alike(&everything(), "everything", &validator, &mut complaints);
    for place in all_places() {
        for replacement in replacements() {
            let mut document = everything();
            *document.pointer_mut(&place).expect("the place is there") = replacement.clone();
            judged_alike(&document, &format!("{place} = {replacement}"), &validator, &mut complaints);
            judged += 1;
        }
        let mut document = everything();
        if let Some(Value::Object(map)) = document.pointer_mut(&place) {
            map.insert("zzz".into(), json!(1));
            judged_alike(&document, &format!("{place} with a key more"), &validator, &mut complaints);
        }
        let (above, key) = place.rsplit_once('/').unwrap_or_default();
        let mut document = everything();
        if let Some(Value::Object(map)) = document.pointer_mut(above) {
            map.remove(key);
            judged_alike(&document, &format!("without {place}"), &validator, &mut complaints);
        }
    }
    assert!(judged > 1_000, "only {judged} documents were judged");
    assert!(complaints.is_empty(), "{} of {judged} are judged differently:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn everything_is_valid_for_both() {
    let all = everything().to_string();
    parse("x.yaml", &all).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    assert!(validator().is_valid(&everything()));
}

#[test]
fn each_map_knows_the_same_keys_in_both() {
    // `everything` holds every property of the schema ...
    let mut used = BTreeSet::new();
    for place in all_places() {
        used.extend(place.rsplit_once('/').map(|(_, key)| key.to_owned()).filter(|key| key.parse::<usize>().is_err()));
    }
    let mut described = BTreeSet::new();
    properties(schema().as_value(), &mut described);
    let platforms = ["sandbox", "kind", "aks", "cluster"].map(str::to_owned);
    described.extend(platforms.iter().cloned());
    assert_eq!(described, used, "`everything` lacks a key of the schema, or has one that the schema lacks");

    // ... and each of its maps every key that the reader knows there.
    let mut maps = 0;
    for place in all_places() {
        let mut document = everything();
        let Some(Value::Object(map)) = document.pointer_mut(&place) else { continue };
        let keys: BTreeSet<_> = map.keys().cloned().collect();
        map.insert("zzz".into(), json!(1));
        let errors = parse("x.yaml", &document.to_string()).expect_err("there is no such key");
        let text = errors.render(false);
        let Some((_, known)) = text.split_once("known here: ") else { continue };
        // A node is chosen by one of two keys.
        let keys = if place.ends_with("/node") { BTreeSet::from(["name", "label"].map(str::to_owned)) } else { keys };
        // When it comes stands among the parameters of each fault: every way to say it is in `everything` once.
        let keys = if place.starts_with("/faults/") && map_of_a_fault(&place) {
            keys.into_iter().chain(["after", "during", "repeat"].map(str::to_owned)).collect()
        } else {
            keys
        };
        let known: BTreeSet<_> =
            known.lines().next().unwrap_or_default().split(", ").map(|name| name.trim_matches('`').to_owned()).collect();
        assert_eq!(known, keys, "at `{place}`");
        maps += 1;
    }
    let faults = FaultSpec::all().len();
    assert_eq!(maps, 4 + faults + 2, "the root, load, probe, expect, the parameters of every fault and two choices of a node");
}

/// Whether a place is that of a fault's parameters: `/faults/3/deletePod`.
fn map_of_a_fault(place: &str) -> bool {
    place.split('/').count() == 4
}

/// The names of all properties in a schema.
fn properties(schema: &Value, names: &mut BTreeSet<String>) {
    if let Some(Value::Object(properties)) = schema.get("properties") {
        names.extend(properties.keys().cloned());
    }
    match schema {
        Value::Object(map) => map.values().for_each(|value| properties(value, names)),
        Value::Array(items) => items.iter().for_each(|value| properties(value, names)),
        _ => {}
    }
}

#[test]
fn every_property_is_described() {
    fn undescribed(schema: &Value, at: &str, found: &mut Vec<String>) {
        if let Some(Value::Object(properties)) = schema.get("properties") {
            for (name, property) in properties {
                // The parameters of a fault are described where the fault is.
                if property.get("description").is_none() && schema.get("description").is_none() {
                    found.push(format!("{at}/{name}"));
                }
            }
        }
        if let Value::Object(map) = schema {
            map.iter().for_each(|(key, value)| undescribed(value, &format!("{at}/{key}"), found));
        }
    }
    let mut found = Vec::new();
    undescribed(schema().as_value(), "", &mut found);
    assert!(found.is_empty(), "{found:?}");
}
