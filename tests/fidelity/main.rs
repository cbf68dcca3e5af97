//! The sandbox beside a real Kubernetes: do its objects go through the same transitions?
//!
//! ```text
//!   kind ────┐                                     ┌─▶ golden/<scenario>.txt     all variants that were seen, by object
//!            ├─▶ drive ─▶ recorder ─▶ state ─▶ golden                  │
//!   sandbox ─┘   one       watches     fields        lines └─▶ compare ◀─┘ ◀── differences.yaml
//! ```
//!
//! - [`bed`]: the two places, with the same workload on the same kind of volume.
//! - [`drive`]: the scenarios, each injected, helped and undone as the product does it; one code for both places.
//! - [`recorder`]: keeps every version of every object that watches show, from before the fault until it is quiet again.
//! - [`state`]: which fields are compared. [`golden`]: the text, its numbering, its files.
//! - [`compare`]: what counts as the same, and the reviewed list of differences.
//! - [`kubectl`]: the same commands in both places.
//!
//! The sandbox is compared in every `cargo test`, and must show, object by object, what some real run showed. kubectl is tried too when there is one of
//! 1.30 or newer on the `PATH`; without one it is left out, and says so. The one that `COMEBACK_KUBECTL` names is always tried.
//!
//! On kind the tests are ignored unless asked for. They run each scenario once, for real, and list what no recorded run had shown. That alone is no failure:
//! a real cluster may do two things in another order than it happened to do them before. They fail when a field takes a value, or comes to it from
//! where, no recorded run explains, step by step. What is new is added, and nothing removed, by
//!
//! ```sh
//! export KUBECONFIG=...        # a cluster of `comeback cluster up --engine sqld`, which nobody else uses
//! COMEBACK_RECORD=1 COMEBACK_RUNS=5 cargo test --test fidelity -- --ignored on_kind --nocapture
//! ```

mod bed;
mod compare;
mod drive;
mod golden;
mod kubectl;
mod recorder;
mod state;

use std::{env, fs, path::PathBuf, sync::Mutex};

use comeback::scenario::TargetShape;
use futures::{StreamExt as _, stream};

use crate::{
    bed::Bed,
    compare::{Difference, differences, explained, strangers},
    drive::STORIES,
    golden::{Golden, Told},
    kubectl::Kubectl,
    recorder::Sight,
};

/// How many sandboxes run at once: they wait most of the time.
const AT_ONCE: usize = 4;
/// What the golden files of kubectl begin with.
const KUBECTL: &str = "kubectl-";
/// The release of kubectl whose words the list of differences is about: that of the node image.
const LATEST_MINOR: u64 = 37;

/// One at a time on kind: they break nodes.
static ONE: Mutex<()> = Mutex::new(());

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| value == "1")
}

#[expect(clippy::print_stderr, reason = "a test that leaves something out says so")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// A kubectl, or a word that there is none.
fn kubectl_or_skip() -> Option<Kubectl> {
    match kubectl::find() {
        Ok(kubectl) => Some(kubectl),
        Err(why) => {
            say(&format!("kubectl is not tried: {why} (hint: COMEBACK_KUBECTL names one)"));
            None
        }
    }
}

/// Fails with all that no variant has, and with the entries of the list that nothing needs.
fn judge(all: &[(&str, Told)], differences: &[Difference], is_ours: impl Fn(&Difference) -> bool) {
    let strange = |differences: &[Difference]| -> Vec<String> {
        all.iter().flat_map(|(name, told)| strangers(name, told, &Golden::read(name), differences)).collect()
    };
    let found = strange(differences);
    assert!(found.is_empty(), "the sandbox is not as Kubernetes is:\n\n{}", found.join("\n"));
    for (at, one) in differences.iter().enumerate().filter(|(_, one)| is_ours(one) && !one.at_times) {
        let without: Vec<Difference> =
            differences.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, one)| one.clone()).collect();
        let needed = !strange(&without).is_empty();
        assert!(needed, "the sandbox no longer differs here, take the entry away: {one:?}");
    }
}

#[test]
fn the_sandbox_goes_through_what_kubernetes_goes_through() {
    let all: Vec<(&str, Told)> = runtime().block_on(async {
        let runs = STORIES.iter().map(|story| async {
            let bed = Bed::on_sandbox(story.shape).await;
            let sights = drive::tell(story, &bed).await;
            bed.stop().await;
            (story.name, golden::tell(&sights))
        });
        stream::iter(runs).buffer_unordered(AT_ONCE).collect().await
    });
    judge(&all, &differences(), |one| !one.scenario.starts_with(KUBECTL));
}

#[test]
fn kubectl_finds_in_the_sandbox_what_it_finds_in_kubernetes() {
    let Some(kubectl) = kubectl_or_skip() else { return };
    let told = runtime().block_on(async {
        let bed = Bed::on_sandbox(TargetShape::Deployment).await;
        let told = kubectl::tell(&kubectl, &bed).await;
        bed.stop().await;
        told
    });
    let story = kubectl.story();
    if Golden::read(&story).runs > 0 {
        return judge(&[(&story, told)], &differences(), |one| kubectl.minor == LATEST_MINOR && one.scenario.starts_with(KUBECTL));
    }
    // A release that was never recorded words things in its own way.
    say(&format!(
        "of what kubectl 1.{} says only what comes from the server is compared (hint: COMEBACK_RECORD=1 on kind records it)",
        kubectl.minor
    ));
    let latest = format!("{KUBECTL}1.{LATEST_MINOR}");
    let mut golden = Golden::default();
    for variants in variants_of(Golden::read(&latest)) {
        golden.add("", kubectl::of_the_server(variants));
    }
    let found = strangers(&latest, &kubectl::of_the_server(told), &golden, &differences());
    assert!(found.is_empty(), "the sandbox is not as Kubernetes is:\n\n{}", found.join("\n"));
}

/// Each variant of each object, as a run of its own.
fn variants_of(golden: Golden) -> impl Iterator<Item = Told> {
    golden.objects.into_iter().flat_map(|(name, variants)| variants.into_iter().map(move |(_, lines)| vec![(name.clone(), lines)]))
}

/// Takes in a real run: added to the file when it is to be recorded, held against it otherwise. Returns what nothing explains.
fn take_in(name: &str, kubernetes: &str, told: Told) -> Vec<String> {
    let mut golden = Golden::read(name);
    if is_set("COMEBACK_RECORD") {
        golden.add(kubernetes, told);
        golden.write(name);
        return Vec::new();
    }
    let mut strange = Vec::new();
    for (object, sequence) in told {
        let variants = golden.variants(&object);
        if variants.contains(&sequence) {
            continue;
        }
        let lines = sequence.join("\n    ");
        match explained(&sequence, &variants) {
            Ok(()) => say(&format!("{name}: {object}: an order that no recorded run had (hint: COMEBACK_RECORD=1 adds it)\n    {lines}")),
            Err(steps) => strange.push(format!("{name}: {object}: nothing explains\n    {}\n  in\n    {lines}", steps.join("\n    "))),
        }
    }
    strange
}

fn runs() -> usize {
    env::var("COMEBACK_RUNS").map_or(1, |runs| runs.parse().expect("COMEBACK_RUNS is a number"))
}

#[test]
#[ignore = "needs a kind cluster of `comeback cluster up --engine sqld`; deletes pods, drains nodes and switches them off, for six minutes"]
fn on_kind_objects_go_through_what_was_recorded() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut strange = Vec::new();
    runtime().block_on(async {
        for run in 1..=runs() {
            for story in &STORIES {
                let bed = Bed::on_kind(story.shape).await;
                let sights = drive::tell(story, &bed).await;
                keep(&format!("{}.{}.{run}", story.name, bed.kubernetes), &sights);
                strange.extend(take_in(story.name, &bed.kubernetes, golden::tell(&sights)));
                bed.stop().await;
            }
        }
    });
    assert!(
        strange.is_empty(),
        "what no recorded run explains (hint: if it is right, COMEBACK_RECORD=1 adds it):\n\n{}",
        strange.join("\n")
    );
}

#[test]
#[ignore = "needs a kind cluster of `comeback cluster up --engine sqld`; drains a node and deletes pods"]
fn on_kind_kubectl_says_what_was_recorded() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(kubectl) = kubectl_or_skip() else { return };
    let story = kubectl.story();
    let strange: Vec<String> = runtime().block_on(async {
        let mut strange = Vec::new();
        for _ in 0..runs() {
            let bed = Bed::on_kind(TargetShape::Deployment).await;
            let told = kubectl::tell(&kubectl, &bed).await;
            let golden = Golden::read(&story);
            if is_set("COMEBACK_RECORD") {
                strange.extend(take_in(&story, &bed.kubernetes, told));
            } else {
                // Lines have no steps: a command says what it said, or it does not.
                strange.extend(strangers(&story, &told, &golden, &[]));
            }
            bed.stop().await;
        }
        strange
    });
    assert!(
        strange.is_empty(),
        "kubectl says what it never said (hint: if it is right, COMEBACK_RECORD=1 adds it):\n\n{}",
        strange.join("\n")
    );
}

/// Keeps what was seen, so that the text can be made again without breaking a cluster again.
fn keep(name: &str, sights: &[Sight]) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fidelity");
    fs::create_dir_all(&folder).expect("the folder can be made");
    let lines: String = sights.iter().map(|sight| serde_json::to_string(sight).expect("a sight is JSON") + "\n").collect();
    fs::write(folder.join(format!("{name}.ndjson")), lines).expect("the recording can be written");
}

#[test]
#[ignore = "needs COMEBACK_RECORDINGS, a folder of what `on_kind_objects_go_through_what_was_recorded` kept; writes the golden files anew"]
fn golden_files_are_made_again_of_what_was_kept() {
    let folder = env::var_os("COMEBACK_RECORDINGS").expect("COMEBACK_RECORDINGS is a folder");
    let mut files: Vec<_> = fs::read_dir(folder).expect("the folder can be read").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    for story in &STORIES {
        let mut golden = Golden::default();
        for file in &files {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(rest) = name.strip_prefix(&format!("{}.", story.name)).and_then(|rest| rest.strip_suffix(".ndjson")) else { continue };
            let (kubernetes, _) = rest.rsplit_once('.').expect("scenario.version.run.ndjson");
            let text = fs::read_to_string(file).expect("a recording can be read");
            let sights: Vec<Sight> = text.lines().map(|line| serde_json::from_str(line).expect("a sight")).collect();
            golden.add(kubernetes, golden::tell(&sights));
        }
        assert!(golden.runs > 0, "no recording of {}", story.name);
        golden.write(story.name);
    }
}
