//! Input that is of no use: a clear message, the right exit code, no panic, nothing half-written.

use std::fs;

use crate::cli::{Cli, scenario};

/// What the run says on stderr, and that it wrote nothing.
fn refused(cli: &Cli, args: &[&str], code: i32) -> String {
    let output = cli.output(args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

fn untouched(cli: &Cli) {
    assert!(!cli.path().join("reports").exists(), "a run that never began has no folder");
}

#[test]
fn an_invalid_scenario_stops_the_run_before_it_begins() {
    let cli = Cli::new();
    cli.write("empty.yaml", "");
    cli.write("misspelt.yaml", &scenario("misspelt", "deletePodd: {}", ""));
    cli.write("list.yaml", "- 1\n");
    let stderr = refused(&cli, &["run", "empty.yaml", "misspelt.yaml", "list.yaml"], 2);
    for file in ["empty.yaml", "misspelt.yaml", "list.yaml"] {
        assert!(stderr.contains(file), "{file} is not named: {stderr}");
    }
    assert!(stderr.contains("did you mean `deletePod`"), "{stderr}");
    untouched(&cli);
}

#[test]
fn a_folder_without_scenarios_is_refused() {
    let cli = Cli::new();
    fs::create_dir(cli.path().join("none")).expect("make a folder");
    assert!(refused(&cli, &["run", "none"], 2).contains("none"));
    assert!(refused(&cli, &["run", "nowhere"], 2).contains("nowhere"));
    untouched(&cli);
}

#[test]
fn two_scenarios_with_one_name_are_refused() {
    let cli = Cli::new();
    cli.write("a.yaml", &scenario("same", "", "")).write("b.yaml", &scenario("same", "", ""));
    let stderr = refused(&cli, &["run", "a.yaml", "b.yaml"], 2);
    assert!(stderr.contains("a.yaml") && stderr.contains("b.yaml"), "{stderr}");
    untouched(&cli);
}

#[test]
fn a_file_of_50_mb_is_refused_without_being_read() {
    let cli = Cli::new();
    let file = fs::File::create(cli.path().join("big.yaml")).expect("make a file");
    file.set_len(50 << 20).expect("make it big");
    assert!(refused(&cli, &["run", "big.yaml"], 2).contains("big.yaml"));
    untouched(&cli);
}

#[test]
fn a_folder_of_reports_that_cannot_be_made_is_found_in_the_first_second() {
    let cli = Cli::new();
    cli.write("file", "not a folder").write("good.yaml", &scenario("good", "", ""));
    let stderr = refused(&cli, &["run", "good.yaml", "--out", "file/reports"], 4);
    assert!(stderr.contains("file/reports") && stderr.contains("--out"), "{stderr}");
    let stderr = refused(&cli, &["run", "good.yaml", "--out", "/proc/reports"], 4);
    assert!(stderr.contains("/proc/reports"), "{stderr}");
}

#[test]
fn an_unknown_defect_or_option_lists_what_there_is() {
    let cli = Cli::new();
    let stderr = refused(&cli, &["run", "--defect", "nosuch"], 2);
    assert!(stderr.contains("flip-bit"), "{stderr}");
    refused(&cli, &["run", "--nosuch"], 2);
    untouched(&cli);
}

#[test]
fn a_port_in_use_is_named() {
    let cli = Cli::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("take a port");
    let port = taken.local_addr().expect("its address").port().to_string();
    let stderr = refused(&cli, &["sandbox", "--port", &port], 4);
    assert!(stderr.contains(&port), "{stderr}");
}

#[test]
fn a_report_of_no_run_is_refused() {
    let cli = Cli::new();
    assert!(refused(&cli, &["report", "nowhere"], 2).contains("run.ndjson"));
    fs::create_dir(cli.path().join("empty")).expect("make a folder");
    cli.write("empty/run.ndjson", "");
    assert!(refused(&cli, &["report", "empty"], 2).contains("empty"));
    cli.write("empty/run.ndjson", "nonsense\n{}\n");
    assert!(refused(&cli, &["report", "empty"], 2).contains("line 1"));
    assert_eq!(fs::read_dir(cli.path().join("empty")).expect("the folder").count(), 1, "nothing was written beside it");
}
