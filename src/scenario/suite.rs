//! A suite: the scenario files of a run.
//!
//! A path is a file or a folder; of a folder every `*.yaml` and `*.yml` counts, and nothing in the folders below it. Without a path it is
//! `scenarios/` here, and where there is none the standard suite that is embedded in the program, so that it runs from an empty folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    Diagnostics, Scenario,
    diagnostics::{Diagnostic, Excerpt, quoted},
    read::{self, Document},
    source::Source,
};

/// A file with more bytes is not read: no scenario is nearly as long.
pub const MAX_FILE: u64 = 1024 * 1024;

/// Where scenarios are looked for when no path is given.
const DEFAULT_FOLDER: &str = "scenarios";

/// The standard suite, as it stands in `scenarios/`.
const BUILT_IN: [(&str, &str); 18] = [
    ("<built in>/container.yaml", include_str!("../../scenarios/container.yaml")),
    ("<built in>/control-plane.yaml", include_str!("../../scenarios/control-plane.yaml")),
    ("<built in>/crash-node-stateful.yaml", include_str!("../../scenarios/crash-node-stateful.yaml")),
    ("<built in>/crash-node.yaml", include_str!("../../scenarios/crash-node.yaml")),
    ("<built in>/crash-while-moving.yaml", include_str!("../../scenarios/crash-while-moving.yaml")),
    ("<built in>/delete-pod.yaml", include_str!("../../scenarios/delete-pod.yaml")),
    ("<built in>/delete-while-draining.yaml", include_str!("../../scenarios/delete-while-draining.yaml")),
    ("<built in>/drain-node.yaml", include_str!("../../scenarios/drain-node.yaml")),
    ("<built in>/kill-process.yaml", include_str!("../../scenarios/kill-process.yaml")),
    ("<built in>/kill-while-recovering.yaml", include_str!("../../scenarios/kill-while-recovering.yaml")),
    ("<built in>/network.yaml", include_str!("../../scenarios/network.yaml")),
    ("<built in>/node-closed.yaml", include_str!("../../scenarios/node-closed.yaml")),
    ("<built in>/node-silent.yaml", include_str!("../../scenarios/node-silent.yaml")),
    ("<built in>/pod.yaml", include_str!("../../scenarios/pod.yaml")),
    ("<built in>/reboot-node.yaml", include_str!("../../scenarios/reboot-node.yaml")),
    ("<built in>/slow-network.yaml", include_str!("../../scenarios/slow-network.yaml")),
    ("<built in>/steady.yaml", include_str!("../../scenarios/steady.yaml")),
    ("<built in>/storage.yaml", include_str!("../../scenarios/storage.yaml")),
];

/// A scenario and the file it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct ScenarioFile {
    /// The path as it was given, or `<built in>/delete-pod.yaml`.
    pub path: String,
    /// The text of the file.
    pub text: String,
    /// What it says.
    pub scenario: Scenario,
}

/// The scenarios of a run, in the order of their paths; no two have one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Suite {
    /// The files; there is at least one.
    pub files: Vec<ScenarioFile>,
}

impl Suite {
    /// Reads files and folders; no path at all: `scenarios/` if it is here, else [`Suite::built_in`].
    ///
    /// # Errors
    /// Everything that is wrong with any of them: what is there, what can be read, what the files say, and two scenarios with one name.
    pub fn load(paths: &[PathBuf]) -> Result<Self, Diagnostics> {
        match paths {
            [] => Self::load_default(Path::new(DEFAULT_FOLDER)),
            paths => Self::load_all(paths),
        }
    }

    fn load_default(folder: &Path) -> Result<Self, Diagnostics> {
        if folder.is_dir() { Self::load_all(&[folder.to_owned()]) } else { Ok(Self::built_in()) }
    }

    fn load_all(paths: &[PathBuf]) -> Result<Self, Diagnostics> {
        let mut found = Vec::new();
        let texts = texts(&files(paths, &mut found), &mut found);
        Self::read(texts, found)
    }

    /// The standard suite, which is embedded in the program.
    #[must_use]
    pub fn built_in() -> Self {
        let texts = BUILT_IN.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Self::read(texts, Vec::new()).expect("a test reads the standard suite")
    }

    /// Reads texts by path into a suite, unless something is wrong with them or was `found` before.
    fn read(texts: BTreeMap<String, String>, mut found: Vec<Diagnostic>) -> Result<Self, Diagnostics> {
        let mut files = Vec::new();
        let mut names: BTreeMap<String, Excerpt> = BTreeMap::new();
        for (path, text) in texts {
            let Document { scenario, name, found: errors } = read::document(&path, &text);
            found.extend(errors);
            if let Some((name, place)) = name {
                if let Some(first) = names.get(&name) {
                    let message = format!("two scenarios are named {}", quoted(&name));
                    found.push(
                        Diagnostic::at(place, message).see(first.clone()).help("give each its own name: reports tell them apart by it"),
                    );
                } else {
                    names.insert(name, place);
                }
            }
            files.extend(scenario.map(|scenario| ScenarioFile { path, text, scenario }));
        }
        match Diagnostics::of(found) {
            None => Ok(Self { files }),
            Some(diagnostics) => Err(diagnostics),
        }
    }
}

/// The files that paths stand for; one that is named twice counts once.
fn files(paths: &[PathBuf], found: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        let listed = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => scenarios_in(path),
            Ok(_) => Ok(vec![path.clone()]),
            Err(error) => Err(error),
        };
        match listed {
            Ok(listed) if listed.is_empty() => found.push(
                Diagnostic::at_path(shown(path), "the folder holds no scenario")
                    .help("a scenario is a file that ends with `.yaml` or `.yml`; folders below this one are not looked into"),
            ),
            Ok(listed) => files.extend(listed),
            Err(error) => found.push(unreadable(path, &error)),
        }
    }
    let mut seen = BTreeSet::new();
    files.retain(|file| seen.insert(fs::canonicalize(file).unwrap_or_else(|_| file.clone())));
    files
}

/// The scenario files of a folder, without those that are hidden.
fn scenarios_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && !hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The texts of files by their paths; whatever cannot be read is noted.
fn texts(files: &[PathBuf], found: &mut Vec<Diagnostic>) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for file in files {
        match bytes(file) {
            Ok(Ok(bytes)) => match String::from_utf8(bytes) {
                Ok(text) => {
                    texts.insert(shown(file), text);
                }
                Err(error) => found.push(not_utf8(&shown(file), error.as_bytes(), error.utf8_error().valid_up_to())),
            },
            Ok(Err(refused)) => found.push(refused),
            Err(error) => found.push(unreadable(file, &error)),
        }
    }
    texts
}

/// The bytes of a file that is small enough. What is no regular file is not opened: a pipe would be waited for without end.
fn bytes(file: &Path) -> io::Result<Result<Vec<u8>, Diagnostic>> {
    let metadata = fs::metadata(file)?;
    if !metadata.is_file() {
        return Ok(Err(Diagnostic::at_path(shown(file), "this is neither a file nor a folder")));
    }
    let mut bytes = Vec::new();
    // It may have grown since it was measured.
    if metadata.len() <= MAX_FILE && File::open(file)?.take(MAX_FILE + 1).read_to_end(&mut bytes)? as u64 <= MAX_FILE {
        return Ok(Ok(bytes));
    }
    let length = metadata.len().max(bytes.len() as u64);
    let message = format!("the file is too long to be a scenario: {length} bytes, and the most is {MAX_FILE}");
    Ok(Err(Diagnostic::at_path(shown(file), message)))
}

fn not_utf8(path: &str, bytes: &[u8], valid: usize) -> Diagnostic {
    let text = String::from_utf8_lossy(bytes);
    // Up to there nothing was replaced, so the place is the same in both, but for the byte order mark, which a source leaves out.
    let source = Source::new(path, &text);
    let at = valid - (text.len() - source.text.len());
    let excerpt = source.excerpt(&(at..at + '\u{fffd}'.len_utf8()), "not UTF-8");
    let diagnostic = Diagnostic::at(excerpt, format!("the file is not UTF-8: byte {} is 0x{:02x}", valid, bytes[valid]));
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => diagnostic.help("it looks like UTF-16; save it as UTF-8"),
        _ => diagnostic.help("save it as UTF-8"),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file or folder".to_owned(),
        io::ErrorKind::PermissionDenied => "the file or folder may not be read by this user".to_owned(),
        _ => format!("could not read it: {error}"),
    };
    Diagnostic::at_path(shown(path), reason)
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "version: 1\nname: NAME\nfaults: []\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder can be made");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("a file can be written");
        }
        folder
    }

    fn named(name: &str) -> String {
        GOOD.replace("NAME", name)
    }

    fn names(suite: &Suite) -> Vec<&str> {
        suite.files.iter().map(|file| file.scenario.name.as_str()).collect()
    }

    fn messages(paths: &[PathBuf]) -> Vec<String> {
        Suite::load(paths).expect_err("something is wrong").iter().map(|d| d.message().to_owned()).collect()
    }

    #[test]
    fn the_standard_suite_is_without_errors() {
        assert_eq!(
            names(&Suite::built_in()),
            [
                "container",
                "control-plane",
                "crash-node-stateful",
                "crash-node",
                "crash-while-moving",
                "delete-pod",
                "delete-while-draining",
                "drain-node",
                "kill-process",
                "kill-while-recovering",
                "network",
                "node-closed",
                "node-silent",
                "pod",
                "reboot-node",
                "slow-network",
                "steady",
                "storage"
            ]
        );
    }

    #[test]
    fn without_a_path_the_default_folder_wins_over_the_standard_suite() {
        let folder = folder(&[("a.yaml", &named("mine"))]);
        assert_eq!(names(&Suite::load_default(folder.path()).expect("it is well")), ["mine"]);
        assert_eq!(Suite::load_default(&folder.path().join("missing")), Ok(Suite::built_in()));
    }

    #[test]
    fn a_folder_gives_its_yaml_files_in_order() {
        let folder =
            folder(&[("b.yml", &named("b")), ("a.yaml", &named("a")), (".hidden.yaml", "["), ("schema.json", "{}"), ("c.txt", "")]);
        fs::create_dir(folder.path().join("sub.yaml")).expect("a folder can be made");
        assert_eq!(names(&Suite::load(&[folder.path().into()]).expect("it is well")), ["a", "b"]);
    }

    #[test]
    fn a_file_that_is_named_twice_is_read_once() {
        let folder = folder(&[("a.yaml", &named("a"))]);
        let paths = [folder.path().into(), folder.path().join("a.yaml"), folder.path().join("./a.yaml")];
        assert_eq!(names(&Suite::load(&paths).expect("it is well")), ["a"]);
    }

    #[test]
    fn two_files_with_one_name_show_both_places() {
        let folder = folder(&[("a.yaml", &named("same")), ("b.yaml", &named("same"))]);
        let text = Suite::load(&[folder.path().into()]).expect_err("one name").render(false);
        assert!(text.contains("two scenarios are named `same`"), "{text}");
        assert!(text.contains("a.yaml:2:7") && text.contains("b.yaml:2:7"), "{text}");
    }

    #[test]
    fn every_error_of_every_file_is_there() {
        let folder = folder(&[("a.yaml", "version: 2\nnam: a\n"), ("b.yaml", &named("b")), ("c.yaml", "[]")]);
        let paths = [folder.path().into(), folder.path().join("missing.yaml")];
        assert_eq!(
            messages(&paths),
            [
                "the key `faults` is missing",
                "`version` must be 1, the only version there is, not `2`",
                "unknown key `nam`",
                "the file: expected a scenario, which is a map, found an empty list",
                "there is no such file or folder",
            ]
        );
    }

    #[test]
    fn a_folder_without_scenarios_is_an_error() {
        assert_eq!(messages(&[folder(&[]).path().into()]), ["the folder holds no scenario"]);
    }

    #[test]
    fn a_huge_file_is_refused_unread() {
        let folder = folder(&[("a.yaml", "")]);
        let path = folder.path().join("a.yaml");
        // A hole: it takes no room on the disk, and reading it would take 50 MB.
        File::create(&path).and_then(|file| file.set_len(50_000_000)).expect("a file can be made");
        assert_eq!(messages(&[path]), ["the file is too long to be a scenario: 50000000 bytes, and the most is 1048576"]);
    }

    #[test]
    fn a_device_is_not_read() {
        assert_eq!(messages(&["/dev/zero".into()]), ["this is neither a file nor a folder"]);
    }

    #[test]
    fn what_is_not_utf8_has_a_place() {
        let folder = folder(&[]);
        let path = folder.path().join("a.yaml");
        fs::write(&path, b"version: 1\nname: \xff\n").expect("a file can be written");
        let errors = Suite::load(&[path]).expect_err("it is not UTF-8");
        let first = errors.iter().next().expect("there is one");
        assert_eq!((first.message(), first.line_and_column()), ("the file is not UTF-8: byte 17 is 0xff", Some((2, 7))));
    }
}
