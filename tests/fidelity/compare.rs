//! Whether what was seen is among what real runs showed.
//!
//! On the sandbox a sequence must be one of the variants, line for line, but for the [`Difference`]s that are listed with a reason. A real Kubernetes
//! may show an order that no recorded run happened to show; that makes nothing red, as long as each of its steps is [`explained`] by the variants.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::golden::{Golden, Sequence, Told};

/// The reviewed list.
const DIFFERENCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fidelity/differences.yaml");

/// Something in which the sandbox is known not to be as Kubernetes is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Difference {
    /// The scenarios; with `*` at the end, those that begin so.
    pub(crate) scenario: String,
    /// The objects, in the same way.
    pub(crate) object: String,
    /// Fields, or the beginnings of lines of what kubectl says, that are not compared.
    #[serde(default)]
    pub(crate) leave_out: Vec<String>,
    /// States of this object that come and go may be passed over: those that are seen come in the order of a variant, the first and the last included.
    #[serde(default)]
    pub(crate) passes_over: bool,
    /// What the sandbox shows in place of any variant.
    #[serde(default)]
    pub(crate) instead: Vec<String>,
    /// It depends on chance: the entry may be needed in one run and not in the next.
    #[serde(default)]
    pub(crate) at_times: bool,
    /// Why it is so, and why it is left so.
    pub(crate) reason: String,
}

impl Difference {
    fn is_about(&self, scenario: &str, object: &str) -> bool {
        let fits = |pattern: &str, name: &str| pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start));
        fits(&self.scenario, scenario) && fits(&self.object, object)
    }
}

/// The differences that are listed.
pub(crate) fn differences() -> Vec<Difference> {
    let all: Vec<Difference> =
        serde_saphyr::from_str(&std::fs::read_to_string(DIFFERENCES).expect("it is there")).expect("differences.yaml can be read");
    for one in &all {
        assert!(one.reason.len() > 20, "a difference without a reason: {one:?}");
    }
    all
}

/// What the sandbox showed and no variant has, in words.
pub(crate) fn strangers(scenario: &str, told: &Told, golden: &Golden, differences: &[Difference]) -> Vec<String> {
    let mut strange = Vec::new();
    for (object, sequence) in told {
        let ours: Vec<_> = differences.iter().filter(|one| one.is_about(scenario, object)).collect();
        let fields: Vec<&str> = ours.iter().flat_map(|one| one.leave_out.iter().map(String::as_str)).collect();
        let seen = without(sequence, &fields);
        let variants: Vec<Sequence> = golden.variants(object).iter().map(|variant| without(variant, &fields)).collect();
        let known = variants.contains(&seen)
            || ours.iter().any(|one| !one.instead.is_empty() && one.instead == seen)
            || ours.iter().any(|one| one.passes_over) && variants.iter().any(|variant| passes_over(&seen, variant));
        if !known {
            let told = |lines: &Sequence| lines.iter().fold(String::new(), |text, line| text + &format!("      {line}\n"));
            let all: String = variants.iter().fold(String::new(), |text, variant| text + &format!("    recorded:\n{}", told(variant)));
            strange.push(format!("{scenario}: {object}\n    seen here:\n{}{all}", told(&seen)));
        }
    }
    for object in golden.objects.keys() {
        if !told.iter().any(|(name, _)| name == object) {
            strange.push(format!("{scenario}: {object} was recorded and is not here"));
        }
    }
    strange
}

/// A sequence without these fields, and without the transitions that were of them alone. What kubectl says has no fields, but lines.
fn without(sequence: &Sequence, fields: &[&str]) -> Sequence {
    if fields.is_empty() {
        return sequence.clone();
    }
    let keep = |line: &String| {
        let Some(rest) = line.strip_prefix("~ ").or_else(|| line.strip_prefix("+ ")) else {
            return (!fields.iter().any(|field| line.starts_with(field))).then(|| line.clone());
        };
        let left: Vec<&str> = rest.split(' ').filter(|pair| !fields.contains(&pair.split('=').next().unwrap_or_default())).collect();
        (line.starts_with('+') || !left.is_empty()).then(|| format!("{} {}", &line[..1], left.join(" ")))
    };
    sequence.iter().filter_map(keep).collect()
}

/// The states that a sequence goes through, each in full; the last may be that it is gone.
fn states(sequence: &Sequence) -> Vec<BTreeMap<String, String>> {
    let mut now = BTreeMap::new();
    sequence
        .iter()
        .map(|line| {
            match line.chars().next() {
                Some('-') => now = BTreeMap::from([("gone".to_owned(), "yes".to_owned())]),
                Some('+') => now = pairs(line),
                _ => now.extend(pairs(line)),
            }
            now.clone()
        })
        .collect()
}

fn pairs(line: &str) -> BTreeMap<String, String> {
    let pairs = line.get(2..).unwrap_or_default().split(' ').filter_map(|pair| pair.split_once('='));
    pairs.map(|(field, value)| (field.to_owned(), value.to_owned())).collect()
}

/// Whether a sequence is this variant with some of its states in the middle passed over.
fn passes_over(seen: &Sequence, variant: &Sequence) -> bool {
    let (seen, all) = (states(seen), states(variant));
    if seen.first() != all.first() || seen.last() != all.last() {
        return false;
    }
    let mut rest = all.iter();
    seen.iter().all(|state| rest.any(|one| one == state))
}

/// The steps of a sequence that no variant explains: a field that takes a value which it never had, or which it never came to from where it was, not
/// even by way of others.
pub(crate) fn explained(sequence: &Sequence, variants: &[Sequence]) -> Result<(), Vec<String>> {
    let mut steps: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for variant in variants {
        for (field, from, to, _) in changes(variant) {
            steps.entry(field).or_default().insert((from, to));
        }
    }
    let strange: Vec<String> = changes(sequence)
        .into_iter()
        .filter(|(field, from, to, _)| !steps.get(field).is_some_and(|known| leads(known, from, to)))
        .map(|(field, from, to, line)| format!("{field}: {from} -> {to}, in `{line}`"))
        .collect();
    if strange.is_empty() { Ok(()) } else { Err(strange) }
}

const ABSENT: &str = "(absent)";

/// Every change of a field: from what, to what, in which line.
fn changes(sequence: &Sequence) -> Vec<(String, String, String, String)> {
    let mut before: BTreeMap<String, String> = BTreeMap::new();
    let mut all = Vec::new();
    for (line, now) in sequence.iter().zip(states(sequence)) {
        let fields: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        for field in fields {
            let of = |state: &BTreeMap<String, String>| state.get(field).map_or_else(|| ABSENT.to_owned(), Clone::clone);
            if of(&before) != of(&now) {
                all.push((field.clone(), of(&before), of(&now), line.clone()));
            }
        }
        before = now;
    }
    all
}

fn leads(known: &BTreeSet<(String, String)>, from: &str, to: &str) -> bool {
    let mut reached = BTreeSet::from([from]);
    loop {
        let before = reached.len();
        // Not by way of its absence: what comes back after it was gone is another life.
        let next: Vec<&str> =
            known.iter().filter(|(one, other)| reached.contains(one.as_str()) && other != ABSENT).map(|(_, to)| to.as_str()).collect();
        reached.extend(next);
        if known.iter().any(|(one, other)| reached.contains(one.as_str()) && other == to) {
            return true;
        }
        if reached.len() == before {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Sequence {
        text.iter().map(|line| (*line).to_owned()).collect()
    }

    fn golden() -> Golden {
        let mut golden = Golden::default();
        golden.add("v1", vec![("pod 1".to_owned(), lines(&["+ a=1 b=1", "~ a=2", "~ b=2", "- gone"]))]);
        golden
    }

    fn difference(change: impl FnOnce(&mut Difference)) -> Vec<Difference> {
        let mut one = Difference {
            scenario: "s*".into(),
            object: "pod 1".into(),
            leave_out: vec![],
            passes_over: false,
            instead: vec![],
            at_times: false,
            reason: "because it is a test of it".into(),
        };
        change(&mut one);
        vec![one]
    }

    fn strange(seen: &[&str], differences: &[Difference]) -> usize {
        strangers("s1", &vec![("pod 1".to_owned(), lines(seen))], &golden(), differences).len()
    }

    #[test]
    fn only_what_was_recorded_is_no_stranger() {
        assert_eq!(strange(&["+ a=1 b=1", "~ a=2", "~ b=2", "- gone"], &[]), 0);
        assert_eq!(strange(&["+ a=1 b=1", "~ a=2 b=2", "- gone"], &[]), 1);
        assert_eq!(strange(&["+ a=1 b=1", "~ b=2", "~ a=2", "- gone"], &[]), 1);
        assert_eq!(strangers("s1", &vec![], &golden(), &[]).len(), 1, "what was recorded must be there");
    }

    #[test]
    fn a_difference_lets_pass_what_it_says_and_no_more() {
        let over = difference(|one| one.passes_over = true);
        assert_eq!(strange(&["+ a=1 b=1", "~ a=2 b=2", "- gone"], &over), 0);
        assert_eq!(strange(&["+ a=1 b=1", "- gone"], &over), 0);
        assert_eq!(strange(&["+ a=1 b=1", "~ b=2", "- gone"], &over), 1, "that state is in no variant");
        assert_eq!(strange(&["+ a=1 b=1", "~ a=2"], &over), 1, "the end is another");
        let out = difference(|one| one.leave_out = vec!["b".into()]);
        assert_eq!(strange(&["+ a=1 b=7", "~ a=2", "- gone"], &out), 0);
        assert_eq!(strange(&["+ a=1 b=7", "~ a=3", "- gone"], &out), 1);
        let instead = difference(|one| one.instead = lines(&["+ x=1"]));
        assert_eq!(strange(&["+ x=1"], &instead), 0);
        assert_eq!(strange(&["+ x=2"], &instead), 1);
        let elsewhere = difference(|one| {
            one.passes_over = true;
            one.scenario = "t*".into();
        });
        assert_eq!(strange(&["+ a=1 b=1", "- gone"], &elsewhere), 1);
    }

    #[test]
    fn an_order_that_was_not_recorded_is_explained_and_a_new_value_is_not() {
        let variants = golden().variants("pod 1");
        explained(&lines(&["+ a=1 b=1", "~ b=2", "~ a=2", "- gone"]), &variants).unwrap();
        explained(&lines(&["+ a=1 b=1", "~ a=2 b=2", "- gone"]), &variants).unwrap();
        assert_eq!(explained(&lines(&["+ a=1 b=1", "~ a=3"]), &variants).unwrap_err(), ["a: 1 -> 3, in `~ a=3`"]);
        explained(&lines(&["+ a=1 b=1", "~ a=2", "~ a=1"]), &variants).unwrap_err();
    }
}
