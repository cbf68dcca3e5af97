//! Every invalid file has beside it what `comeback check` says of it.

use std::fs;

use crate::{comeback, difference, outcome, root, yaml_files};

#[test]
fn every_invalid_file_is_refused_as_its_golden_file_says() {
    let folder = root().join("tests/scenarios/invalid");
    let files = yaml_files(&folder);
    assert!(files.len() > 30, "only {} invalid files were found", files.len());
    let mut complaints = Vec::new();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).expect("the name is text");
        let (stdout, stderr, code) = outcome(&comeback(&folder, &["check", name]));
        if (stdout.as_str(), code) != ("", 2) {
            complaints.push(format!("{name}: exit code {code}, stdout {stdout:?}"));
        }
        complaints.extend(difference(&file.with_extension("stderr"), &stderr));
    }
    assert!(complaints.is_empty(), "{}\nCOMEBACK_BLESS=1 rewrites the golden files", complaints.join("\n\n"));
}

#[test]
fn every_golden_file_has_its_invalid_file() {
    for entry in fs::read_dir(root().join("tests/scenarios/invalid")).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        assert!(path.with_extension("yaml").is_file(), "{} stands alone", path.display());
    }
}

#[test]
fn the_schema_in_the_repository_is_the_one_that_is_printed() {
    let (stdout, stderr, code) = outcome(&comeback(root(), &["schema"]));
    assert_eq!((stderr.as_str(), code), ("", 0));
    let complaint = difference(&root().join("scenarios/schema.json"), &stdout);
    assert!(complaint.is_none(), "scenarios/schema.json is not what `comeback schema` prints; COMEBACK_BLESS=1 rewrites it");
}
