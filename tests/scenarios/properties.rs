//! What holds for every scenario and for every text.

use std::{collections::BTreeMap, fs, num::NonZeroU32, time::Duration};

use comeback::scenario::{
    After, Assist, BreakEndpoints, Controller, CordonNode, CrashNode, Cue, DelayNetwork, DeletePod, DrainNode, EvictPod, Expect,
    FailAttach, FaultSpec, FillVolume, FreezeNode, FreezeProcess, HumanDuration, Injection, IsolateNode, IsolatePod, KillProcess, Limit,
    Load, LossyNetwork, MovedTo, NodeChoice, Percent, Probe, Rate, RebootNode, ScaleToZero, Scenario, ServiceAddress, Signal, SlowVolume,
    StopApiServer, StopController, StopKubelet, Suite, TaintEffect, TaintNode, TargetShape, parse,
};
use proptest::{collection, option, prelude::*, sample};

use crate::{root, yaml_files};

fn word() -> impl Strategy<Value = String> {
    "[a-z0-9-]{1,63}"
}

fn time() -> impl Strategy<Value = HumanDuration> {
    (1_u64..=3_600_000).prop_map(HumanDuration::from_millis)
}

fn limit() -> impl Strategy<Value = Limit> {
    let platforms = sample::subsequence(vec!["sandbox", "kind", "aks", "cluster"], 1..=4);
    prop_oneof![
        time().prop_map(Limit::Everywhere),
        (platforms, time()).prop_map(|(names, time)| Limit::PerPlatform(
            names.into_iter().map(|name| (name.to_owned(), time)).collect::<BTreeMap<_, _>>()
        )),
    ]
}

fn node() -> impl Strategy<Value = NodeChoice> {
    prop_oneof![
        Just(NodeChoice::Target),
        Just(NodeChoice::Other),
        "[a-z0-9.-]{1,20}".prop_map(NodeChoice::Name),
        "[a-z./]{1,20}=[a-z0-9]{0,9}".prop_map(NodeChoice::Label),
    ]
}

/// The same fault with parameters of every kind.
fn varied(spec: FaultSpec) -> BoxedStrategy<FaultSpec> {
    let process = || prop_oneof![Just("engine".to_owned()), "[^/\\x00-\\x1f\\x7f-\\x9f]{1,64}"];
    let grace = || option::of((0_u64..=3_600_000).prop_map(HumanDuration::from_millis));
    let lasts = || option::of(limit());
    match spec {
        FaultSpec::KillProcess(_) => (process(), sample::select(&Signal::ALL[..]))
            .prop_map(|(process, signal)| FaultSpec::KillProcess(KillProcess { process, signal }))
            .boxed(),
        FaultSpec::FreezeProcess(_) => {
            (process(), lasts()).prop_map(|(process, lasts)| FaultSpec::FreezeProcess(FreezeProcess { process, lasts })).boxed()
        }
        FaultSpec::DeletePod(_) => grace().prop_map(|grace| FaultSpec::DeletePod(DeletePod { grace })).boxed(),
        FaultSpec::EvictPod(_) => grace().prop_map(|grace| FaultSpec::EvictPod(EvictPod { grace })).boxed(),
        FaultSpec::ScaleToZero(_) => lasts().prop_map(|lasts| FaultSpec::ScaleToZero(ScaleToZero { lasts })).boxed(),
        FaultSpec::DrainNode(_) => (node(), grace()).prop_map(|(node, grace)| FaultSpec::DrainNode(DrainNode { node, grace })).boxed(),
        FaultSpec::CordonNode(_) => (node(), lasts()).prop_map(|(node, lasts)| FaultSpec::CordonNode(CordonNode { node, lasts })).boxed(),
        FaultSpec::CrashNode(_) => (node(), grace(), sample::select(&Assist::ALL[..]))
            .prop_map(|(node, restore_after, assist)| FaultSpec::CrashNode(CrashNode { node, restore_after, assist }))
            .boxed(),
        FaultSpec::RebootNode(_) => node().prop_map(|node| FaultSpec::RebootNode(RebootNode { node })).boxed(),
        FaultSpec::FreezeNode(_) => (node(), lasts()).prop_map(|(node, lasts)| FaultSpec::FreezeNode(FreezeNode { node, lasts })).boxed(),
        FaultSpec::StopKubelet(_) => {
            (node(), lasts()).prop_map(|(node, lasts)| FaultSpec::StopKubelet(StopKubelet { node, lasts })).boxed()
        }
        FaultSpec::IsolateNode(_) => {
            (node(), lasts()).prop_map(|(node, lasts)| FaultSpec::IsolateNode(IsolateNode { node, lasts })).boxed()
        }
        FaultSpec::TaintNode(_) => (node(), sample::select(&TaintEffect::ALL[..]), lasts())
            .prop_map(|(node, effect, lasts)| FaultSpec::TaintNode(TaintNode { node, effect, lasts }))
            .boxed(),
        FaultSpec::IsolatePod(_) => lasts().prop_map(|lasts| FaultSpec::IsolatePod(IsolatePod { lasts })).boxed(),
        FaultSpec::DelayNetwork(_) => {
            (time(), lasts()).prop_map(|(delay, lasts)| FaultSpec::DelayNetwork(DelayNetwork { delay, lasts })).boxed()
        }
        FaultSpec::LossyNetwork(_) => {
            (1_u8..=100, lasts()).prop_map(|(loss, lasts)| FaultSpec::LossyNetwork(LossyNetwork { loss: Percent(loss), lasts })).boxed()
        }
        FaultSpec::FillVolume(_) => lasts().prop_map(|lasts| FaultSpec::FillVolume(FillVolume { lasts })).boxed(),
        FaultSpec::SlowVolume(_) => (time(), lasts()).prop_map(|(delay, lasts)| FaultSpec::SlowVolume(SlowVolume { delay, lasts })).boxed(),
        FaultSpec::FailAttach(_) => lasts().prop_map(|lasts| FaultSpec::FailAttach(FailAttach { lasts })).boxed(),
        FaultSpec::StopApiServer(_) => lasts().prop_map(|lasts| FaultSpec::StopApiServer(StopApiServer { lasts })).boxed(),
        FaultSpec::StopController(_) => (sample::select(&Controller::ALL[..]), lasts())
            .prop_map(|(controller, lasts)| FaultSpec::StopController(StopController { controller, lasts }))
            .boxed(),
        FaultSpec::BreakEndpoints(_) => lasts().prop_map(|lasts| FaultSpec::BreakEndpoints(BreakEndpoints { lasts })).boxed(),
        FaultSpec::KillContainer(_) | FaultSpec::ExhaustMemory(_) | FaultSpec::RestartWorkload(_) | FaultSpec::ResetConnections(_) => {
            Just(spec).boxed()
        }
    }
}

fn fault() -> impl Strategy<Value = FaultSpec> {
    sample::select(FaultSpec::all()).prop_flat_map(varied)
}

/// When a fault comes that is not the first.
fn after() -> impl Strategy<Value = Option<After>> {
    option::of(prop_oneof![
        (0_u64..=3_600_000).prop_map(|millis| After::Elapsed(HumanDuration::from_millis(millis))),
        sample::select(&Cue::ALL[..]).prop_map(After::Seen),
    ])
}

/// Faults in an order that the reader takes: the first comes at once, and no node that may be cordoned loses its object before the database is back.
fn injections() -> impl Strategy<Value = Vec<Injection>> {
    collection::vec((fault(), after(), 1_u32..=100), 1..5).prop_map(|faults| {
        let mut cordoned = false;
        let of = |(n, (fault, after, repeat))| {
            let loses_its_object = matches!(&fault, FaultSpec::CrashNode(CrashNode { assist: Assist::DeleteNode, .. }));
            let at_once = n == 0 || (cordoned && loses_its_object);
            cordoned |= matches!(fault, FaultSpec::CordonNode(_));
            let repeat = NonZeroU32::new(repeat).expect("the range begins with 1");
            Injection { fault, after: if at_once { None } else { after }, during: None, repeat }
        };
        faults.into_iter().enumerate().map(of).collect()
    })
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let load = (0_u32..=64, 1_u32..=1_000_000, 0_u64..=1_000_000_000).prop_map(|(writers, per_second, rows_before)| Load {
        writers,
        rate: Rate { per_second },
        rows_before,
    });
    let probe = (60_u64..=60_000, 1_u64..=60_000)
        .prop_map(|(every, timeout)| Probe { every: HumanDuration::from_millis(every), timeout: HumanDuration::from_millis(timeout) });
    let expect = (option::of(limit()), 0_u64..=1_000_000, option::of(sample::select(&MovedTo::ALL[..]))).prop_map(
        |(recovery_within, lost_rows, moved_to)| Expect {
            recovery_within,
            lost_rows,
            moved_to,
            service_address: ServiceAddress::Unchanged,
        },
    );
    let head = (word(), option::of("\\PC{1,500}"), collection::btree_set(word(), 0..5), sample::select(&TargetShape::ALL[..]), load, probe);
    let rest = (injections(), expect, 1_u32..=10_000, option::of(time()), option::of(time()), any::<bool>());
    (head, rest).prop_map(|((name, about, tags, target, load, probe), (faults, expect, repeat, steady_for, stable_for, give_up))| {
        Scenario {
            version: 1,
            name,
            about,
            tags: tags.into_iter().collect(),
            target,
            load,
            probe,
            faults,
            expect,
            repeat: NonZeroU32::new(repeat).expect("the range begins with 1"),
            steady_for,
            stable_for,
            give_up_after: give_up.then_some(HumanDuration(Duration::from_hours(2))),
        }
    })
}

/// A text after some edits: a part is taken out and something else put in its place.
fn edited(text: &str, edits: &[(sample::Index, usize, String)]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, length, replacement) in edits {
        let from = at.index(chars.len() + 1);
        let to = (from + length).min(chars.len());
        chars.splice(from..to, replacement.chars());
    }
    chars.into_iter().collect()
}

fn survives(text: &str) {
    match parse("x.yaml", text) {
        Ok(scenario) => assert_eq!(scenario.version, 1),
        Err(errors) => {
            assert!(errors.errors() > 0);
            let shown = errors.render(true);
            assert!(shown.contains("error"), "{shown}");
            let plain = errors.render(false);
            assert!(!plain.contains(|c: char| c.is_control() && c != '\n'), "{plain:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_scenario_that_is_written_out_reads_back_as_it_was(scenario in scenario()) {
        let text = serde_json::to_string_pretty(&scenario).expect("a scenario can be written");
        let read = parse("x.yaml", &text).map_err(|errors| TestCaseError::fail(format!("{}\n{text}", errors.render(false))))?;
        prop_assert_eq!(&read, &scenario);
        let by_serde: Scenario = serde_json::from_str(&text).expect("serde reads what it has written");
        prop_assert_eq!(&by_serde, &scenario);
    }

    #[test]
    fn no_edit_of_a_valid_file_makes_it_panic(
        file in any::<sample::Index>(),
        edits in collection::vec((any::<sample::Index>(), 0_usize..12, "[-:,{}\\[\\]#&*!|>'\"%@`?\\n\\t\\r a-z0-9ä\u{0}\u{feff}\u{85}]{0,6}"), 1..6),
    ) {
        let files = yaml_files(&root().join("scenarios"));
        let text = fs::read_to_string(&files[file.index(files.len())]).expect("the file can be read");
        survives(&edited(&text, &edits));
    }

    #[test]
    fn no_bytes_make_it_panic(marks in 0_usize..3, bytes in collection::vec(prop_oneof![any::<u8>(), sample::select(&b"ab:[{ \n\xc3\xa9\xff"[..])], 0..40)) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.yaml");
        fs::write(&path, ["\u{feff}".repeat(marks).as_bytes(), &bytes].concat()).expect("a file can be written");
        if let Err(errors) = Suite::load(&[path]) {
            prop_assert!(errors.render(false).contains("error"));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "(\\PC|[-:,{}\\[\\]#&*!|>'\"%@`?\\n\\t\\r ]){0,200}") {
        survives(&text);
    }
}
