//! `comeback cluster` on machines that lack something, and where somebody else's cluster is in the way.
//!
//! docker and kind are programs of the test: they answer from files, and write down what they were asked. The real ones are in `tests/kind/`.

mod machine;

use std::time::Duration;

use comeback::{
    cluster::{Cluster, lease::RunLease},
    deploy::{NAMESPACE, Workload},
    sandbox::{Options, Sandbox},
    scenario::TargetShape,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;

use machine::{Machine, OURS, node};
use nix::sys::signal::Signal;

#[test]
fn without_docker_one_line_says_how_to_get_it() {
    let machine = Machine::new();
    machine.lacks("docker");
    for command in ["up", "status", "down"] {
        let ran = machine.cluster(command, &[]);
        ran.ended_with(4);
        let errors: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{}", ran.stderr);
        assert!(errors[0].contains("`docker` is not on the PATH") && errors[0].contains("docs.docker.com"), "{}", ran.stderr);
    }
}

#[test]
fn without_kind_one_line_says_how_to_get_it() {
    let machine = Machine::new();
    machine.lacks("kind");
    let ran = machine.cluster("up", &[]);
    ran.ended_with(4);
    assert!(ran.stderr.contains("`kind` is not on the PATH (hint: `go install sigs.k8s.io/kind@"), "{}", ran.stderr);
}

#[test]
fn a_daemon_that_does_not_answer_is_told_in_dockers_words() {
    let machine = Machine::new();
    machine.fails("docker version", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.");
    let ran = machine.cluster("up", &[]);
    ran.ended_with(4);
    assert!(ran.stderr.contains("the docker daemon cannot be used: Cannot connect to the Docker daemon"), "{}", ran.stderr);
}

#[test]
fn a_cluster_of_somebody_else_is_left_alone() {
    let machine = Machine::new();
    machine.has_nodes(&[node("control-plane", "running", "/srv/theirs")]);
    for command in ["up", "status", "down"] {
        let ran = machine.cluster(command, &[]);
        ran.ended_with(4);
        assert!(ran.stderr.contains("did not make, so it is left alone"), "{}", ran.stderr);
    }
    assert!(!machine.asked("kind "), "{}", machine.log());
    assert!(!machine.asked("docker rm") && !machine.asked("docker start"), "{}", machine.log());
}

#[test]
fn one_node_of_somebody_else_makes_a_cluster_theirs() {
    let machine = Machine::new();
    machine.has_nodes(&[node("worker", "running", OURS), node("control-plane", "running", "/srv/theirs")]);
    machine.cluster("down", &[]).ended_with(4);
    assert!(!machine.asked("kind "), "{}", machine.log());
}

#[test]
fn without_a_registry_the_real_engines_fail_before_anything_is_made() {
    let machine = Machine::new();
    machine.fails("docker pull", "Error response from daemon: Get \"https://mcr.microsoft.com/v2/\": no such host");
    for (engine, image) in [
        (None, "mcr.microsoft.com/mssql/server:2022-latest"),
        (Some("mssql-2025"), "mcr.microsoft.com/mssql/server:2025-latest"),
        (Some("mssql-2019"), "mcr.microsoft.com/mssql/server:2019-latest"),
        (Some("azure-sql-edge"), "mcr.microsoft.com/azure-sql-edge:latest"),
    ] {
        let args: Vec<&str> = engine.iter().flat_map(|engine| ["--engine", engine]).collect();
        let ran = machine.cluster("up", &args);
        ran.ended_with(4);
        let image_is_loaded = format!("`kind load docker-image {image}`");
        for part in [image, "registry `mcr.microsoft.com`", "no such host", &image_is_loaded, "--engine sqld"] {
            assert!(ran.stderr.contains(part), "`{part}` is missing: {}", ran.stderr);
        }
    }
    assert!(!machine.asked("kind create"), "{}", machine.log());
}

#[test]
fn a_version_of_kubernetes_without_a_node_image_is_refused_with_the_ways_out() {
    let machine = Machine::new();
    let ran = machine.cluster("up", &["--engine", "sqld", "--kubernetes", "1.33"]);
    ran.ended_with(4);
    for part in ["comeback/kind-node:v1.33", "kind-config/node-image/build --kubernetes 1.33", "--node-image"] {
        assert!(ran.stderr.contains(part), "`{part}` is missing: {}", ran.stderr);
    }
    machine.cluster("up", &["--engine", "sqld", "--kubernetes", "latest"]).ended_with(2);
    assert!(!machine.asked("kind create"), "{}", machine.log());
}

#[test]
fn a_machine_that_cannot_run_this_program_is_refused() {
    let machine = Machine::new();
    machine.answers("docker version", r#"{"Os": "linux", "Arch": "s390x", "Version": "28"}"#);
    let ran = machine.cluster("up", &["--engine", "sqld"]);
    ran.ended_with(4);
    assert!(ran.stderr.contains("linux/s390x") && ran.stderr.contains("--image"), "{}", ran.stderr);
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let machine = Machine::new();
    for args in [["--name", "../x"], ["--name", "A"], ["--workers", "1"], ["--engine", "oracle"], ["--shape", "pod"]] {
        machine.cluster_named("up", None, &args).ended_with(2);
    }
    assert!(machine.log().is_empty(), "{}", machine.log());
}

#[test]
fn a_cluster_of_ours_that_is_not_as_asked_for_is_kept_as_it_is() {
    let machine = Machine::new();
    machine.has_nodes(&[node("control-plane", "running", OURS), node("worker", "running", OURS), node("worker", "running", OURS)]);
    machine.is_made();
    let ran = machine.cluster("up", &["--engine", "sqld", "--workers", "5"]);
    ran.ended_with(4);
    assert!(ran.stderr.contains("has 2 workers, not 5"), "{}", ran.stderr);
    let ran = machine.cluster("up", &["--engine", "sqld", "--node-image", "other:1"]);
    ran.ended_with(4);
    assert!(ran.stderr.contains("has the node image `kindest/node:v1`, not `other:1`"), "{}", ran.stderr);
    assert!(!machine.asked("kind create") && !machine.asked("kind delete"), "{}", machine.log());
}

#[test]
fn stopped_nodes_are_started_and_paused_ones_go_on() {
    let machine = Machine::new();
    let of = |role, state| node(role, state, OURS);
    machine.has_nodes(&[of("control-plane", "exited"), of("control-plane", "paused"), of("worker", "paused"), of("worker", "exited")]);
    machine.is_made();
    machine.fails("kind get", "ERROR: far enough for this test");
    machine.cluster("up", &["--engine", "sqld"]).ended_with(4);
    assert!(machine.asked("docker start n0") && machine.asked("docker unpause n1"), "{}", machine.log());
    assert!(!machine.asked("docker start n1") && !machine.asked("kind create"), "{}", machine.log());
    // A run may be at work that has stopped them; nobody could say.
    assert!(!machine.log().contains("n2") && !machine.log().contains("n3"), "{}", machine.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_run_nothing_is_started_and_nothing_removed() {
    let sandbox = Sandbox::start(Options::new(env!("CARGO_BIN_EXE_comeback"))).await.expect("the sandbox starts");
    let cluster = Cluster::new(sandbox.client().await.expect("a client"), Workload::target(TargetShape::default()));
    let namespace = serde_json::from_value(serde_json::json!({"metadata": {"name": NAMESPACE}})).expect("a namespace");
    cluster.all::<Namespace>().create(&PostParams::default(), &namespace).await.expect("the namespace is made");
    let machine = Machine::new();
    machine.has_nodes(&[node("control-plane", "running", OURS), node("worker", "exited", OURS)]);
    machine.is_made();
    machine.answers("kind get", &sandbox.kubeconfig_text());

    let lease = RunLease::acquire(&cluster, "run-7").await.expect("it is free");
    for (command, remedy) in [("up", "Ctrl-C"), ("down", "`--force`")] {
        let ran = tokio::task::block_in_place(|| machine.cluster(command, &[]));
        ran.ended_with(4);
        assert!(
            ran.stderr.contains("run run-7 on ") && ran.stderr.contains("is at work on cluster") && ran.stderr.contains(remedy),
            "{}",
            ran.stderr
        );
    }
    assert!(
        !machine.asked("docker start") && !machine.asked("kind delete") && machine.folder().join("made.json").exists(),
        "{}",
        machine.log()
    );
    tokio::task::block_in_place(|| machine.cluster("down", &["--force"])).ended_with(0);
    assert!(machine.asked("kind delete cluster"), "{}", machine.log());
    lease.release().await.expect("it is ours");
    tokio::task::block_in_place(|| machine.cluster("down", &[])).ended_with(0);
    sandbox.stop().await;
}

#[test]
fn one_that_was_never_finished_is_made_anew_from_the_configuration_in_the_program() {
    let machine = Machine::new();
    machine.has_nodes(&[node("control-plane", "running", OURS)]);
    machine.answers("docker image", "sha256:0");
    machine.fails("kind create", "ERROR: failed to create cluster: the rest is for the real one");
    let ran = machine.cluster("up", &["--engine", "sqld", "--workers", "2"]);
    ran.ended_with(4);
    assert!(ran.stderr.contains("never finished: it is made anew"), "{}", ran.stderr);
    assert!(ran.stderr.contains("could not make cluster") && ran.stderr.contains("the rest is for the real one"), "{}", ran.stderr);
    assert!(ran.stderr.contains("comeback cluster up --name"), "it says how to go on: {}", ran.stderr);
    let log = machine.log();
    assert!(log.find("kind delete cluster") < log.find("kind create cluster"), "{log}");
    assert!(log.contains("--image comeback/kind-node:v1.37"), "{log}");
    let config: serde_json::Value = serde_json::from_str(&machine.input_of("kind create")).expect("the configuration is JSON");
    assert_eq!(config["nodes"].as_array().expect("nodes").len(), 3);
    assert_eq!(config["nodes"][1]["extraMounts"][0]["hostPath"], machine.folder().display().to_string());
    // What it made of this machine goes with it.
    machine.has_nodes(&[]);
    let ran = machine.cluster("down", &[]);
    ran.ended_with(0);
    assert!(!machine.folder().exists());
}

#[test]
fn a_node_image_that_cannot_be_pulled_is_told_with_the_way_out() {
    let machine = Machine::new();
    machine.fails("kind create", "ERROR: failed to create cluster: failed to pull image \"kindest/node:v1.37.0\": exit status 1");
    let ran = machine.cluster("up", &["--engine", "sqld"]);
    ran.ended_with(4);
    assert!(ran.stderr.contains("kind-config/node-image/build") && ran.stderr.contains("--node-image"), "{}", ran.stderr);
    assert!(!machine.log().contains("--image"), "the choice is kind's: {}", machine.log());
    machine.cluster("down", &[]).ended_with(0);
}

#[test]
fn down_without_a_cluster_is_fine_and_can_be_repeated() {
    let machine = Machine::new();
    for _ in 0..2 {
        let ran = machine.cluster("down", &[]);
        ran.ended_with(0);
        assert!(ran.stderr.contains("there was no cluster"), "{}", ran.stderr);
    }
    assert!(machine.asked("kind delete cluster"), "the entry in the kubeconfig may be there all the same: {}", machine.log());
}

#[test]
fn the_network_stays_while_somebody_uses_it() {
    let machine = Machine::new();
    machine.answers("docker network", "0123");
    machine.answers("docker ps", "abc");
    machine.answers("docker container", "[]");
    machine.cluster("down", &[]).ended_with(0);
    assert!(!machine.asked("docker network rm"), "{}", machine.log());
    machine.answers("docker ps", "");
    machine.answers("kind get", "another\n");
    machine.cluster("down", &[]).ended_with(0);
    assert!(!machine.asked("docker network rm"), "{}", machine.log());
    machine.answers("kind get", "");
    machine.cluster("down", &[]).ended_with(0);
    assert!(machine.asked("docker network rm kind"), "{}", machine.log());
}

#[test]
fn what_is_not_there_is_not_up() {
    let machine = Machine::new();
    let ran = machine.cluster("status", &["-o", "json"]);
    ran.ended_with(4);
    let status: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!((status["up"].as_bool(), status["nodes"].as_array().map(Vec::len)), (Some(false), Some(0)));
    assert!(status["problems"][0].as_str().is_some_and(|told| told.contains("comeback cluster up")), "{status}");
}

#[test]
fn ctrl_c_ends_what_was_started_and_says_how_to_go_on() {
    let machine = Machine::new();
    machine.hangs("kind create");
    let running = machine.start("up", &["--engine", "sqld"]);
    let kind = machine.hanging();
    // Meanwhile nobody else gets at it.
    let other = machine.cluster("down", &[]);
    other.ended_with(4);
    assert!(other.stderr.contains("another `comeback cluster` is at work"), "{}", other.stderr);
    running.signal(Signal::SIGINT);
    let ran = running.wait();
    ran.ended_with(130);
    assert!(ran.stderr.contains("half made") && ran.stderr.contains("comeback cluster down --name"), "{}", ran.stderr);
    machine::dead_within(Duration::from_secs(10), kind);
    machine.cluster("down", &[]).ended_with(0);
}

#[test]
fn after_kill_9_nobody_gets_at_it_until_what_was_started_has_ended() {
    let machine = Machine::new();
    machine.hangs("kind create");
    let running = machine.start("up", &["--engine", "sqld"]);
    let kind = machine.hanging();
    running.signal(Signal::SIGKILL);
    running.wait();
    let next = machine.cluster("up", &["--engine", "sqld"]);
    next.ended_with(4);
    assert!(next.stderr.contains("something that it started has not ended yet"), "{}", next.stderr);
    machine::kill(kind);
    machine::dead_within(Duration::from_secs(10), kind);
    machine.cluster("down", &[]).ended_with(0);
}
