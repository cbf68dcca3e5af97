//! `comeback heal` and `comeback signal`, as they are called.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use comeback::fault::{Journal, Undo};

use crate::bed::{Bed, PROGRAM};

fn comeback(kubeconfig: Option<&Path>, arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env("HOME", "/nonexistent").env_remove("KUBECONFIG");
    if let Some(kubeconfig) = kubeconfig {
        command.env("KUBECONFIG", kubeconfig);
    }
    command.output().expect("our own program starts")
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn heal(kubeconfig: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let (kubeconfig, arguments) = (kubeconfig.to_owned(), arguments.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
    let call = move || {
        let arguments: Vec<&str> = std::iter::once("heal").chain(arguments.iter().map(String::as_str)).collect();
        said(&comeback(Some(&kubeconfig), &arguments))
    };
    tokio::task::spawn_blocking(call).await.expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn heal_says_what_it_did() {
    let bed = Bed::make().await;
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("config");
    fs::write(&kubeconfig, serde_json::to_string(&bed.sandbox.kubeconfig()).expect("a kubeconfig is data")).expect("it can be written");
    let context = bed.sandbox.kubeconfig().current_context.expect("it has a context");

    let (code, stdout, stderr) = heal(&kubeconfig, &[]).await;
    assert_eq!(
        (code, stdout),
        (Some(0), format!("nothing to do: no run left anything in the cluster of context `{context}`\n")),
        "{stderr}"
    );

    let journal = Journal::create(&folder.path().join("journal.ndjson")).expect("a journal");
    journal.keep_in(&bed.cluster, "run-1").await;
    let node = bed.worker().await;
    journal.begin(1, 0, Undo::Uncordon { node: node.clone() }).await.expect("it can be written");
    bed.cordon(&node).await;
    let (code, stdout, _) = heal(&kubeconfig, &["--dry-run"]).await;
    assert_eq!((code, stdout), (Some(0), format!("would uncordon node `{node}` (run run-1)\nwould remove the journal of run run-1\n")));
    let (code, stdout, _) = heal(&kubeconfig, &["--context", &context]).await;
    assert_eq!((code, stdout), (Some(0), format!("done: uncordon node `{node}` (run run-1)\ndone: remove the journal of run run-1\n")));
    assert!(!bed.is_cordoned(&node).await);

    // What cannot be put right gives 5 and stays.
    journal.begin(1, 0, Undo::Uncordon { node: "no-such-node".into() }).await.expect("it can be written");
    let (code, stdout, _) = heal(&kubeconfig, &[]).await;
    assert_eq!(code, Some(5), "{stdout}");
    assert!(stdout.contains("error: could not uncordon node `no-such-node` (run run-1)"), "{stdout}");

    let (code, _, stderr) = heal(&kubeconfig, &["--on", "elsewhere"]).await;
    assert_eq!(code, Some(4));
    assert!(stderr.contains("has no context `elsewhere`; there are `"), "{stderr}");
    // Which of the two would be meant nobody can tell.
    let (code, _, stderr) = heal(&kubeconfig, &["--on", "elsewhere", "--context", &context]).await;
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("cannot be used with"), "{stderr}");
    // The cluster is gone.
    bed.sandbox.stop().await;
    let (code, _, stderr) = heal(&kubeconfig, &[]).await;
    assert_eq!(code, Some(4), "{stderr}");
    assert!(stderr.starts_with("error: could not read the version of Kubernetes"), "{stderr}");
}

#[test]
fn heal_has_nothing_to_do_on_the_sandbox_of_a_run() {
    let (code, _, stderr) = said(&comeback(None, &["heal", "--on", "sandbox"]));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.starts_with("nothing to do: the sandbox of a run ends with it"), "{stderr}");
}

#[test]
fn without_a_kubeconfig_heal_says_where_it_looked() {
    let (code, _, stderr) = said(&comeback(None, &["heal"]));
    assert_eq!(code, Some(4), "{stderr}");
    assert!(stderr.contains("could not read the kubeconfig `~/.kube/config`"), "{stderr}");
}

#[test]
fn signal_lists_what_runs_and_sends_nothing_unless_it_is_told() {
    let root = tempfile::tempdir().expect("a folder");
    for (pid, parent, comm) in [(7, 1, "sqlservr"), (8, 7, "sqlservr")] {
        let folder = root.path().join(pid.to_string());
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("stat"), format!("{pid} ({comm}) S {parent} 1 1 0")).expect("a file");
    }
    let root = root.path().to_str().expect("a path");
    let (code, stdout, stderr) = said(&comeback(None, &["signal", "--process", "engine", "--root", root]));
    assert_eq!(code, Some(0), "{stderr}");
    let report: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((&report["meant"], &report["signalled"]), (&serde_json::json!([8]), &serde_json::json!([])));
    assert_eq!(report["running"].as_array().map(Vec::len), Some(2));
}
