//! The sample in `reports/sample`: a real run, whose reports are made again from its record, byte for byte.

use std::{env, fs, path::PathBuf};

use comeback::{
    check::judge,
    event::{EventKind, Side},
    measure::History,
    report::Format,
    run::read_record,
};
use sha2::{Digest as _, Sha256};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("reports/sample")
}

#[test]
fn its_reports_follow_from_its_record() {
    let result = judge(&History::of(read_record(&folder()).expect("the record of the sample")));
    for format in Format::ALL {
        let path = folder().join(format.file_name());
        let rendered = format.render(&result);
        if env::var_os("COMEBACK_BLESS").is_some_and(|bless| bless == "1") {
            fs::write(&path, rendered).expect("write the report");
        } else {
            let committed = fs::read_to_string(&path).expect("a report of the sample");
            assert_eq!(rendered, committed, "{} (hint: if the change is meant, COMEBACK_BLESS=1 writes it)", path.display());
        }
    }
    assert_eq!(result.exit_code, 0);
}

#[test]
fn its_rows_are_those_that_its_record_binds_by_hash() {
    let events = read_record(&folder()).expect("the record of the sample");
    let mut bound = 0;
    for event in events {
        let EventKind::TableRead(side, read) = event.event else { continue };
        let name = match side {
            Side::Before => "rows-before.csv",
            Side::After => "rows-after.csv",
        };
        let text = fs::read_to_string(folder().join(name)).expect("the rows of the sample");
        let column = format!(",{},", read.table);
        let rows: Vec<&str> = text.split_inclusive('\n').skip(1).filter(|row| row.contains(&column)).collect();
        let hash: String = Sha256::digest(rows.concat()).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        assert_eq!((rows.len() as u64, hash), (read.rows, read.sha256), "table `{}` in {name}", read.table);
        bound += 1;
    }
    assert_eq!(bound, 4, "two tables, before and after");
}
