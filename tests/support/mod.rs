//! What the integration tests share.

use std::{env, fs, path::Path};

/// Compares a text with `tests/golden/<name>`, byte for byte; with `COMEBACK_BLESS=1` it writes the file instead.
///
/// # Panics
/// If they differ, or if there is no such file.
#[track_caller]
pub(crate) fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if env::var_os("COMEBACK_BLESS").is_some_and(|bless| bless == "1") {
        fs::create_dir_all(path.parent().expect("a golden file lies in a folder")).expect("create the folder of the golden files");
        fs::write(&path, actual).expect("write the golden file");
        return;
    }
    let expected = fs::read_to_string(&path)
        .unwrap_or_else(|why| panic!("could not read `tests/golden/{name}`: {why} (hint: COMEBACK_BLESS=1 writes it)"));
    if expected == actual {
        return;
    }
    let differs = expected.lines().zip(actual.lines()).position(|(expected, actual)| expected != actual);
    let line = differs.unwrap_or_else(|| expected.lines().count().min(actual.lines().count()));
    panic!(
        "`tests/golden/{name}` differs from line {} on\n  expected: {:?}\n  actual:   {:?}\n(hint: if the change is meant, COMEBACK_BLESS=1 \
         writes it)\n--- actual, all of it:\n{actual}",
        line + 1,
        expected.lines().nth(line),
        actual.lines().nth(line)
    );
}
