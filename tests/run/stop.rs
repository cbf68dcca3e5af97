//! A run that is stopped, in good order or not.

use std::{collections::BTreeMap, fs, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cli::{Cli, Ran, scenario, within};

/// How long a new pod may take to have its processes.
const START_WITHIN: Duration = Duration::from_secs(10);
/// How long after a `kill -9` of the runner its processes may still be there.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// Number and start time of every process below this one.
fn descendants(root: i32) -> BTreeMap<i32, String> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").expect("read /proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if let Some((parent, started)) = stat(pid) {
            parents.insert(pid, (parent, started));
        }
    }
    let mut found = BTreeMap::new();
    let mut wanted = vec![root];
    while let Some(parent) = wanted.pop() {
        for (pid, (_, started)) in parents.iter().filter(|(_, (its, _))| *its == parent) {
            found.insert(*pid, started.clone());
            wanted.push(*pid);
        }
    }
    found
}

/// The parent and the start time of a process that runs.
fn stat(pid: i32) -> Option<(i32, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    // A zombie has ended; whoever its new parent is has yet to notice.
    (fields[0] != "Z").then(|| (fields[1].parse().unwrap_or(0), fields[19].to_owned()))
}

fn drain(cli: &Cli) {
    cli.write("drain.yaml", &scenario("drain", "drainNode: {}", ""));
    cli.write("later.yaml", &scenario("later", "", ""));
}

#[test]
fn after_kill_9_nothing_is_left_and_the_record_still_makes_reports() {
    let cli = Cli::new();
    drain(&cli);
    let mut run = cli.start(&["drain.yaml", "later.yaml"]);
    run.wait_for("fault_called");
    // The old pod may be gone by now; the new one has a watchdog and an engine.
    let children = within(START_WITHIN, || Some(descendants(run.pid().as_raw())).filter(|children| children.len() >= 2));
    let children = children.expect("a watchdog and an engine run");
    run.signal(Signal::SIGKILL);
    let alive = |children: &BTreeMap<i32, String>| {
        children.iter().filter(|(pid, started)| stat(**pid).is_some_and(|(_, now)| now == **started)).count()
    };
    assert_eq!(within(GONE_WITHIN, || (alive(&children) == 0).then_some(())), Some(()), "{} processes are left", alive(&children));

    // What the crash left is valid as it is ...
    let ran = run.wait();
    valid_and_unfinished(&ran);
    // ... and rendered again it says how far the run came.
    let again = cli.output(&["report", ran.folder.to_str().expect("a path")]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let result = valid_and_unfinished(&ran);
    let reason = result["trials"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("breaks off at step `faults`") || reason.contains("breaks off at step `recovery`"), "{reason}");
    assert!(ran.file("rows-before.csv").lines().count() > 1);
    assert!(ran.file("journal.ndjson").contains("\"pending\""));
}

fn valid_and_unfinished(ran: &Ran) -> Value {
    let result = ran.result();
    assert_eq!((&result["state"], &result["exit_code"]), (&"unfinished".into(), &4.into()));
    assert_eq!(result["trials"].as_array().expect("trials").len(), 2, "every planned trial is told of");
    let junit = ran.file("junit.xml");
    let document = roxmltree::Document::parse(&junit).expect("junit.xml is XML");
    assert!(document.descendants().any(|node| node.has_tag_name("error")), "a run that was killed is not green: {junit}");
    csv::Reader::from_reader(ran.file("probes.csv").as_bytes()).records().for_each(|row| drop(row.expect("a row of CSV")));
    result
}

#[test]
fn a_signal_undoes_and_reports_what_is_known() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let cli = Cli::new();
        drain(&cli);
        let mut run = cli.start(&["drain.yaml", "later.yaml"]);
        run.wait_for("fault_returned");
        run.signal(signal);
        let ran = run.wait().ended_with(130);
        let result = ran.result();
        assert_eq!(result["state"], "interrupted", "{}", ran.tell());
        assert_eq!(result["trials"][0]["verdict"], "interrupted");
        assert_eq!(result["trials"][0]["undo"][0]["done"], true, "{}", ran.tell());
        assert_eq!(result["trials"][1]["verdict"], "interrupted");
        assert!(result["trials"][1]["started"].is_null());
        let journal = ran.file("journal.ndjson");
        assert!(journal.lines().last().expect("the journal has lines").contains("\"done\""), "{journal}");
    }
}

#[test]
fn a_second_ctrl_c_leaves_at_once_and_names_what_is_left() {
    let cli = Cli::new();
    drain(&cli);
    // The undo is refused again and again, so the run is in it when the further signals come.
    let mut run = cli.start(&["drain.yaml", "--defect", "undo-fails"]);
    run.wait_for("fault_returned");
    run.signal(Signal::SIGTERM);
    run.wait_for_text(r#""step":"undo""#);
    // Any but Ctrl-C is not heard any more: the undo goes on.
    run.signal(Signal::SIGTERM);
    run.signal(Signal::SIGHUP);
    run.signal(Signal::SIGINT);
    let ran = run.wait().ended_with(5);
    assert!(ran.stderr.contains("interrupted"), "{}", ran.tell());
    assert!(ran.stderr.contains("left in place: node `worker-") && ran.stderr.contains("kubectl uncordon worker-"), "{}", ran.tell());
    // The reports are those of a run that has no end.
    assert_eq!(ran.result()["state"], "unfinished");
}

#[test]
fn an_interrupt_while_it_recovers_is_not_taken_for_a_failure() {
    let cli = Cli::new();
    cli.write("long.yaml", &scenario("long", "deletePod: {}", "stableFor: 30s\ngiveUpAfter: 2m"));
    let mut run = cli.start(&["long.yaml"]);
    run.wait_for("read_back");
    run.signal(Signal::SIGINT);
    let ran = run.wait().ended_with(130);
    let trial = ran.trial(0);
    assert_eq!(trial["verdict"], "interrupted", "{}", ran.tell());
    // What could be known in a moment is known.
    assert_eq!(crate::cli::law(&trial, "no_lost_row"), "passed", "{}", ran.tell());
    assert_eq!(crate::cli::law(&trial, "recovery"), "unproven", "{}", ran.tell());
}

#[test]
fn an_interrupt_hides_no_lost_row() {
    let cli = Cli::new();
    cli.write("kill.yaml", &scenario("kill", "killProcess: {}", ""));
    let mut run = cli.start(&["kill.yaml", "--defect", "ack-before-store"]);
    run.wait_for_text(r#""step":"rows_after""#);
    run.signal(Signal::SIGINT);
    let ran = run.wait().ended_with(1);
    assert_eq!(crate::cli::law(&ran.trial(0), "no_lost_row"), "failed", "{}", ran.tell());
}

#[test]
fn an_interrupt_before_the_fault_is_no_broken_expectation() {
    let cli = Cli::new();
    cli.write("drain.yaml", &scenario("drain", "drainNode: {}", "expect: { movedTo: otherNode }\nsteadyFor: 30s"));
    let mut run = cli.start(&["drain.yaml"]);
    run.wait_for_text(r#""step":"steady_state""#);
    run.signal(Signal::SIGINT);
    let ran = run.wait().ended_with(130);
    assert_eq!(ran.trial(0)["verdict"], "interrupted", "{}", ran.tell());
}

#[test]
fn an_interrupt_before_anything_was_broken_leaves_nothing_to_undo() {
    let cli = Cli::new();
    drain(&cli);
    let mut run = cli.start(&["drain.yaml"]);
    run.wait_for("run_started");
    run.signal(Signal::SIGINT);
    let ran = run.wait().ended_with(130);
    assert_eq!(ran.result()["trials"][0]["verdict"], "interrupted", "{}", ran.tell());
    assert_eq!(ran.file("journal.ndjson"), "");
}
