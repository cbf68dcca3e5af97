//! Facts flow one way: the rooms of the source use only what the README's map allows them.
//!
//! It reads the source as text, without its comments: a link in a doc comment is no dependency.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What a room must not use, and why.
struct Law {
    room: &'static str,
    /// Other rooms it may use; `None`: any but those of `never`.
    only: Option<&'static [&'static str]>,
    /// Words that must not stand in its code.
    never: &'static [&'static str],
    why: &'static str,
}

const WORLD: &[&str] = &[
    "kube::",
    "k8s_openapi::",
    "tiberius::",
    "tokio::",
    "axum::",
    "rusqlite::",
    "Instant::now",
    "SystemTime::now",
    "Utc::now",
    "Local::now",
    "crate::cluster",
    "crate::sandbox",
    "crate::platform",
    "crate::probe",
    "crate::prober",
    "crate::run",
    "crate::fault",
    "crate::deploy",
    "crate::sqld",
    "crate::workload",
    "Clock",
];

const LAWS: [Law; 4] = [
    Law { room: "scenario", only: Some(&[]), never: WORLD, why: "what a user writes depends on nobody" },
    Law { room: "measure", only: None, never: WORLD, why: "what measures sees no clock, no cluster and no database" },
    Law { room: "check", only: None, never: WORLD, why: "what judges sees no clock, no cluster and no database" },
    Law { room: "report", only: Some(&["result"]), never: WORLD, why: "a report sees only the result" },
];

/// What a text of `room` breaks of `law`.
fn broken(law: &Law, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for word in law.never.iter().filter(|word| mentions(code, word)) {
            found.push(format!("{}: `{word}`", number + 1));
        }
    }
    let Some(only) = law.only else { return found };
    let foreign = rooms_of(text).into_iter().filter(|room| room != law.room && !only.contains(&room.as_str()));
    found.extend(foreign.map(|room| format!("`crate::{room}`")));
    found
}

/// The rooms that the code of a text names: `crate::event`, and each of `crate::{event::Event, result}`.
fn rooms_of(text: &str) -> Vec<String> {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut rooms = Vec::new();
    for path in code.split("crate::").skip(1) {
        let Some(group) = path.strip_prefix('{') else {
            rooms.push(first_word(path));
            continue;
        };
        let mut depth = 0;
        let mut item = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => item = true,
                _ if item && depth == 0 && c.is_ascii_lowercase() => {
                    rooms.push(first_word(&group[at..]));
                    item = false;
                }
                _ => {}
            }
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

fn first_word(path: &str) -> String {
    path.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect()
}

/// Whether a word stands in a line by itself, not as the end of a longer one.
fn mentions(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the source can be read") {
        let path = entry.expect("the source can be read").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn facts_flow_one_way() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut complaints = Vec::new();
    for law in &LAWS {
        let mut files = Vec::new();
        rust_files(&source.join(law.room), &mut files);
        assert!(!files.is_empty(), "there is no room `{}`", law.room);
        for file in files {
            let text = fs::read_to_string(&file).expect("the source can be read");
            complaints.extend(broken(law, &text).into_iter().map(|what| format!("{}:{what} ({})", file.display(), law.why)));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn only_the_program_uses_the_command_line() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    files.retain(|file| !file.starts_with(source.join("cli")));
    for file in files {
        let text = fs::read_to_string(&file).expect("the source can be read");
        let law = Law { room: "", only: None, never: &["crate::cli"], why: "" };
        assert_eq!(broken(&law, &text), Vec::<String>::new(), "{}", file.display());
    }
}

#[test]
fn a_broken_law_is_found() {
    let [scenario, measure, ..] = &LAWS;
    assert_eq!(broken(scenario, "use crate::event::Event;"), ["`crate::event`"]);
    assert_eq!(broken(scenario, "//! [`crate::fault`]\nuse crate::scenario::Scenario;"), Vec::<String>::new());
    assert_eq!(broken(measure, "\nlet now = Utc::now();"), ["2: `Utc::now`"]);
    assert_eq!(broken(measure, "let mykube::x = 1;"), Vec::<String>::new());
    assert_eq!(broken(&LAWS[3], "use crate::{\n    measure::{History, Trial},\n    result::{self, RunResult},\n};"), ["`crate::measure`"]);
}
