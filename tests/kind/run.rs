//! `comeback run` and `comeback heal` on the cluster of `comeback cluster up`, and what goes wrong there beside the faults.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use comeback::scenario::Suite;
use rstest::rstest;
use serde_json::{Value, json};

use crate::there::{BOOT_OF_ITS_OWN, RUN_WITHIN, Ran, Running, SUITE_WITHIN, There, attempts, until};

/// How long a process of a node may take to be there again after it was killed.
const RESTART_WITHIN: Duration = Duration::from_mins(2);
/// How long the prober may take to write down what it goes on to see.
const JOURNAL_WITHIN: Duration = Duration::from_mins(1);
/// How long what is to begin in a moment may take to do so.
const BEGUN_WITHIN: Duration = Duration::from_secs(30);
/// How long a kubelet that starts may take to tell the boot of its node.
const TOLD_WITHIN: Duration = Duration::from_mins(1);
/// How long a node stays away that nobody but the test starts: longer than whoever heals waits for the dead run.
const AWAY_FOR: Duration = Duration::from_secs(25);
/// How long the claim of a database that was scaled to nothing may take to go.
const GONE_WITHIN: Duration = Duration::from_mins(2);
/// So many attempts show that the streams run.
const SOME: u64 = 40;

/// A scenario with this fault, as quick as it can be, and further lines.
fn scenario(name: &str, fault: &str, further: &str) -> String {
    format!(
        "version: 1\nname: {name}\nload: {{ writers: 2, rate: 40/s, rowsBefore: 100 }}\nprobe: {{ every: 50ms, timeout: 1s }}\n\
         faults: [{fault}]\n{further}\n"
    )
}

/// The only trial of a run.
#[track_caller]
fn only_trial(ran: &Ran) -> Value {
    let mut trials = ran.trials();
    assert_eq!(trials.len(), 1, "{}", ran.tell());
    trials.remove(0)
}

/// A snapshot of a trial: its service, its volume, its node.
#[track_caller]
fn snapshot(ran: &Ran, trial: u64, side: &str) -> [Value; 3] {
    let events = ran.events();
    let of_it = |(kind, event): &&(String, Value)| kind == "snapshot" && event["trial"] == trial && event["event"]["snapshot"][0] == side;
    let (_, event) = events.iter().find(of_it).unwrap_or_else(|| panic!("trial {trial} has no snapshot {side}\n{}", ran.tell()));
    let known = |what: &str| event["event"]["snapshot"][1][what]["known"].clone();
    let found = [known("service"), known("volume"), known("pod")["node"].clone()];
    assert!(found.iter().all(|one| !one.is_null()), "trial {trial}, {side}: {event}");
    found
}

/// The node of the run's prober.
#[track_caller]
fn prober_node(there: &There) -> (Value, String) {
    let mut probers = there.probers();
    assert_eq!(probers.len(), 1, "{probers:?}");
    let prober = probers.remove(0);
    let node = prober["spec"]["nodeName"].as_str().expect("the prober is on a node").to_owned();
    (prober, node)
}

/// Waits until so many attempts of the headline stream are in the record.
#[track_caller]
fn until_attempt(running: &mut Running, number: u64) {
    running.wait_for("attempt", |event| {
        let attempt = &event["event"]["attempt"];
        attempt["stream"] == "write-new" && attempt["number"].as_u64() >= Some(number)
    });
}

#[track_caller]
fn warned(ran: &Ran, text: &str) {
    let result = ran.result();
    let warnings = result["warnings"].as_array().expect("warnings");
    assert!(warnings.iter().any(|warning| warning.as_str().is_some_and(|warning| warning.contains(text))), "{text}: {}", ran.tell());
}

#[test]
#[ignore = "needs the cluster of `comeback cluster up`; breaks nodes in it"]
fn every_built_in_scenario_passes_with_the_service_and_the_volume_that_it_began_with() {
    let there = There::new();
    let ran = there.start(&[]).wait(SUITE_WITHIN).ended_with(0);
    let trials = ran.trials();
    let names: BTreeSet<&str> = trials.iter().filter_map(|trial| trial["scenario"].as_str()).collect();
    let built_in = Suite::built_in();
    assert_eq!(names, built_in.files.iter().map(|file| file.scenario.name.as_str()).collect(), "{}", ran.tell());
    for (number, trial) in (1..).zip(&trials) {
        // The kernel may have no way to hold packets back.
        if trial["verdict"] == "skipped" && trial["scenario"] == "slow-network" {
            continue;
        }
        assert_eq!((&trial["verdict"], &trial["rows"]["lost"]), (&"passed".into(), &0.into()), "{}", ran.tell());
        let ([service, volume, from], [service_after, volume_after, to]) =
            (snapshot(&ran, number, "before"), snapshot(&ran, number, "after"));
        for key in ["uid", "cluster_ip", "port"] {
            assert!(
                !service[key].is_null() && service[key] == service_after[key],
                "{}: {key}: {service} {service_after}",
                trial["scenario"]
            );
        }
        assert!(volume["volume_uid"].is_string(), "{volume}");
        assert_eq!(volume, volume_after, "{}", trial["scenario"]);
        ran.no_attempt_is_lost_or_doubled(number);
        let reason = trial["reason"].as_str().expect("a reason");
        let (moved, help) = match trial["scenario"].as_str() {
            Some("crash-node") => (Some(true), "assist `none`"),
            Some("crash-node-stateful") => (Some(true), "with `outOfServiceTaint`"),
            Some("drain-node") => (Some(true), ""),
            // A node that is back at once keeps its pods.
            Some("reboot-node") => (Some(false), ""),
            _ => (None, ""),
        };
        assert!(reason.contains(help), "{help}: {reason}");
        assert!(moved.is_none_or(|moved| moved == (from != to)), "{}: {from} {to}", trial["scenario"]);
    }
    there.is_whole();
}

#[test]
#[ignore = "needs the cluster of `comeback cluster up`; breaks nodes in it"]
fn no_attempt_is_lost_or_doubled_when_the_wire_to_the_prober_and_the_api_server_break() {
    let there = There::new();
    let mut running = there.start(&[&scenario("wire", "killProcess: {}", "")]);
    running.wait_for("step", |event| event["event"]["step"] == "steady_state");
    until_attempt(&mut running, SOME);

    // The stream to the prober goes through its node's kubelet.
    let (_, node) = prober_node(&there);
    let kubelet = || There::try_docker(&["exec", &node, "systemctl", "show", "--property", "MainPID", "--value", "kubelet"]);
    let old = kubelet().expect("the kubelet's process");
    There::docker(&["exec", &node, "systemctl", "kill", "--signal", "SIGKILL", "kubelet"]);

    running.wait_for("fault_returned", |_| true);
    let control_plane = there.control_plane();
    let api_server = || There::try_docker(&["exec", &control_plane, "pgrep", "--exact", "kube-apiserver"]);
    let old_api_server = api_server().expect("the API server's process");
    There::docker(&["exec", &control_plane, "kill", "-9", &old_api_server]);

    until("another kubelet", RESTART_WITHIN, || kubelet().filter(|new| *new != old && new != "0"));
    until("another API server", RESTART_WITHIN, || api_server().filter(|new| *new != old_api_server));

    let ran = running.wait(RUN_WITHIN).ended_with(0);
    let trial = only_trial(&ran);
    assert_eq!(trial["verdict"], "passed", "{}", ran.tell());
    assert!(trial["probes"]["failed"].as_u64() > Some(0), "the database was away for a while\n{}", ran.tell());
    let counts = ran.no_attempt_is_lost_or_doubled(1);
    assert_eq!(Some(counts["write-new"]), trial["probes"]["due"].as_u64(), "{}", ran.tell());
    // The API server was away while the trial went on: its watches broke.
    let gaps = ran.events().iter().filter(|(kind, event)| kind == "seen" && !event["event"]["seen"]["gap"].is_null()).count();
    assert!(gaps > 0, "{}", ran.tell());
    there.is_whole();
}

#[test]
#[ignore = "needs the cluster of `comeback cluster up`; breaks nodes in it"]
fn a_prober_that_died_with_its_node_makes_the_trial_an_error_and_what_it_had_told_is_kept() {
    let there = There::new();
    // Nothing but the prober is broken: its node dies before the fault.
    let mut running = there.start(&[&scenario("lost-prober", "killProcess: {}", "steadyFor: 10m")]);
    until_attempt(&mut running, SOME);
    let (_, node) = prober_node(&there);
    There::docker(&["kill", &node]);
    let told = attempts(&running.events(), 1)["write-new"].len() as u64;

    let error = running.wait_for("trial_error", |_| true);
    let text = error["event"]["trial_error"].as_str().unwrap_or_default();
    assert!(text.contains("prober could not be reached"), "{text}");
    There::docker(&["start", &node]);

    let ran = running.wait(RUN_WITHIN).ended_with(4);
    let trial = only_trial(&ran);
    assert_eq!(trial["verdict"], "error", "{}", ran.tell());
    assert!(trial["reason"].as_str().is_some_and(|reason| reason.contains("prober")), "{}", ran.tell());
    let counts = ran.no_attempt_is_lost_or_doubled(1);
    assert!(counts["write-new"] >= told && told > SOME, "{told}: {counts:?}");
    there.is_whole();
}

#[test]
#[ignore = "needs the cluster of `comeback cluster up`; breaks nodes in it"]
fn what_the_prober_had_seen_and_not_yet_sent_when_its_node_died_comes_when_the_node_is_back() {
    let there = There::new();
    let mut running = there.start(&[&scenario("late-prober", "killProcess: {}", "steadyFor: 10m")]);
    until_attempt(&mut running, SOME);
    let (prober, node) = prober_node(&there);
    // Without the kubelet there is no way to the prober, which goes on.
    There::docker(&["exec", &node, "systemctl", "stop", "kubelet"]);
    let sent = *attempts(&running.events(), 1)["write-new"].last().expect("an attempt");
    let journal =
        format!("/var/lib/kubelet/pods/{}/volumes/kubernetes.io~empty-dir/journal", prober["metadata"]["uid"].as_str().expect("a uid"));
    let unsent = until("what the prober sees without a runner", JOURNAL_WITHIN, || {
        let text = There::try_docker(&["exec", &node, "sh", "-c", &format!("cat {journal}/*.ndjson")])?;
        let seen = text.lines().filter_map(|line| line.split_once("\"stream\":\"write-new\",\"number\":"));
        let numbers = seen.filter_map(|(_, behind)| behind.split(|sign: char| !sign.is_ascii_digit()).next()?.parse::<u64>().ok());
        // More than can have been under way.
        numbers.max().filter(|number| *number > sent + 2 * SOME)
    });
    let told = *attempts(&running.events(), 1)["write-new"].last().expect("an attempt");
    assert!(
        told < unsent,
        "the runner had heard of attempt {told}, and the prober was at {unsent}: the wire was not cut\n{}",
        running.tell()
    );
    There::docker(&["kill", &node]);
    There::docker(&["start", &node]);

    let ran = running.wait(RUN_WITHIN).ended_with(4);
    let trial = only_trial(&ran);
    assert_eq!(trial["verdict"], "error", "{}", ran.tell());
    assert!(trial["reason"].as_str().is_some_and(|reason| reason.contains("the prober was hit")), "{}", ran.tell());
    let counts = ran.no_attempt_is_lost_or_doubled(1);
    assert!(counts["write-new"] > unsent, "attempt {unsent} was in the prober's journal: {counts:?}\n{}", ran.tell());
    there.is_whole();
}

/// Every fault that is possible on any kind cluster (`delayNetwork` needs a kernel that has `sch_netem`), and what healing says that it did beside the prober.
#[rstest]
#[case::kill_process("killProcess", "remove pod")]
#[case::freeze_process("freezeProcess", "mend: frozen process")]
#[case::kill_container("killContainer", "remove pod")]
#[case::exhaust_memory("exhaustMemory", "remove pod")]
#[case::delete_pod("deletePod", "remove pod")]
#[case::evict_pod("evictPod", "remove pod")]
#[case::restart_workload("restartWorkload", "remove pod")]
#[case::scale_to_zero("scaleToZero", "scale deployment")]
#[case::drain_node("drainNode", "uncordon node")]
#[case::cordon_node("cordonNode", "uncordon node")]
#[case::taint_node("taintNode", "remove taint")]
#[case::crash_node("crashNode", "start node")]
#[case::reboot_node("rebootNode", "start node")]
#[case::freeze_node("freezeNode", "mend: frozen node")]
#[case::stop_kubelet("stopKubelet", "mend: stopped kubelet")]
#[case::isolate_node("isolateNode", "mend: isolated node")]
#[case::isolate_pod("isolatePod", "mend: isolated pod")]
#[case::lossy_network("lossyNetwork", "mend: network of the pod")]
#[case::reset_connections("resetConnections", "remove pod")]
#[case::fill_volume("fillVolume", "mend: full volume")]
#[case::slow_volume("slowVolume", "mend: volume")]
#[case::fail_attach("failAttach", "mend: volume")]
#[case::stop_api_server("stopApiServer", "mend: stopped API server")]
#[case::stop_controller("stopController", "mend: stopped controller manager")]
#[case::break_endpoints("breakEndpoints", "restore the selector")]
#[ignore = "needs the cluster of `comeback cluster up`; breaks nodes in it"]
fn what_a_run_that_was_killed_has_broken_is_healed(#[case] fault: &str, #[case] done: &str) {
    let there = There::new();
    let mut running = there.start(&[&scenario("killed", &format!("{fault}: {{}}"), "")]);
    running.wait_for("fault_returned", |_| true);
    let told = running.tell();
    running.kill();
    // Whoever stopped the API server stopped what the journal is read from.
    let healed = if fault == "stopApiServer" { there.heal_as_soon_as_possible() } else { there.heal() };
    assert!(healed.contains(done) && healed.contains("prober"), "{healed}\n{told}");
    there.is_whole();
    let again = there.heal();
    assert!(again.starts_with("nothing to do"), "{again}");
}

/// The timer that would mend it goes with the node's power, and what it would mend does not.
#[test]
#[ignore = "needs the cluster of `comeback cluster up`; starts its control plane anew"]
fn what_is_broken_on_a_node_s_disk_is_mended_when_the_node_starts() {
    let there = There::new();
    // Long after the node has started, its timer would have come.
    let mut running = there.start(&[&scenario("killed", "stopController: { for: 10m }", "")]);
    running.wait_for("fault_returned", |_| true);
    running.kill();
    let node = there.control_plane();
    There::docker(&["restart", &node]);
    until("the manifest in its place", RESTART_WITHIN, || {
        There::try_docker(&["exec", &node, "ls", "/etc/kubernetes/comeback"]).filter(String::is_empty)
    });
    there.heal_as_soon_as_possible();
    there.is_whole();
}

/// As on a cluster in a cloud: what needs a node's power is skipped, what a node can do is done by the node helper.
#[test]
#[ignore = "needs the cluster of `comeback cluster up`; breaks pods in it"]
fn with_the_api_alone_what_is_possible_is_proven_and_the_rest_is_skipped() {
    let there = There::new();
    let scenarios = [
        scenario("killed", "killProcess: {}", ""),
        scenario("ended", "killContainer: {}", ""),
        scenario("frozen", "freezeProcess: { for: 10s }", ""),
        scenario("lossy", "lossyNetwork: { loss: 50%, for: 10s }", ""),
        scenario("reset", "resetConnections: {}", ""),
        scenario("cut-off", "isolatePod: { for: 10s }", ""),
        scenario("unkept", "stopKubelet: {}", ""),
        scenario("node-cut-off", "isolateNode: {}", ""),
        scenario("late", "delayNetwork: { delay: 50ms, for: 10s }", ""),
        scenario("powerless", "crashNode: {}", ""),
        scenario("unseen", "rebootNode: {}", ""),
    ];
    let scenarios: Vec<&str> = scenarios.iter().map(String::as_str).collect();
    let ran = there.start_with(&["--api-only"], &scenarios).wait(SUITE_WITHIN).ended_with(0);
    let control_plane = there.control_plane();
    let can_delay = There::try_docker(&[
        "exec",
        &control_plane,
        "unshare",
        "--net",
        "tc",
        "qdisc",
        "add",
        "dev",
        "lo",
        "root",
        "netem",
        "delay",
        "1ms",
    ]);
    for trial in ran.trials() {
        let (expected, reason) = match trial["scenario"].as_str() {
            Some("powerless") => ("skipped", "power of a node"),
            Some("unseen") => ("skipped", "the same boot id"),
            Some("late") if can_delay.is_none() => ("skipped", "sch_netem"),
            _ => ("passed", ""),
        };
        assert_eq!(trial["verdict"], expected, "{}", ran.tell());
        assert!(trial["reason"].as_str().is_some_and(|text| text.contains(reason)), "{}", ran.tell());
    }
    let by_helper =
        ran.events().iter().filter(|(kind, event)| kind == "fault_resolved" && event.to_string().contains("node helper")).count();
    assert!(by_helper >= 6, "{by_helper} faults went through the node helper\n{}", ran.tell());
    there.is_whole();
}

/// Workers that start anew as machines do, until this is dropped: each start has a boot id of its own, where containers share that of the kernel below them; and
/// whether they have their power back is up to the test, where docker starts a container that has ended by itself only once.
struct LikeMachines<'a> {
    there: &'a There,
    workers: Vec<String>,
    /// When each of them was started.
    started: Vec<String>,
}

impl<'a> LikeMachines<'a> {
    /// What docker does with one that has ended by itself is `restart`.
    fn set(there: &'a There, restart: &str) -> Self {
        let workers = there.workers();
        let started = workers.iter().map(|worker| started(worker)).collect();
        let machines = Self { there, workers, started };
        for worker in &machines.workers {
            There::docker(&["update", "--restart", restart, worker]);
            let own = "cat /proc/sys/kernel/random/uuid >/run/boot-of-its-own && \
                       mount --bind /run/boot-of-its-own /proc/sys/kernel/random/boot_id";
            let unit = format!(
                "[Unit]\nBefore=kubelet.service\n[Service]\nType=oneshot\nExecStart=/bin/bash -c '{own}'\n[Install]\nWantedBy=multi-user.target\n"
            );
            let set = format!("printf '%s' \"$0\" >{BOOT_OF_ITS_OWN} && systemctl enable --quiet --now boot-of-its-own");
            There::docker(&["exec", worker, "bash", "-c", &set, &unit]);
            There::docker(&["exec", worker, "systemctl", "restart", "kubelet"]);
        }
        machines.tell();
        machines
    }

    /// Waits until every node tells the boot that it has.
    fn tell(&self) {
        for worker in &self.workers {
            let id = There::docker(&["exec", worker, "cat", "/proc/sys/kernel/random/boot_id"]);
            let told = || self.there.kubectl(&["get", "node", worker, "-o", "jsonpath={.status.nodeInfo.bootID}"]);
            until(&format!("boot {id} of node {worker}"), TOLD_WITHIN, || (told() == id).then_some(()));
        }
    }

    /// Kills a run that has told the node of the database to start anew, and returns that node when it is away.
    fn one_that_stays_away(&self) -> String {
        let mut running = self.there.start_with(&["--api-only"], &[&scenario("killed", "rebootNode: {}", "")]);
        let resolved = running.wait_for("fault_resolved", |_| true);
        let node = resolved["event"]["fault_resolved"][1]["pod"]["node"].as_str().expect("the database is on a node").to_owned();
        running.wait_for("fault_returned", |_| true);
        running.kill();
        let runs = || There::docker(&["inspect", "--format", "{{.State.Running}}", &node]);
        until("the end of the node", BEGUN_WITHIN, || (runs() == "false").then_some(()));
        node
    }

    /// Whether this one has been started since.
    fn has_started_anew(&self, worker: &str) -> bool {
        self.workers.iter().zip(&self.started).any(|(name, before)| name == worker && *before != started(worker))
    }
}

fn started(worker: &str) -> String {
    There::docker(&["inspect", "--format", "{{.State.StartedAt}}", worker])
}

impl Drop for LikeMachines<'_> {
    fn drop(&mut self) {
        let stop = || {
            for worker in &self.workers {
                There::docker(&["update", "--restart", "on-failure:1", worker]);
                There::docker(&[
                    "exec",
                    worker,
                    "bash",
                    "-c",
                    &format!("systemctl disable --quiet boot-of-its-own; rm -f {BOOT_OF_ITS_OWN}"),
                ]);
                if self.has_started_anew(worker) {
                    // Docker counts how often it has started it, and forgets that only when somebody else does.
                    There::docker(&["restart", worker]);
                } else {
                    There::docker(&["exec", worker, "bash", "-c", "umount /proc/sys/kernel/random/boot_id && systemctl restart kubelet"]);
                }
            }
            self.tell();
        };
        if std::thread::panicking() { self.there.put_right(stop) } else { stop() }
    }
}

/// A node that is told to start anew does so, and what proves it is the boot that it tells.
#[test]
#[ignore = "needs the cluster of `comeback cluster up`; starts a node of it anew"]
fn a_node_is_rebooted_with_the_api_alone() {
    let there = There::new();
    let machines = LikeMachines::set(&there, "on-failure:9");
    let scenarios = [scenario("anew", "rebootNode: {}", ""), scenario("other", "rebootNode: { node: other }", "")];
    let scenarios: Vec<&str> = scenarios.iter().map(String::as_str).collect();
    let ran = there.start_with(&["--api-only"], &scenarios).wait(RUN_WITHIN).ended_with(0);
    let trials = ran.trials();
    assert_eq!(trials.len(), 2, "{}", ran.tell());
    for trial in trials {
        assert_eq!(trial["verdict"], "passed", "{}", ran.tell());
        let evidence = trial["evidence"].as_array().expect("evidence");
        let boot = evidence.iter().find(|one| one["what"].as_str().is_some_and(|what| what.starts_with("boot of node")));
        let boot = boot.expect("the boot is evidence");
        assert!(boot["role"] == "proof" && boot["before"] != boot["after"], "{}", ran.tell());
    }
    let by_helper = |(kind, event): &&(String, Value)| kind == "fault_resolved" && event.to_string().contains("node helper");
    assert_eq!(ran.events().iter().filter(by_helper).count(), 2, "{}", ran.tell());
    assert!(machines.workers.iter().any(|worker| machines.has_started_anew(worker)), "{}", ran.tell());
    drop(machines);
    there.is_whole();
}

/// A run is killed, and its node stays away: whoever heals says that it is done when the node lives, and not before.
#[test]
#[ignore = "needs the cluster of `comeback cluster up`; starts a node of it anew"]
fn a_node_that_starts_anew_is_started_by_whoever_has_docker() {
    let there = There::new();
    let machines = LikeMachines::set(&there, "no");
    let node = machines.one_that_stays_away();
    let healed = there.heal();
    assert!(healed.contains("mend: reboot of node"), "{healed}");
    // Docker said that it runs long before its kubelet did.
    assert_eq!(There::try_docker(&["exec", &node, "systemctl", "is-active", "kubelet"]).as_deref(), Some("active"));
    drop(machines);
    there.is_whole();
}

/// The same for one who has nothing but the API, and waits for whoever has the switch.
#[test]
#[ignore = "needs the cluster of `comeback cluster up`; starts a node of it anew"]
fn a_node_that_starts_anew_is_waited_for_with_the_api_alone() {
    let there = There::new();
    let machines = LikeMachines::set(&there, "no");
    let node = machines.one_that_stays_away();
    let is_back = AtomicBool::new(false);
    let healed = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(AWAY_FOR);
            is_back.store(true, Ordering::SeqCst);
            There::docker(&["start", &node]);
        });
        let healed = there.heal_with(&["--api-only"]);
        assert!(is_back.load(Ordering::SeqCst), "it was done before the node was there: {healed}");
        healed
    });
    assert!(healed.contains("mend: reboot of node"), "{healed}");
    drop(machines);
    there.is_whole();
}

/// A right that is missing is told, with where all of them are listed, and nothing is left of what was begun.
#[test]
#[ignore = "needs the cluster of `comeback cluster up`; breaks nothing in it"]
fn what_we_may_not_do_is_said_and_leaves_nothing() {
    let mut there = There::new();
    there.become_ourselves_again();
    there.become_one_who_may_not_change_nodes();
    let ran = there.start(&[&scenario("denied", "cordonNode: { for: 5s }", "")]).wait(RUN_WITHIN);
    there.become_ourselves_again();
    let ran = ran.ended_with(4);
    let trial = only_trial(&ran);
    assert_eq!(trial["verdict"], "error", "{}", ran.tell());
    let reason = trial["reason"].as_str().expect("a reason");
    assert!(reason.contains("cannot patch resource") && reason.contains("comeback preflight"), "{}", ran.tell());
    there.is_whole();
}

/// The namespace without the label that allows breaking it, until this is dropped.
struct Unasked<'a>(&'a There);

impl<'a> Unasked<'a> {
    fn set(there: &'a There) -> Self {
        let unasked = Self(there);
        unasked.label("comeback.dev/chaos-");
        unasked
    }

    fn label(&self, label: &str) {
        self.0.kubectl(&["label", "namespace", "comeback", "--overwrite", label]);
    }
}

impl Drop for Unasked<'_> {
    fn drop(&mut self) {
        let ask = || self.label("comeback.dev/chaos=allowed");
        if std::thread::panicking() { self.0.put_right(ask) } else { ask() }
    }
}

/// Without the label that allows it nothing is broken, and the message says how to set it.
#[test]
#[ignore = "needs the cluster of `comeback cluster up`; breaks nothing in it"]
fn a_namespace_that_does_not_say_so_is_not_broken() {
    let there = There::new();
    let unasked = Unasked::set(&there);
    let ran = there.start(&[&scenario("unasked", "killProcess: {}", "")]).wait(RUN_WITHIN).ended_with(4);
    drop(unasked);
    assert!(ran.result().to_string().contains("kubectl label namespace comeback comeback.dev/chaos=allowed"), "{}", ran.tell());
    let broken = ran.events().iter().any(|(kind, _)| kind == "fault_called" || kind == "trial_started");
    assert!(!broken, "{}", ran.tell());
    there.is_whole();
}

/// What a helper began it also ends, for another process that has nothing but the API; what cut the node off ends by itself before.
#[rstest]
#[case::isolate_pod("isolatePod", "mend: isolated pod")]
#[case::freeze_process("freezeProcess", "mend: frozen process")]
#[case::stop_kubelet("stopKubelet", "mend: stopped kubelet")]
#[case::isolate_node("isolateNode", "mend: isolated node")]
#[ignore = "needs the cluster of `comeback cluster up`; breaks nodes in it"]
fn what_a_helper_has_begun_is_healed_with_the_api_alone(#[case] fault: &str, #[case] done: &str) {
    let there = There::new();
    let mut running = there.start_with(&["--api-only"], &[&scenario("killed", &format!("{fault}: {{}}"), "")]);
    let resolved = running.wait_for("fault_resolved", |_| true);
    let node = resolved["event"]["fault_resolved"][1]["pod"]["node"].as_str().expect("the database is on a node").to_owned();
    running.wait_for("fault_returned", |_| true);
    let told = running.tell();
    running.kill();
    // What is to begin in a moment would make the healing worth nothing if it had not.
    let begun = match fault {
        "stopKubelet" => "! systemctl is-active --quiet kubelet",
        "isolateNode" => "iptables -S | grep -q -- '-N COMEBACK-'",
        _ => "true",
    };
    until("what the helper has begun", BEGUN_WITHIN, || There::try_docker(&["exec", &node, "bash", "-c", begun]));
    let healed = there.heal_with(&["--api-only"]);
    assert!(healed.contains(done) && healed.contains("prober"), "{healed}\n{told}");
    there.is_whole();
}

#[test]
#[ignore = "needs the cluster of `comeback cluster up`; breaks nodes in it"]
fn the_manifest_of_microsoft_s_guide_runs_and_is_warned_of() {
    let there = There::new();
    let ran = there.start(&[&scenario("guide", "deletePod: {}", "target: guide")]).wait(RUN_WITHIN).ended_with(0);
    assert_eq!(only_trial(&ran)["verdict"], "passed", "{}", ran.tell());
    warned(&ran, "has no readiness probe");
    warned(&ran, "is updated by rolling");
    there.is_whole();
}

/// The volumes of kind's default class in place of those that all nodes share, until it is dropped.
struct DefaultClass<'a> {
    there: &'a There,
    was: String,
}

impl<'a> DefaultClass<'a> {
    fn set(there: &'a There) -> Self {
        let map: Value =
            serde_json::from_str(&there.kubectl(&["get", "configmap", "comeback", "--namespace", "comeback", "-o", "json"])).expect("JSON");
        let was = map["data"]["storage"].as_str().expect("where the volumes come from").to_owned();
        let class = Self { there, was };
        class.change(&json!({"class": null}).to_string());
        class
    }

    /// A claim keeps its class for ever: it goes with the pod that uses it.
    fn change(&self, storage: &str) {
        let there = self.there;
        there.kubectl(&["scale", "deployment", "mssql", "--namespace", "comeback", "--replicas", "0"]);
        until("the end of the database", GONE_WITHIN, || {
            there.list(&["pods", "--namespace", "comeback", "--selector", "app=mssql"]).is_empty().then_some(())
        });
        there.kubectl(&["delete", "persistentvolumeclaim", "mssql-data", "--namespace", "comeback", "--ignore-not-found", "--wait=false"]);
        let claims = || there.list(&["persistentvolumeclaims", "--namespace", "comeback"]);
        until("the end of its claim", GONE_WITHIN, || claims().iter().all(|claim| claim["metadata"]["name"] != "mssql-data").then_some(()));
        let patch = json!({"data": {"storage": storage}}).to_string();
        there.kubectl(&["patch", "configmap", "comeback", "--namespace", "comeback", "--type", "merge", "--patch", &patch]);
    }
}

impl Drop for DefaultClass<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() { self.there.put_right(|| self.change(&self.was)) } else { self.change(&self.was) }
    }
}

#[test]
#[ignore = "needs the cluster of `comeback cluster up`; breaks nodes in it"]
fn a_volume_that_is_bound_to_its_node_is_warned_of_and_named_when_the_node_is_gone() {
    let there = There::new();
    let class = DefaultClass::set(&there);
    let ran = there.start(&[&scenario("bound", "crashNode: {}", "giveUpAfter: 90s")]).wait(RUN_WITHIN).ended_with(1);
    let trial = only_trial(&ran);
    assert_eq!(trial["verdict"], "failed", "{}", ran.tell());
    assert!(trial["reason"].as_str().is_some_and(|reason| reason.contains("is bound to node")), "{}", ran.tell());
    assert_eq!(trial["undo"][0]["done"], true, "{}", ran.tell());
    warned(&ran, "is bound to node");
    there.is_whole();
    drop(class);
}

/// The service as it was, when this is dropped.
struct BrokenSelector<'a>(&'a There);

impl<'a> BrokenSelector<'a> {
    fn set(there: &'a There) -> Self {
        let broken = Self(there);
        broken.select("nobody");
        broken
    }

    fn select(&self, app: &str) {
        let patch = json!({"spec": {"selector": {"app": app}}}).to_string();
        self.0.kubectl(&["patch", "service", "mssql", "--namespace", "comeback", "--type", "merge", "--patch", &patch]);
    }
}

impl Drop for BrokenSelector<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() { self.0.put_right(|| self.select("mssql")) } else { self.select("mssql") }
    }
}

#[rstest]
#[case::before_the_fault("step", "steady_state", "", 4)]
#[case::during_the_recovery("fault_returned", "", "giveUpAfter: 20s", 1)]
#[ignore = "needs the cluster of `comeback cluster up`; breaks nodes in it"]
fn a_service_that_somebody_breaks_is_named(#[case] kind: &str, #[case] step: &str, #[case] further: &str, #[case] code: i32) {
    let there = There::new();
    let mut running = there.start(&[&scenario("selector", "killProcess: {}", further)]);
    running.wait_for(kind, |event| step.is_empty() || event["event"]["step"] == step);
    let broken = BrokenSelector::set(&there);
    let ran = running.wait(RUN_WITHIN).ended_with(code);
    let trial = only_trial(&ran);
    assert!(trial["verdict"] != "passed", "{}", ran.tell());
    let reason = trial["reason"].as_str().expect("a reason");
    assert!(reason.contains("The selector of service `mssql` (`app=nobody`) matches no pod"), "{}", ran.tell());
    drop(broken);
    there.is_whole();
}
