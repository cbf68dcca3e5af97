//! Scenario files from outside: what is refused and how it is said, the JSON Schema, and what `comeback check` prints.
//!
//! `COMEBACK_BLESS=1 cargo test --test scenarios` rewrites the golden files and `scenarios/schema.json`; look at the difference before you commit it.

mod check;
mod drift;
mod golden;
mod properties;
mod readme;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The folder of this package.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs the program in `folder`.
fn comeback(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_comeback")).args(arguments).current_dir(folder).output().expect("the program can be started")
}

/// The two streams of the program and its exit code.
fn outcome(output: &Output) -> (String, String, i32) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the program prints UTF-8");
    (text(&output.stdout), text(&output.stderr), output.status.code().expect("the program was not killed"))
}

/// The complaint about a golden file that is not as the program would make it; with `COMEBACK_BLESS=1` the file is rewritten instead.
fn difference(golden: &Path, made: &str) -> Option<String> {
    let kept = fs::read_to_string(golden).unwrap_or_default();
    if kept == made {
        return None;
    }
    if env::var_os("COMEBACK_BLESS").is_some_and(|bless| bless == "1") {
        fs::write(golden, made).expect("the golden file can be written");
        return None;
    }
    let shown = golden.strip_prefix(root()).unwrap_or(golden).display();
    Some(format!("{shown} is not what the program makes now\n--- kept\n{kept}\n--- made\n{made}"))
}

/// The files of a folder that end with `.yaml`, in order.
fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}
