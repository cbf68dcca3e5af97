//! The reports as files: all of them, whole or not at all, and what is said when that fails.

use std::{fs, os::unix::fs::PermissionsExt as _};

use comeback::report::{Format, ReportError, write_all};

use crate::make;

#[test]
fn every_report_is_written_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = make::run(vec![make::steady()]);
    let reports = folder.path().join("made/on/the/way");
    write_all(&reports, &run).expect("the reports are written");
    let mut names: Vec<_> = fs::read_dir(&reports)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    assert_eq!(names, ["junit.xml", "probes.csv", "result.json", "summary.md"]);
    for format in Format::ALL {
        let written = fs::read_to_string(reports.join(format.file_name())).expect("the report");
        assert_eq!(written, format.render(&run));
    }
}

#[test]
fn a_report_is_replaced_by_a_new_file_so_a_reader_of_the_old_one_reads_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = make::run(vec![]);
    write_all(folder.path(), &before).expect("the reports are written");
    let open = fs::File::open(folder.path().join("summary.md")).expect("the report");
    write_all(folder.path(), &make::run(vec![make::steady()])).expect("the reports are written again");
    let read = std::io::read_to_string(open).expect("the old report");
    assert_eq!(read, Format::Summary.render(&before));
}

#[test]
fn one_report_that_cannot_be_written_does_not_take_the_others_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    // A folder that is not empty cannot be replaced by a file.
    fs::create_dir_all(folder.path().join("result.json/in-the-way")).expect("a folder in the way");
    let run = make::run(vec![make::steady()]);
    let error = write_all(folder.path(), &run).expect_err("a report cannot be written");
    assert!(matches!(&error, ReportError::File { file, .. } if file.ends_with("result.json")), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("could not write the report `") && text.contains("result.json`: ") && text.contains("(hint: "), "{text}");
    for format in Format::ALL.into_iter().filter(|format| *format != Format::Json) {
        assert_eq!(fs::read_to_string(folder.path().join(format.file_name())).expect("the report"), format.render(&run));
    }
    let left: Vec<_> = fs::read_dir(folder.path())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_file_where_the_folder_should_be_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = folder.path().join("reports");
    fs::write(&taken, "in the way").expect("a file in the way");
    let error = write_all(&taken, &make::run(vec![])).expect_err("there is no folder");
    assert!(matches!(error, ReportError::Folder { .. }), "{error}");
    assert!(error.to_string().contains("something else has that name"), "{error}");
    assert_eq!(fs::read_to_string(&taken).expect("the file"), "in the way");
}

#[test]
fn a_report_is_readable_for_those_whom_the_umask_lets() {
    let folder = tempfile::tempdir().expect("a folder");
    write_all(folder.path(), &make::run(vec![])).expect("the reports are written");
    fs::write(folder.path().join("plain"), "").expect("a plain file");
    let mode = |name: &str| fs::metadata(folder.path().join(name)).expect("the file").permissions().mode();
    assert_eq!(mode("junit.xml"), mode("plain"));
}
