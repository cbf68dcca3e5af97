//! The README says what is true: every key, fault, exit code and dependency is in it, and its scenarios can be run.

use std::{collections::BTreeSet, fs, process::Command};

use comeback::{
    check::Law,
    cli::exit::Exit,
    scenario::{FaultSpec, parse, schema},
};
use serde_json::Value;

use crate::root;

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("the README can be read")
}

/// The blocks of the README that are fenced as `language`.
fn blocks(language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let text = readme();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == format!("```{language}") {
            blocks.push(lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n"));
        }
    }
    blocks
}

#[test]
fn its_scenarios_are_valid() {
    let blocks = blocks("yaml");
    assert!(blocks.len() >= 2, "the README shows {} scenarios", blocks.len());
    for block in blocks {
        parse("README.md", &block).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    }
}

#[test]
fn it_has_every_key_of_a_scenario() {
    let schema = schema();
    let top = schema.pointer("/properties").and_then(Value::as_object).expect("a scenario has properties");
    let mut keys = BTreeSet::new();
    for (name, property) in top {
        let reference = property.pointer("/allOf/0/$ref").and_then(Value::as_str);
        let below = reference.and_then(|to| schema.pointer(to.strip_prefix('#')?)?.get("properties")?.as_object());
        match below {
            Some(below) => keys.extend(below.keys().map(|key| format!("{name}.{key}"))),
            None => _ = keys.insert(name.clone()),
        }
    }
    let text = readme();
    let missing: Vec<_> = keys.iter().filter(|key| !text.contains(&format!("| `{key}` |"))).collect();
    assert!(keys.contains("load.writers") && keys.contains("name"), "{keys:?}");
    assert!(missing.is_empty(), "the README has no line for {missing:?}");
}

#[test]
fn it_has_every_fault_and_exit_code() {
    let text = readme();
    for fault in FaultSpec::all() {
        assert!(text.contains(&format!("| `{}` |", fault.name())), "the README has no line for `{}`", fault.name());
    }
    for exit in Exit::ALL {
        assert!(text.contains(&format!("| `{}` |", exit.code())), "the README has no line for exit code {}", exit.code());
    }
}

#[test]
fn it_has_every_law() {
    let text = readme();
    for law in Law::ALL {
        assert!(text.contains(&format!("| `{}` |", law.name())), "the README has no line for the law `{}`", law.name());
    }
}

#[test]
fn it_has_every_command() {
    let help = Command::new(env!("CARGO_BIN_EXE_comeback")).arg("--help").output().expect("start comeback");
    let help = String::from_utf8(help.stdout).expect("help is text");
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.strip_prefix("  "))
        .filter_map(|line| line.split(' ').next())
        .filter(|command| !command.is_empty() && *command != "help")
        .collect();
    assert!(commands.contains(&"run"), "{help}");
    let text = readme();
    for command in commands {
        assert!(text.contains(&format!("| `comeback {command}")), "the README has no line for `comeback {command}`");
    }
}

#[test]
fn it_has_a_reason_for_every_dependency() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest can be read");
    let mut named = Vec::new();
    let mut wanted = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            wanted = matches!(line, "[dependencies]" | "[dev-dependencies]");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| wanted) {
            named.push(name);
        }
    }
    let text = readme();
    let missing: Vec<_> = named.iter().filter(|name| !text.contains(&format!("| `{name}` |"))).collect();
    assert!(named.len() > 10, "{named:?}");
    assert!(missing.is_empty(), "the README gives no reason for {missing:?}");
}

#[test]
fn every_room_is_on_the_map() {
    let text = readme();
    for entry in fs::read_dir(root().join("src")).expect("the source can be read") {
        let entry = entry.expect("the source can be read");
        let name = entry.file_name().into_string().expect("a room has a plain name");
        if entry.path().is_dir() {
            assert!(text.contains(&format!("| `src/{name}/` |")), "the README has no line for src/{name}/");
        }
    }
}
