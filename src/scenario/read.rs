//! From the tree to the types: what each key of a scenario takes.
//!
//! One function a type, one line a key, in the order of the type's fields. A key is known because it is read here, so no list of keys exists
//! that could be forgotten; that the JSON Schema knows the same ones is tested.

use std::{collections::BTreeMap, num::NonZeroU32, ops::RangeInclusive, time::Duration};

use super::{
    CrashNode, Diagnostics, Expect, FaultSpec, HumanDuration, Injection, Limit, Load, MovedTo, Probe, Rate, Scenario, ServiceAddress,
    TargetShape,
    diagnostics::{Diagnostic, Excerpt, listed, quoted},
    read_fault::faults,
    source::Source,
    types::{
        MAX_ABOUT, MAX_DURATION, MAX_IN_FLIGHT, MAX_LOST_ROWS, MAX_PROBE, MAX_RATE, MAX_REPEAT, MAX_ROWS_BEFORE, MAX_TAGS, MAX_WRITERS,
        MIN_EVERY, PLATFORMS, VERSION,
    },
    walk::{Fields, Reader, choice, duration, entries, list, nearest, text, whole},
    yaml::{self, Node, Value},
};

/// More than nothing, and no longer than anybody waits.
const SOME_TIME: RangeInclusive<Duration> = Duration::from_nanos(1)..=MAX_DURATION;

/// What a file says, as far as it can be told.
pub(super) struct Document {
    /// `None`: something is wrong.
    pub(super) scenario: Option<Scenario>,
    /// The name and its place, also of a scenario that has errors elsewhere.
    pub(super) name: Option<(String, Excerpt)>,
    pub(super) found: Vec<Diagnostic>,
}

/// Reads a scenario from the text of a file; `path` is what the diagnostics call it.
pub fn parse(path: &str, text: &str) -> Result<Scenario, Diagnostics> {
    let document = document(path, text);
    match (Diagnostics::of(document.found), document.scenario) {
        (None, Some(scenario)) => Ok(scenario),
        (Some(diagnostics), _) => Err(diagnostics),
        (None, None) => unreachable!("a scenario that cannot be read has an error"),
    }
}

/// Reads all that can be told of a file.
pub(super) fn document(path: &str, text: &str) -> Document {
    let source = Source::new(path, text);
    let root = match yaml::read(&source) {
        Ok(Some(root)) => root,
        Ok(None) => {
            let empty = Diagnostic::at(source.excerpt(&(0..0), "nothing here"), "the file is empty")
                .help("the smallest scenario is `version: 1`, `name: my-scenario` and `faults: [deletePod]`, a line each");
            return Document { scenario: None, name: None, found: vec![empty] };
        }
        Err(error) => return Document { scenario: None, name: None, found: vec![error] },
    };
    let mut reader = Reader::new(&source);
    let (scenario, name) = scenario(&root, &mut reader);
    let scenario = scenario.filter(|_| reader.found.is_empty());
    Document { scenario, name, found: reader.found }
}

fn scenario(node: &Node, reader: &mut Reader<'_>) -> (Option<Scenario>, Option<(String, Excerpt)>) {
    let Some(mut fields) = Fields::of(node, "a scenario, which is a map", reader) else { return (None, None) };
    let r = reader;
    let version = fields.required("version", "write `version: 1`", r, version);
    let name = fields.required("name", "write `name: my-scenario`", r, word);
    let place = fields.node("name").map(|node| r.excerpt(node, "named here"));
    let about = fields.optional("about", r, about);
    let tags = fields.optional("tags", r, tags);
    let target = fields.optional("target", r, |node, r| choice(node, &TargetShape::ALL, "a shape of the workload", r));
    let load = fields.optional("load", r, load);
    let probe = fields.optional("probe", r, probe);
    let faults =
        fields.required("faults", "write `faults: [deletePod]`, or `faults: []` for the control trial, which breaks nothing", r, faults);
    let expect = fields.optional("expect", r, expect);
    let repeat = fields.optional("repeat", r, |node, r| whole(node, &(1..=MAX_REPEAT.into()), r));
    let steady_for = fields.optional("steadyFor", r, some_time);
    let stable_for = fields.optional("stableFor", r, some_time);
    let give_up_after = fields.optional("giveUpAfter", r, some_time);

    let expect_node = fields.node("expect");
    waits_fit(&fields, stable_for, give_up_after, expect.as_ref(), r);
    restores_fit(&fields, faults.as_deref(), give_up_after, r);
    if let (Some([]), Some(Some(MovedTo::OtherNode)), Some(node)) = (faults.as_deref(), expect.as_ref().map(|e| e.moved_to), expect_node) {
        r.found.push(
            Diagnostic::at(
                r.excerpt(node, "demands a move"),
                "`expect.movedTo` is `otherNode`, but there is no fault that could move anything",
            )
            .help("remove `movedTo`, or add a fault such as `drainNode`"),
        );
    }
    fields.finish(r);

    let named = name.clone().zip(place);
    let scenario = version.zip(name).zip(faults).map(|((version, name), faults)| Scenario {
        version,
        name,
        about,
        tags: tags.unwrap_or_default(),
        target: target.unwrap_or_default(),
        load: load.unwrap_or_default(),
        probe: probe.unwrap_or_default(),
        faults,
        expect: expect.unwrap_or_default(),
        repeat: repeat.and_then(|n| u32::try_from(n).ok()).and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN),
        steady_for,
        stable_for,
        give_up_after,
    });
    (scenario, named)
}

/// Notes waits that could never come to their end.
fn waits_fit(
    fields: &Fields<'_>,
    stable_for: Option<HumanDuration>,
    give_up_after: Option<HumanDuration>,
    expect: Option<&Expect>,
    reader: &mut Reader<'_>,
) {
    let (Some(give_up), Some(node)) = (give_up_after, fields.node("giveUpAfter")) else { return };
    if let Some(stable) = stable_for.filter(|stable| *stable > give_up) {
        let message = format!("the run gives up after `{give_up}`, before it could be stable for `{stable}`");
        reader.found.push(Diagnostic::at(reader.excerpt(node, ""), message).help("`giveUpAfter` must not be shorter than `stableFor`"));
    }
    let longest = expect.and_then(|expect| expect.recovery_within.as_ref()).and_then(|limit| match limit {
        Limit::Everywhere(limit) => Some(*limit),
        Limit::PerPlatform(limits) => limits.values().max().copied(),
    });
    if let Some(limit) = longest.filter(|limit| *limit > give_up) {
        let message = format!("the run gives up after `{give_up}`, before `recoveryWithin` (`{limit}`) could be exceeded");
        reader.found.push(
            Diagnostic::at(reader.excerpt(node, ""), message).help("`giveUpAfter` must not be shorter than the longest `recoveryWithin`"),
        );
    }
}

/// Notes a node that would be started again only after the run has given up.
fn restores_fit(fields: &Fields<'_>, faults: Option<&[Injection]>, give_up_after: Option<HumanDuration>, reader: &mut Reader<'_>) {
    let (Some(give_up), Some(node)) = (give_up_after, fields.node("giveUpAfter")) else { return };
    let restores = faults.into_iter().flatten().filter_map(|injection| match &injection.fault {
        FaultSpec::CrashNode(CrashNode { restore_after, .. }) => *restore_after,
        _ => None,
    });
    if let Some(latest) = restores.max().filter(|latest| *latest > give_up) {
        let message = format!("the run gives up after `{give_up}`, before `restoreAfter` (`{latest}`) has passed");
        reader.found.push(
            Diagnostic::at(reader.excerpt(node, ""), message).help("`giveUpAfter` must not be shorter than the longest `restoreAfter`"),
        );
    }
}

fn version(node: &Node, reader: &mut Reader<'_>) -> Option<u32> {
    match &node.value {
        Value::Whole(Some(1), _) => Some(VERSION),
        Value::Whole(..) => {
            reader.wrong_value(node, "1, the only version there is", None);
            None
        }
        Value::Text(text) if text == "1" => {
            reader.wrong_type(node, "the number 1", Some("remove the quotes".into()));
            None
        }
        _ => {
            reader.wrong_type(node, "the number 1", None);
            None
        }
    }
}

/// A sentence: what `ABOUT_PATTERN` says. The line break with which a block of YAML ends is not part of it.
fn about(node: &Node, reader: &mut Reader<'_>) -> Option<String> {
    let about = text(node, &format!("a line of 1 to {MAX_ABOUT} characters"), reader, |text| {
        let line = text.trim_end_matches('\n');
        !line.is_empty() && !line.contains(char::is_control) && text.chars().count() <= MAX_ABOUT
    })?;
    Some(about.trim_end_matches('\n').to_owned())
}

/// A name or a tag: what `NAME_PATTERN` says.
fn word(node: &Node, reader: &mut Reader<'_>) -> Option<String> {
    text(node, "1 to 63 lower-case letters, digits and dashes", reader, |text| {
        (1..=63).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    })
}

fn tags(node: &Node, reader: &mut Reader<'_>) -> Option<Vec<String>> {
    let mut seen: BTreeMap<String, Excerpt> = BTreeMap::new();
    list(node, "a list of words such as `[nightly, node]`", MAX_TAGS, reader, |node, reader| {
        let tag = word(node, reader)?;
        if let Some(before) = seen.get(&tag) {
            let message = format!("the tag {} is given twice", quoted(&tag));
            let diagnostic = Diagnostic::at(reader.excerpt(node, "again here"), message).see(before.clone());
            reader.found.push(diagnostic);
        } else {
            seen.insert(tag.clone(), reader.excerpt(node, "first here"));
        }
        Some(tag)
    })
}

pub(super) fn some_time(node: &Node, reader: &mut Reader<'_>) -> Option<HumanDuration> {
    duration(node, &SOME_TIME, reader)
}

fn load(node: &Node, reader: &mut Reader<'_>) -> Option<Load> {
    let mut fields = Fields::of(node, "a map such as `{ writers: 4, rate: 100/s }`", reader)?;
    let default = Load::default();
    let writers = fields.optional("writers", reader, |node, r| whole(node, &(0..=MAX_WRITERS.into()), r));
    let rate = fields.optional("rate", reader, rate);
    let rows_before = fields.optional("rowsBefore", reader, |node, r| whole(node, &(0..=MAX_ROWS_BEFORE), r));
    fields.finish(reader);
    Some(Load {
        writers: writers.and_then(|n| u32::try_from(n).ok()).unwrap_or(default.writers),
        rate: rate.unwrap_or(default.rate),
        rows_before: rows_before.unwrap_or(default.rows_before),
    })
}

fn rate(node: &Node, reader: &mut Reader<'_>) -> Option<Rate> {
    const EXPECTED: &str = "a rate such as `200/s`";
    match &node.value {
        Value::Text(text) => {
            let digits = text.strip_suffix("/s").filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
            let Some(digits) = digits else {
                reader.wrong_type(node, EXPECTED, Some("write it per second, as a whole number: `200/s`".into()));
                return None;
            };
            let per_second = digits.parse().ok().filter(|n| (1..=MAX_RATE).contains(n) && !digits.starts_with('0'));
            if per_second.is_none() {
                reader.wrong_value(node, &format!("from `1/s` to `{MAX_RATE}/s`"), None);
            }
            per_second.map(|per_second| Rate { per_second })
        }
        Value::Whole(_, text) => {
            reader.wrong_type(node, EXPECTED, Some(format!("write `{text}/s`")).filter(|_| !text.starts_with('-')));
            None
        }
        _ => {
            reader.wrong_type(node, EXPECTED, None);
            None
        }
    }
}

fn probe(node: &Node, reader: &mut Reader<'_>) -> Option<Probe> {
    let mut fields = Fields::of(node, "a map such as `{ every: 100ms, timeout: 1s }`", reader)?;
    let default = Probe::default();
    let every = fields.optional("every", reader, |node, r| duration(node, &(MIN_EVERY..=MAX_PROBE), r));
    let timeout = fields.optional("timeout", reader, |node, r| duration(node, &(MIN_EVERY..=MAX_PROBE), r));
    let probe = Probe { every: every.unwrap_or(default.every), timeout: timeout.unwrap_or(default.timeout) };
    let place = fields.node("timeout").or(fields.node("every"));
    if let Some(place) = place
        && probe.every.0 * MAX_IN_FLIGHT < probe.timeout.0
    {
        let message = format!(
            "an attempt every `{}` that may take `{}` makes more than {MAX_IN_FLIGHT} attempts at once",
            probe.every, probe.timeout
        );
        reader.found.push(
            Diagnostic::at(reader.excerpt(place, ""), message)
                .help("make `timeout` shorter or `every` longer")
                .note(format!("`every` is `{}` and `timeout` is `{}` unless they are given", default.every, default.timeout)),
        );
    }
    fields.finish(reader);
    Some(probe)
}

fn expect(node: &Node, reader: &mut Reader<'_>) -> Option<Expect> {
    let mut fields = Fields::of(node, "a map such as `{ recoveryWithin: 30s }`", reader)?;
    let default = Expect::default();
    let recovery_within = fields.optional("recoveryWithin", reader, limit);
    let lost_rows = fields.optional("lostRows", reader, |node, r| whole(node, &(0..=MAX_LOST_ROWS), r));
    let moved_to = fields.optional("movedTo", reader, |node, r| choice(node, &MovedTo::ALL, "a place", r));
    let service_address = fields.optional("serviceAddress", reader, |node, r| choice(node, &ServiceAddress::ALL, "a demand", r));
    fields.finish(reader);
    Some(Expect {
        recovery_within,
        lost_rows: lost_rows.unwrap_or(default.lost_rows),
        moved_to,
        service_address: service_address.unwrap_or_default(),
    })
}

/// A duration, or one for each platform.
pub(super) fn limit(node: &Node, reader: &mut Reader<'_>) -> Option<Limit> {
    if !matches!(node.value, Value::Map(_)) {
        return some_time(node, reader).map(Limit::Everywhere);
    }
    let platforms = entries(node, "a duration for each platform", reader)?;
    if platforms.is_empty() {
        reader.wrong_value(node, "a duration, or a map from at least one platform to a duration", None);
    }
    let mut limits = BTreeMap::new();
    for (platform, key, value) in platforms {
        if !PLATFORMS.contains(&platform) {
            let diagnostic = Diagnostic::at(reader.excerpt(key, "no such platform"), format!("unknown platform {}", quoted(platform)));
            let diagnostic = match nearest(platform, PLATFORMS) {
                Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
                None => diagnostic,
            };
            reader.found.push(diagnostic.note(format!("the platforms are {}", listed(PLATFORMS))));
        }
        if let Some(limit) = reader.step(platform, |reader| some_time(value, reader)) {
            limits.insert(platform.to_owned(), limit);
        }
    }
    Some(Limit::PerPlatform(limits))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::scenario::DeletePod;

    fn read(text: &str) -> Scenario {
        parse("x.yaml", text).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
    }

    #[test]
    fn three_lines_are_a_scenario() {
        let scenario = read("version: 1\nname: smallest\nfaults: []\n");
        let expected = Scenario {
            version: 1,
            name: "smallest".into(),
            about: None,
            tags: Vec::new(),
            target: TargetShape::Deployment,
            load: Load::default(),
            probe: Probe::default(),
            faults: Vec::new(),
            expect: Expect::default(),
            repeat: NonZeroU32::MIN,
            steady_for: None,
            stable_for: None,
            give_up_after: None,
        };
        assert_eq!(scenario, expected);
    }

    #[rstest]
    #[case::a_bare_name("deletePod")]
    #[case::nothing_after_it("deletePod:")]
    #[case::null("{ deletePod: null }")]
    #[case::no_parameter("deletePod: {}")]
    #[case::quoted("'deletePod'")]
    fn a_fault_with_its_defaults_has_many_forms(#[case] form: &str) {
        let scenario = read(&format!("version: 1\nname: x\nfaults:\n  - {form}\n"));
        assert_eq!(scenario.faults, [FaultSpec::DeletePod(DeletePod::default()).into()]);
    }

    #[test]
    fn line_breaks_of_windows_and_a_byte_order_mark_change_nothing() {
        let text = include_str!("../../scenarios/drain-node.yaml");
        let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        assert_eq!(read(&windows), read(text));
    }

    #[test]
    fn an_about_may_be_a_block() {
        let scenario = read("version: 1\nname: x\nabout: >\n  One sentence\n  on two lines.\nfaults: []\n");
        assert_eq!(scenario.about.as_deref(), Some("One sentence on two lines."));
    }

    #[test]
    fn an_alias_stands_for_a_whole_value() {
        let scenario = read("version: 1\nname: x\nsteadyFor: &t 3s\nstableFor: *t\nfaults: []\n");
        assert_eq!(
            (scenario.steady_for, scenario.stable_for),
            (Some(HumanDuration::from_millis(3_000)), Some(HumanDuration::from_millis(3_000)))
        );
    }

    #[test]
    fn an_error_in_one_place_hides_none_in_another() {
        let errors = parse("x.yaml", "version: 3\nname: X\nload: { rate: 5 }\nfaults: [nothing]\nzzz: 1\n").expect_err("all is wrong");
        let lines: Vec<_> = errors.iter().filter_map(Diagnostic::line_and_column).map(|(line, _)| line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5]);
    }
}
