//! Clients that know nothing of us: `FreeTDS`'s `tsql` and Python's `pymssql`.
//!
//! A test whose client is not installed is skipped and says so, unless `COMEBACK_REQUIRE_CLIENTS=1`; then it fails.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use rstest::rstest;

use crate::server::{PASSWORD, Server};

/// Whether a client is there; if it is not, the reason is printed, or the test fails.
fn is_there(client: &str, install: &str, mut probe: Command) -> bool {
    let there = probe.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).status().is_ok_and(|status| status.success());
    if !there {
        let reason = format!("`{client}` is not installed ({install})");
        assert!(std::env::var("COMEBACK_REQUIRE_CLIENTS").as_deref() != Ok("1"), "{reason}, and COMEBACK_REQUIRE_CLIENTS=1 wants it");
        // Not `eprintln`, which the harness keeps to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "skipped: {reason}");
    }
    there
}

fn tsql_is_there() -> bool {
    let mut probe = Command::new("tsql");
    probe.arg("-C");
    is_there("tsql", "apt-get install freetds-bin", probe)
}

/// What `tsql` prints for a script, both streams together.
fn tsql(server: &Server, folder: &std::path::Path, encryption: &str, password: &str, database: &str, script: &str) -> String {
    let configuration = folder.join("freetds.conf");
    let text = format!(
        "[here]\n host = {}\n port = {}\n tds version = 7.4\n encryption = {encryption}\n client charset = UTF-8\n",
        server.address.ip(),
        server.address.port()
    );
    std::fs::write(&configuration, text).expect("the folder is ours");
    let mut client = Command::new("tsql")
        .env("FREETDSCONF", &configuration)
        .args(["-S", "here", "-U", "sa", "-P", password, "-D", database])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tsql starts");
    // A client that was refused does not read its script.
    let _ = client.stdin.take().expect("it is a pipe").write_all(script.as_bytes());
    let output = client.wait_with_output().expect("tsql ends");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[rstest]
#[case::plain("off")]
#[case::login_encrypted("request")]
#[case::encrypted("require")]
#[test]
fn freetds_is_served(#[case] encryption: &str) {
    if !tsql_is_there() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let refused = tsql(&server, folder.path(), encryption, "Wr0ng-pass", "master", "exit\n");
    assert!(refused.contains("Msg 18456"), "{refused}");
    let script = "CREATE DATABASE comeback\ngo\nUSE comeback\ngo\n\
        CREATE TABLE t (a int PRIMARY KEY, b nvarchar(20), c decimal(9, 2), d datetime)\ngo\n\
        BEGIN TRAN INSERT INTO t VALUES (1, N'Grüße', 1.5, '2026-11-23T16:20:15') COMMIT\ngo\n\
        BEGIN TRAN INSERT INTO t VALUES (2, N'gone', 2.5, NULL) ROLLBACK\ngo\n\
        SELECT COUNT(*) AS n, MAX(b) AS b, MAX(c) AS c FROM t\ngo\n\
        INSERT INTO t (a) VALUES (1)\ngo\nSELECT nope FROM t\ngo\nSELECT * FROM nosuch\ngo\nEXEC nosuch\ngo\nexit\n";
    let printed = tsql(&server, folder.path(), encryption, PASSWORD, "master", script);
    assert!(printed.contains("1\tGrüße\t1.50"), "{printed}");
    for number in ["Msg 2627", "Msg 207", "Msg 208", "Msg 2812"] {
        assert!(printed.contains(number), "{number} is missing:\n{printed}");
    }
}

const PYTHON: &str = r#"
import sys, datetime, decimal, pymssql
host, port, password = sys.argv[1:]
def connect(database="master", password=password, **more):
    return pymssql.connect(server=host, port=port, user="sa", password=password, database=database, **more)
def number(run):
    try:
        run()
    except pymssql.Error as error:
        while isinstance(error.args[0], tuple):
            error = type(error)(*error.args[0])
        return error.args[0]
assert number(lambda: connect(password="Wr0ng-pass")) == 18456
assert number(lambda: connect("nowhere")) in (4060, 18456)
connect(autocommit=True).cursor().execute("CREATE DATABASE comeback")
link = connect("comeback")
cursor = link.cursor()
cursor.execute("CREATE TABLE t (a int PRIMARY KEY, b nvarchar(20), c decimal(9, 2), d datetime, e varbinary(8), f uniqueidentifier)")
link.commit()
cursor.execute("INSERT INTO t (a, b, c, d) VALUES (%d, %s, %s, %s)", (1, "Grüße", decimal.Decimal("1.5"), datetime.datetime(2026, 11, 23, 16, 20, 15)))
link.commit()
cursor.execute("INSERT INTO t (a) VALUES (2)")
link.rollback()
cursor.executemany("INSERT INTO t (a, b) VALUES (%d, %s)", [(number, "many") for number in range(10, 20)])
link.commit()
cursor.execute("SELECT a, b, c, d FROM t WHERE a < %d ORDER BY a", (5,))
assert cursor.fetchall() == [(1, "Grüße", decimal.Decimal("1.50"), datetime.datetime(2026, 11, 23, 16, 20, 15))], "rows differ"
cursor.execute("SELECT COUNT(*) FROM t")
assert cursor.fetchone() == (11,)
for sql, wanted in [("INSERT INTO t (a) VALUES (1)", 2627), ("SELECT nope FROM t", 207), ("SELECT * FROM nosuch", 208), ("EXEC nosuch", 2812),
                    ("SELECT FROM", 102), ("SELECT 1 / 0", 8134)]:
    got = number(lambda: cursor.execute(sql))
    assert got == wanted, (sql, got)
    link.rollback()
cursor.execute("SELECT @@VERSION")
assert "stand-in" in cursor.fetchone()[0]
print("served")
"#;

#[test]
fn pymssql_is_served() {
    let mut probe = Command::new("python3");
    probe.args(["-c", "import pymssql"]);
    if !is_there("pymssql", "pip install pymssql", probe) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let output = Command::new("python3")
        .args(["-c", PYTHON, &server.address.ip().to_string(), &server.address.port().to_string(), PASSWORD])
        .output()
        .expect("python starts");
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && printed.contains("served"), "{printed}");
}
