//! `comeback check` and `comeback schema` as a user meets them.

use std::{fs, io, process::Command};

use serde_json::{Value, json};

use crate::{comeback, outcome, root, yaml_files};

const GOOD: &str = "version: 1\nname: good\nfaults: [deletePod]\n";
const BAD: &str = "version: 1\nname: Bad\nfaults: [deletePodd]\n";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a file can be written");
    }
    folder
}

#[test]
fn the_standard_suite_is_ok_a_line_a_file() {
    let (stdout, stderr, code) = outcome(&comeback(root(), &["check", "scenarios"]));
    let mut files: Vec<_> = yaml_files(&root().join("scenarios"));
    files.sort();
    assert!(files.len() >= 18, "{files:?}");
    let name = |file: &std::path::PathBuf| file.file_name().expect("a file has a name").to_string_lossy().into_owned();
    let expected = files.iter().fold(String::new(), |text, file| text + &format!("scenarios/{}: ok\n", name(file)));
    assert_eq!((stdout, stderr.as_str(), code), (expected, "", 0));
}

#[test]
fn one_bad_file_of_two_gives_two_errors_and_no_ok() {
    let folder = folder(&[("good.yaml", GOOD), ("bad.yaml", BAD)]);
    let (stdout, stderr, code) = outcome(&comeback(folder.path(), &["check", "."]));
    assert_eq!((stdout.as_str(), code), ("", 2));
    assert!(stderr.contains("./bad.yaml:2:7") && stderr.contains("./bad.yaml:3:10"), "{stderr}");
    assert!(stderr.ends_with("\n\nerror: 2 errors in 1 file\n"), "{stderr}");
}

#[test]
fn json_holds_place_message_and_help() {
    let folder = folder(&[("bad.yaml", BAD)]);
    let (stdout, _, code) = outcome(&comeback(folder.path(), &["check", "-o", "json", "bad.yaml"]));
    let document: Value = serde_json::from_str(&stdout).expect("stdout is JSON");
    assert_eq!((code, &document["valid"]), (2, &json!(false)));
    let fault = json!({
        "path": "bad.yaml", "line": 3, "column": 10, "message": "unknown fault `deletePodd`",
        "help": ["did you mean `deletePod`?"], "notes": ["`comeback faults` lists all of them"],
    });
    assert_eq!(document["errors"][1], fault);
}

#[test]
fn json_of_a_valid_file_names_its_scenario() {
    let folder = folder(&[("good.yaml", GOOD)]);
    let (stdout, _, code) = outcome(&comeback(folder.path(), &["check", "-ojson", "good.yaml"]));
    let document: Value = serde_json::from_str(&stdout).expect("stdout is JSON");
    assert_eq!((code, document), (0, json!({ "valid": true, "files": [{ "path": "good.yaml", "scenario": "good" }], "errors": [] })));
}

#[test]
fn a_missing_path_and_an_empty_folder_are_errors_of_their_own() {
    let folder = folder(&[]);
    fs::create_dir(folder.path().join("empty")).expect("a folder can be made");
    let (_, stderr, code) = outcome(&comeback(folder.path(), &["check", "empty", "missing.yaml"]));
    assert_eq!(code, 2);
    assert!(stderr.contains("holds no scenario") && stderr.contains("no such file"), "{stderr}");
}

#[test]
fn no_path_is_a_usage_error() {
    let (stdout, stderr, code) = outcome(&comeback(root(), &["check"]));
    assert_eq!((stdout.as_str(), code), ("", 2));
    assert!(stderr.contains("PATH"), "{stderr}");
}

#[test]
fn what_is_not_a_terminal_gets_no_colour() {
    let folder = folder(&[("bad.yaml", BAD)]);
    let (_, stderr, _) = outcome(&comeback(folder.path(), &["check", "bad.yaml"]));
    assert!(!stderr.contains('\u{1b}'), "{stderr:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (reader, writer) = io::pipe().expect("a pipe can be made");
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_comeback")).arg("schema").stdout(writer).output().expect("the program can be started");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_full_disk_is_an_error_of_the_environment() {
    let full = fs::File::options().write(true).open("/dev/full").expect("Linux has /dev/full");
    let output = Command::new(env!("CARGO_BIN_EXE_comeback")).arg("schema").stdout(full).output().expect("the program can be started");
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: could not write to stdout"));
}
