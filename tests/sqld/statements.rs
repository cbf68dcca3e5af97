//! What clients ask and get.

use rstest::rstest;
use tiberius::{ColumnType, EncryptionLevel, error::Error};

use crate::{
    server::{DEADLINE, Server, TABLES, error, number, payload, rows, run, try_rows, within, write},
    wire::{END, RESET, RESET_KEEP_TRANSACTION, Wire, is_error},
};

fn code(error: &Error) -> Option<u32> {
    error.code()
}

#[rstest]
#[case::everything_encrypted(EncryptionLevel::Required)]
#[case::the_login_encrypted(EncryptionLevel::Off)]
#[case::nothing_encrypted(EncryptionLevel::NotSupported)]
#[tokio::test]
async fn a_client_is_served_and_told_that_this_is_a_stand_in(#[case] encryption: EncryptionLevel) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut config = server.config("master");
    config.encryption(encryption);
    config.trust_cert();
    let mut session = server.try_connect(config).await.expect("the login is accepted");
    let row = rows(&mut session, "SELECT @@VERSION, @@SERVERNAME, DB_NAME(), SUSER_SNAME(), @@TRANCOUNT").await.remove(0);
    let version = row.get::<&str, _>(0).expect("there is a version");
    assert!(version.starts_with("Microsoft SQL Server-compatible stand-in: comeback sqld"), "{version}");
    assert!(version.contains("not SQL Server") && version.contains("SQLite"), "{version}");
    assert_eq!(row.get::<&str, _>(1), Some("stand-in"));
    assert_eq!(row.get::<&str, _>(2), Some("master"));
    assert_eq!(row.get::<&str, _>(3), Some("sa"));
    assert_eq!(row.get::<i32, _>(4), Some(0));
    let encrypted = rows(&mut session, "SELECT encrypt_option FROM sys.dm_exec_connections WHERE session_id = @@SPID").await;
    let expected = if encryption == EncryptionLevel::Required { "TRUE" } else { "FALSE" };
    assert_eq!(encrypted[0].get::<&str, _>(0), Some(expected));
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_database_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut config = server.config("master");
    config.authentication(tiberius::AuthMethod::sql_server("sa", "Wr0ng-pass"));
    let error = server.try_connect(config).await.expect_err("the password is wrong");
    assert_eq!(code(&error), Some(18456));
    server.wait_for("Password did not match");
    let error = server.try_connect(server.config("nowhere")).await.expect_err("there is no such database");
    assert_eq!(code(&error), Some(4060));
    server.wait_for("Error: 18456, Severity: 14, State: 38.");
    assert!(!server.log().contains("Wr0ng-pass"), "the log shows a password");
}

#[tokio::test]
async fn the_harness_writes_and_reads_its_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, TABLES).await;
    run(&mut session, TABLES).await;
    let incarnation = write(&mut session, 7, 1).await.expect("it is written");
    assert_eq!(incarnation, write(&mut session, 7, 2).await.expect("it is written"));
    assert_eq!(incarnation, write(&mut session, 8, i64::MAX).await.expect("it is written"));

    let read = "SELECT writer, seq, payload, checksum, incarnation FROM dbo.rows_keyed WHERE trial = @P1 ORDER BY writer, seq";
    let found = within(async { session.query(read, &[&"trial"]).await?.into_first_result().await }).await.expect("it is read");
    let types: Vec<_> = found[0].columns().iter().map(tiberius::Column::column_type).collect();
    assert_eq!(types, [ColumnType::Int4, ColumnType::Int8, ColumnType::BigVarChar, ColumnType::Int8, ColumnType::BigVarChar]);
    let keys: Vec<_> = found.iter().map(|row| (row.get::<i32, _>(0).expect("a writer"), row.get::<i64, _>(1).expect("a number"))).collect();
    assert_eq!(keys, [(7, 1), (7, 2), (8, i64::MAX)]);
    for row in &found {
        let (text, sum) = payload(row.get(0).expect("a writer"), row.get(1).expect("a number"));
        assert_eq!(row.get::<&str, _>("payload"), Some(text.as_str()));
        assert_eq!(row.get::<i64, _>("checksum"), Some(sum));
        assert_eq!(row.get::<&str, _>("incarnation"), Some(incarnation.as_str()));
    }
    let ids = rows(&mut session, "SELECT id FROM dbo.rows_heap ORDER BY id").await;
    let ids: Vec<_> = ids.iter().map(|row| row.get::<i64, _>(0).expect("an id")).collect();
    assert_eq!(ids, [1, 2, 3]);
}

#[tokio::test]
async fn four_hundred_parameters_in_one_call() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, TABLES).await;
    let values: Vec<_> = (0..80)
        .map(|row| format!("(@P{}, @P{}, @P{}, @P{}, @P{})", row * 5 + 1, row * 5 + 2, row * 5 + 3, row * 5 + 4, row * 5 + 5))
        .collect();
    let sql = format!("INSERT INTO dbo.rows_keyed (trial, writer, seq, payload, checksum) VALUES {}", values.join(", "));
    let data: Vec<_> = (0..80_i64).map(|seq| (seq, payload(1, seq))).collect();
    let mut parameters: Vec<&dyn tiberius::ToSql> = Vec::new();
    for (seq, (text, sum)) in &data {
        parameters.extend([&"many" as &dyn tiberius::ToSql, &1_i32, seq, text, sum]);
    }
    let done = within(session.execute(sql.as_str(), &parameters)).await.expect("they are written");
    assert_eq!(done.total(), 80);
    assert_eq!(number(&mut session, "SELECT COUNT_BIG(*) FROM rows_keyed WHERE trial = N'MANY'").await, 80);
}

/// Errors of statements that mean something else within a transaction.
const TAKES_NO_TRANSACTION: [u32; 3] = [1801, 3902, 3903];

#[rstest]
#[case::syntax("SELECT FROM WHERE", 102, 15, 1)]
#[case::unknown_column("SELECT nope FROM dbo.t", 207, 16, 1)]
#[case::unknown_object("SELECT * FROM dbo.nosuch", 208, 16, 1)]
#[case::ambiguous_column("SELECT a FROM dbo.t x JOIN dbo.t y ON x.a = y.a", 209, 16, 1)]
#[case::unbound("SELECT q.a FROM dbo.t", 4104, 16, 1)]
#[case::unknown_variable("SELECT @nope", 137, 15, 1)]
#[case::unknown_function("SELECT dbo_nope(1)", 195, 15, 1)]
#[case::null("INSERT INTO dbo.t (a) VALUES (NULL)", 515, 16, 1)]
#[case::key("INSERT INTO dbo.t (a, b) VALUES (1, 'again')", 2627, 14, 1)]
#[case::key_twice_in_one("INSERT INTO dbo.t (a, b) VALUES (5, 'x'), (5, 'y')", 2627, 14, 1)]
#[case::unique_index("INSERT INTO dbo.t (a, b) VALUES (9, 'ONE')", 2601, 14, 1)]
#[case::too_long("INSERT INTO dbo.t (a, b) VALUES (2, 'much too long')", 2628, 16, 1)]
#[case::too_large("INSERT INTO dbo.t (a, b) VALUES (3000000000, 'x')", 8115, 16, 1)]
#[case::no_number("INSERT INTO dbo.t (a, b) VALUES ('abc', 'x')", 245, 16, 0)]
#[case::check("INSERT INTO dbo.t (a, b) VALUES (-1, 'x')", 547, 16, 1)]
#[case::column_count("INSERT INTO dbo.t (a, b) VALUES (1)", 213, 16, 1)]
#[case::exists("CREATE TABLE dbo.t (a int)", 2714, 16, 1)]
#[case::no_type("CREATE TABLE dbo.u (a geography)", 2715, 16, 1)]
#[case::no_schema("CREATE TABLE sales.u (a int)", 2760, 16, 1)]
#[case::nothing_to_drop("DROP TABLE dbo.nosuch", 3701, 11, 1)]
#[case::no_database("USE nowhere", 911, 16, 1)]
#[case::database_exists("CREATE DATABASE comeback", 1801, 16, 1)]
#[case::no_procedure("EXEC dbo.nosuch 1, 'x'", 2812, 16, 1)]
#[case::nothing_to_commit("COMMIT TRANSACTION", 3902, 16, 1)]
#[case::nothing_to_roll_back("ROLLBACK TRANSACTION", 3903, 16, 1)]
#[case::divide_by_zero("SELECT a / 0 FROM dbo.t", 8134, 16, 1)]
#[case::no_date("SELECT CAST('soon' AS datetime)", 241, 16, 0)]
#[case::raised("THROW 51234, 'mine', 3", 51234, 16, 1)]
#[case::set_not_known_here("SET NOEXEC ON", 40510, 16, 1)]
#[case::rowcount_not_known_here("SET ROWCOUNT 1", 40510, 16, 1)]
#[case::isolation_not_known_here("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", 40510, 16, 1)]
#[case::database_option_not_known_here("ALTER DATABASE comeback SET READ_ONLY WITH ROLLBACK IMMEDIATE", 40510, 16, 1)]
#[case::not_known_here("CREATE VIEW v AS SELECT 1 AS a", 40510, 16, 1)]
#[tokio::test]
async fn an_error_has_sql_servers_number_and_class_and_reach(
    #[case] sql: &str,
    #[case] wanted: u32,
    #[case] class: u8,
    #[case] transactions_left: i64,
) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(
        &mut session,
        "CREATE TABLE dbo.t (a int NOT NULL CONSTRAINT pk_t PRIMARY KEY CHECK (a >= 0), b varchar(5) NULL);
         CREATE UNIQUE INDEX ux_t ON dbo.t (b); INSERT INTO dbo.t (a, b) VALUES (1, 'one')",
    )
    .await;
    assert_eq!(error(&mut session, sql).await, (wanted, class));
    assert_eq!(number(&mut session, "SELECT COUNT(*) FROM dbo.t").await, 1, "the session goes on, and nothing was written");
    run(&mut session, "IF @@TRANCOUNT > 0 ROLLBACK; BEGIN TRAN; INSERT INTO dbo.t (a, b) VALUES (7, 'seven')").await;
    if !TAKES_NO_TRANSACTION.contains(&wanted) {
        assert_eq!(error(&mut session, sql).await, (wanted, class));
        assert_eq!(number(&mut session, "SELECT @@TRANCOUNT").await, transactions_left);
        assert_eq!(number(&mut session, "SELECT COUNT(*) FROM dbo.t").await, 1 + transactions_left, "with the transaction goes its row");
    }
}

#[tokio::test]
async fn a_name_that_the_catalog_cannot_hold_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.connect("master").await;
    assert_eq!(error(&mut session, &format!("CREATE DATABASE [{}]", "x".repeat(129))).await, (103, 15));
    run(&mut session, &format!("CREATE DATABASE [{}]", "x".repeat(128))).await;
    assert_eq!(number(&mut session, "SELECT LEN(MAX(name)) FROM sys.databases").await, 128);
}

#[tokio::test]
async fn a_broken_key_is_told_with_its_values() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, TABLES).await;
    write(&mut session, 1, 5).await.expect("it is new");
    let error = write(&mut session, 1, 5).await.expect_err("it is there already");
    assert_eq!(code(&error), Some(2627));
    let text = error.to_string();
    assert!(text.contains("Violation of PRIMARY KEY constraint 'pk_rows_keyed'"), "{text}");
    assert!(text.contains("in object 'dbo.rows_keyed'. The duplicate key value is (trial, 1, 5)."), "{text}");
    assert_eq!(number(&mut session, "SELECT @@TRANCOUNT").await, 0, "XACT_ABORT rolled it back");
    assert_eq!(number(&mut session, "SELECT COUNT(*) FROM rows_heap").await, 1);
}

#[tokio::test]
async fn text_is_as_long_as_sql_server_counts_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, "CREATE TABLE t (a nvarchar(2), b varchar(3))").await;
    assert_eq!(error(&mut session, "INSERT INTO t (a) VALUES (N'😀😁')").await, (2628, 16));
    let refused = within(session.execute("INSERT INTO t (b) VALUES (@P1)", &[&"ab\0cd"])).await.expect_err("it is too long");
    assert_eq!(code(&refused), Some(2628));
    run(&mut session, "INSERT INTO t VALUES (N'😀', 'äöü')").await;
    let row =
        rows(&mut session, "SELECT a, b, LEN(a), DATALENGTH(a), ISNULL(NULLIF(b, 'ÄÖÜ'), 'abcd'), ISNULL(NULLIF(b, 'äöü'), 'abcd') FROM t")
            .await
            .remove(0);
    assert_eq!((row.get::<&str, _>(0), row.get::<&str, _>(1)), (Some("😀"), Some("äöü")));
    assert_eq!((row.get::<i32, _>(2), row.get::<i32, _>(3)), (Some(2), Some(4)));
    assert_eq!((row.get::<&str, _>(4), row.get::<&str, _>(5)), (Some("äöü"), Some("abc")));
}

#[tokio::test]
async fn without_xact_abort_only_the_statement_is_undone() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, "CREATE TABLE t (a int PRIMARY KEY)").await;
    let batch = "BEGIN TRAN; INSERT INTO t VALUES (1); INSERT INTO t VALUES (2), (1); INSERT INTO t VALUES (3); COMMIT";
    assert_eq!(error(&mut session, batch).await, (2627, 14));
    let found = rows(&mut session, "SELECT a FROM t ORDER BY a").await;
    assert_eq!(found.iter().filter_map(|row| row.get::<i32, _>(0)).collect::<Vec<_>>(), [1, 3]);
}

#[tokio::test]
async fn an_output_that_does_not_fit_undoes_its_statement() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, "CREATE TABLE t (a int)").await;
    let batch =
        "BEGIN TRAN; INSERT INTO t VALUES (1); INSERT INTO t OUTPUT inserted.a + 2147483647 VALUES (2); INSERT INTO t VALUES (4); COMMIT";
    assert_eq!(error(&mut session, batch).await, (8115, 16));
    assert_eq!(number(&mut session, "SELECT SUM(a) FROM t").await, 5);
}

#[tokio::test]
async fn with_xact_abort_an_error_undoes_everything_and_ends_the_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, "CREATE TABLE t (a int PRIMARY KEY)").await;
    let batch = "SET XACT_ABORT ON; BEGIN TRAN; INSERT INTO t VALUES (1); INSERT INTO t VALUES (1); INSERT INTO t VALUES (3); COMMIT";
    assert_eq!(error(&mut session, batch).await, (2627, 14));
    assert_eq!(number(&mut session, "SELECT COUNT(*) + @@TRANCOUNT FROM t").await, 0);
}

#[rstest]
#[case::raised("SET XACT_ABORT ON; BEGIN TRAN; INSERT INTO t VALUES (1); RAISERROR('mine', 16, 1); INSERT INTO t VALUES (2); COMMIT", 3)]
#[case::thrown("SET XACT_ABORT ON; BEGIN TRAN; INSERT INTO t VALUES (1); THROW 50001, 'mine', 1; COMMIT", 0)]
#[case::thrown_and_caught(
    "BEGIN TRAN; INSERT INTO t VALUES (1); BEGIN TRY THROW 50001, 'mine', 1 END TRY BEGIN CATCH END CATCH; COMMIT; THROW 50001, 'x', 1",
    1
)]
#[case::no_such_savepoint("BEGIN TRAN; INSERT INTO t VALUES (1); ROLLBACK TRAN nosuch; INSERT INTO t VALUES (2); COMMIT", 3)]
#[case::the_transaction_by_its_name("BEGIN TRAN one; INSERT INTO t VALUES (1); ROLLBACK TRAN one; INSERT INTO t VALUES (2); COMMIT", 2)]
#[case::set_in_a_text("EXEC (N'SET XACT_ABORT ON'); INSERT INTO t VALUES (1); SELECT 1 / 0; INSERT INTO t VALUES (2)", 3)]
#[case::set_in_a_procedure("EXEC sp_executesql N'SET XACT_ABORT ON'; INSERT INTO t VALUES (1); SELECT 1 / 0; INSERT INTO t VALUES (2)", 3)]
#[tokio::test]
async fn an_error_leaves_of_the_rows(#[case] batch: &str, #[case] sum: i64) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, "CREATE TABLE t (a int)").await;
    within(async { session.simple_query(batch).await?.into_results().await }).await.expect_err("it has an error");
    assert_eq!(number(&mut session, "SELECT ISNULL(SUM(a), 0) + 100 * @@TRANCOUNT FROM t").await, sum);
}

#[tokio::test]
async fn what_a_call_sets_ends_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, "CREATE TABLE t (a int)").await;
    within(session.execute("SET XACT_ABORT ON; SET IMPLICIT_TRANSACTIONS ON", &[])).await.expect("they are options");
    assert_eq!(error(&mut session, "BEGIN TRAN; INSERT INTO t VALUES (1); SELECT 1 / 0; COMMIT").await, (8134, 16));
    assert_eq!(number(&mut session, "SELECT COUNT(*) + 10 * @@TRANCOUNT FROM t").await, 1);
}

#[tokio::test]
async fn transactions_nest_and_savepoints_hold() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, "CREATE TABLE t (a int)").await;
    run(
        &mut session,
        "BEGIN TRAN; INSERT INTO t VALUES (1); SAVE TRAN half; INSERT INTO t VALUES (2); ROLLBACK TRAN half; BEGIN TRAN; INSERT INTO t VALUES (3); COMMIT",
    )
    .await;
    assert_eq!(number(&mut session, "SELECT @@TRANCOUNT").await, 1);
    let mut other = server.connect("comeback").await;
    assert_eq!(number(&mut other, "SELECT COUNT(*) FROM t").await, 0, "nothing is committed yet");
    run(&mut session, "COMMIT").await;
    assert_eq!(number(&mut other, "SELECT SUM(a) FROM t").await, 4);
}

#[tokio::test]
async fn the_transaction_manager_begins_commits_and_rolls_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, "CREATE TABLE t (a int)").await;
    within(session.begin_transaction()).await.expect("it begins");
    run(&mut session, "INSERT INTO t VALUES (1)").await;
    within(session.rollback_transaction()).await.expect("it rolls back");
    within(session.begin_transaction()).await.expect("it begins");
    run(&mut session, "INSERT INTO t VALUES (2)").await;
    within(session.commit_transaction()).await.expect("it commits");
    assert_eq!(number(&mut session, "SELECT SUM(a) FROM t").await, 2);
    within(session.commit_transaction()).await.expect_err("there is none");
}

#[tokio::test]
async fn a_caught_error_is_told_and_a_doomed_transaction_cannot_be_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, "CREATE TABLE t (a int PRIMARY KEY)").await;
    let sql = "BEGIN TRY INSERT INTO t VALUES (1); INSERT INTO t VALUES (1) END TRY BEGIN CATCH SELECT ERROR_NUMBER() END CATCH";
    assert_eq!(number(&mut session, sql).await, 2627);
    let doomed = "SET XACT_ABORT ON; BEGIN TRAN; BEGIN TRY INSERT INTO t VALUES (1) END TRY BEGIN CATCH COMMIT END CATCH";
    assert_eq!(error(&mut session, doomed).await, (3930, 16));
    assert_eq!(number(&mut session, "SELECT @@TRANCOUNT").await, 0);
}

#[rstest]
#[case::caught_and_left("BEGIN TRAN; BEGIN TRY SET @P1 = CAST('x' AS int) END TRY BEGIN CATCH END CATCH", 3998)]
#[case::refused_a_write("BEGIN TRAN; BEGIN TRY SET @P1 = CAST('x' AS int) END TRY BEGIN CATCH INSERT INTO t VALUES (1) END CATCH", 3930)]
#[tokio::test]
async fn a_batch_that_leaves_a_doomed_transaction_fails_itself(#[case] sql: &str, #[case] wanted: u32) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, "CREATE TABLE t (a int)").await;
    assert_eq!(error(&mut session, &format!("DECLARE @P1 int; {sql}")).await, (wanted, 16));
    let mut wire = Wire::connect(server.address, "comeback");
    wire.batch(END, &format!("DECLARE @P1 int; {sql}"));
    assert!(is_error(&wire.answer()));
    wire.call(&format!("DECLARE @P1 int; {sql}"));
    assert!(is_error(&wire.answer()));
    wire.run("IF @@TRANCOUNT > 0 THROW 50001, 'it is still open', 1");
    assert_eq!(number(&mut session, "SELECT COUNT(*) + @@TRANCOUNT FROM t").await, 0, "the next request is served");
}

#[rstest]
#[case::pymssql(
    "SET ARITHABORT ON;SET CONCAT_NULL_YIELDS_NULL ON;SET ANSI_NULLS ON;SET ANSI_NULL_DFLT_ON ON;SET ANSI_PADDING ON;SET ANSI_WARNINGS ON;\
     SET CURSOR_CLOSE_ON_COMMIT ON;SET QUOTED_IDENTIFIER ON;SET TEXTSIZE 2147483647;"
)]
#[case::sqlcmd("SET QUOTED_IDENTIFIER OFF SET TEXTSIZE 4096")]
#[case::read_committed(
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET ROWCOUNT 0; SET NOEXEC OFF; SET LANGUAGE us_english; SET DATEFORMAT mdy"
)]
#[case::database(
    "ALTER DATABASE CURRENT SET RECOVERY SIMPLE; ALTER DATABASE comeback SET READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE"
)]
#[tokio::test]
async fn an_option_that_asks_for_nothing_is_accepted(#[case] sql: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, &format!("BEGIN TRAN; {sql}")).await;
    assert_eq!(number(&mut session, "SELECT @@TRANCOUNT").await, 1);
}

#[rstest]
#[case::arithmetic("SELECT 7 / 2", 3)]
#[case::modulo("SELECT -7 % 3", -1)]
#[case::text_is_compared_without_case("SELECT CASE WHEN 'abc' = 'ABC' THEN 1 ELSE 0 END", 1)]
#[case::variables("DECLARE @a int = 4, @b int; SET @b = @a * 2; SELECT @b + 1", 9)]
#[case::assigned_by_a_query("DECLARE @n int; SELECT @n = COUNT(*) FROM sys.databases; SELECT @n", 2)]
#[case::a_loop("DECLARE @i int = 0; WHILE @i < 10 BEGIN SET @i = @i + 1; IF @i = 5 BREAK END; SELECT @i", 5)]
#[case::top("SELECT TOP (1) x FROM (VALUES (3), (1), (2)) AS v(x) ORDER BY x DESC", 3)]
#[case::offset("SELECT x FROM (VALUES (3), (1), (2)) AS v(x) ORDER BY x OFFSET 1 ROWS FETCH NEXT 1 ROWS ONLY", 2)]
#[case::common_table("WITH v AS (SELECT 1 AS x UNION ALL SELECT 2) SELECT SUM(x) FROM v", 3)]
#[case::dynamic("EXEC sp_executesql N'SELECT @x + 1', N'@x int', @x = 41", 42)]
#[case::length("SELECT LEN('abc  ') + CHARINDEX('C', 'abc')", 6)]
#[case::dates("SELECT DATEDIFF(day, '2026-01-01', DATEADD(month, 1, '2026-01-01'))", 31)]
#[case::object_id("SELECT COUNT(OBJECT_ID(N'[dbo].[nosuch]'))", 0)]
#[case::engine_edition("SELECT CAST(SERVERPROPERTY('EngineEdition') AS int)", 3)]
#[case::try_convert("SELECT ISNULL(TRY_CAST('x' AS int), -1)", -1)]
#[case::big("SELECT COUNT_BIG(*) FROM sys.databases WHERE state_desc = 'ONLINE'", 2)]
#[tokio::test]
async fn a_query_gives(#[case] sql: &str, #[case] expected: i64) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    assert_eq!(number(&mut session, sql).await, expected);
}

#[tokio::test]
async fn several_results_come_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    let sql = "SELECT 1 AS a PRINT 'between' SELECT N'zwei' AS b, CAST(NULL AS int) AS c SELECT TOP 0 1 AS d";
    let results = within(async { session.simple_query(sql).await?.into_results().await }).await.expect("they come");
    assert_eq!(results.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 0]);
    assert_eq!(results[1][0].get::<&str, _>("b"), Some("zwei"));
    assert_eq!(results[1][0].get::<i32, _>("c"), None);
}

#[tokio::test]
async fn an_identity_counts_up_and_comes_back_to_the_client() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, "CREATE TABLE t (id bigint IDENTITY(100,1) NOT NULL, a int DEFAULT 7)").await;
    let given = rows(&mut session, "INSERT INTO t (a) OUTPUT INSERTED.id VALUES (1), (2)").await;
    assert_eq!(given.iter().filter_map(|row| row.get::<i64, _>(0)).collect::<Vec<_>>(), [100, 101]);
    run(&mut session, "DELETE FROM t WHERE id = 101; INSERT INTO t DEFAULT VALUES").await;
    assert_eq!(number(&mut session, "SELECT CAST(SCOPE_IDENTITY() AS bigint)").await, 102, "a number never comes twice");
    assert_eq!(number(&mut session, "SELECT a FROM t WHERE id = 102").await, 7);
    run(&mut session, "BEGIN TRAN; INSERT INTO t (a) VALUES (1), (2); ROLLBACK; INSERT INTO t (a) VALUES (3)").await;
    assert_eq!(number(&mut session, "SELECT MAX(id) FROM t").await, 105, "nor after a rollback");
    run(
        &mut session,
        "CREATE TABLE u (id int IDENTITY(1,1), a int); BEGIN TRAN; INSERT INTO u (a) VALUES (1); ROLLBACK; INSERT INTO u (a) VALUES (2)",
    )
    .await;
    assert_eq!(number(&mut session, "SELECT MAX(id) FROM u").await, 2, "nor if the first of all was rolled back");
    run(&mut session, "DROP TABLE u; CREATE TABLE u (id int IDENTITY(1,1), a int); INSERT INTO u (a) VALUES (1)").await;
    assert_eq!(number(&mut session, "SELECT MAX(id) FROM u").await, 1, "another table counts anew");
    assert_eq!(error(&mut session, "INSERT INTO t (id, a) VALUES (1, 1)").await, (544, 16));
}

/// The most memory that the engine has had, in KiB.
fn peak_memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.engine())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("the kernel tells").to_owned();
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

#[tokio::test]
async fn a_long_result_never_stands_in_memory() {
    use futures::TryStreamExt;
    const ROWS: i64 = 200_000;
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, "CREATE TABLE t (a bigint PRIMARY KEY, b varchar(200) NOT NULL)").await;
    run(
        &mut session,
        "WITH d AS (SELECT x FROM (VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)) AS v(x))
         INSERT INTO t SELECT a.x * 100000 + b.x * 10000 + c.x * 1000 + e.x * 100 + f.x * 10 + g.x, REPLICATE('x', 200)
         FROM d a CROSS JOIN d b CROSS JOIN d c CROSS JOIN d e CROSS JOIN d f CROSS JOIN d g WHERE a.x < 2",
    )
    .await;
    let before = peak_memory(&server);
    let mut seen = 0;
    within(async {
        let mut stream = session.simple_query("SELECT a, b FROM t ORDER BY a").await.expect("it runs");
        while let Some(item) = stream.try_next().await.expect("it comes") {
            if let tiberius::QueryItem::Row(row) = item {
                assert_eq!(row.get::<i64, _>(0), Some(seen));
                seen += 1;
            }
        }
    })
    .await;
    assert_eq!(seen, ROWS);
    let grown = peak_memory(&server) - before;
    assert!(grown < 8 << 10, "40 MB of rows made the server grow by {grown} KiB");
}

#[tokio::test]
async fn messages_without_end_never_stand_in_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut wire = Wire::connect(server.address, "master");
    let before = peak_memory(&server);
    wire.batch(END, "DECLARE @i int = 0; WHILE @i < 2500 BEGIN PRINT REPLICATE('x', 4000) SET @i = @i + 1 END WHILE 1 = 1 SET @i = 0");
    // The batch never ends, and the client has its messages all the same: 20 MB, but for what does not fill a piece.
    let mut seen = 0;
    while seen < 19 << 20 {
        seen += wire.part().len();
    }
    let grown = peak_memory(&server) - before;
    assert!(grown < 8 << 10, "{seen} bytes of messages made the server grow by {grown} KiB");
    wire.attention();
    let rest = wire.answer();
    assert_eq!(rest[rest.len() - 13..][..2], [0xFD, 0x20], "the attention is acknowledged");
}

#[tokio::test]
async fn an_attention_ends_a_wait_and_the_session_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.connect("master").await;
    let mut watcher = server.connect("master").await;
    let spid = number(&mut session, "SELECT @@SPID").await;
    let waiting = tokio::time::timeout(DEADLINE, async {
        tokio::select! {
            done = session.simple_query("WAITFOR DELAY '00:10:00'") => panic!("the wait ends: {:?}", done.is_ok()),
            () = async {
                let sql = format!("SELECT COUNT(*) FROM sys.dm_exec_sessions WHERE session_id = {spid} AND status = 'running'");
                while number(&mut watcher, &sql).await == 0 {}
            } => {}
        }
    });
    waiting.await.expect("the wait begins");
    within(session.cancel_query()).await.expect("the attention is acknowledged");
    assert_eq!(number(&mut session, "SELECT 42").await, 42);
}

#[tokio::test]
async fn an_attention_within_a_write_leaves_no_half_of_a_transaction() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    let mut watcher = server.connect("comeback").await;
    run(&mut session, "CREATE TABLE t (a int); CREATE TABLE big (a int, b int)").await;
    run(
        &mut session,
        "WITH d AS (SELECT x FROM (VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)) AS v(x))
         INSERT INTO big SELECT a.x, 0 FROM d a CROSS JOIN d b CROSS JOIN d c CROSS JOIN d e",
    )
    .await;
    let spid = number(&mut session, "SELECT @@SPID").await;
    run(&mut session, "BEGIN TRAN; INSERT INTO t VALUES (1)").await;
    within(async {
        tokio::select! {
            done = session.simple_query("UPDATE big SET b = b + (SELECT COUNT(*) FROM big x CROSS JOIN big y CROSS JOIN big z)") =>
                panic!("the update ends: {:?}", done.is_ok()),
            () = async {
                let sql = format!("SELECT COUNT(*) FROM sys.dm_exec_sessions WHERE session_id = {spid} AND status = 'running'");
                while number(&mut watcher, &sql).await == 0 {}
            } => {}
        }
    })
    .await;
    within(session.cancel_query()).await.expect("the attention is acknowledged");
    let open = number(&mut session, "SELECT @@TRANCOUNT").await;
    run(&mut session, "INSERT INTO t VALUES (2); IF @@TRANCOUNT > 0 ROLLBACK").await;
    // Either the attention took the transaction along and says so, or what came after it is rolled back with the rest.
    let expected = if open == 0 { 2 } else { 0 };
    assert_eq!(number(&mut watcher, "SELECT ISNULL(SUM(a), 0) FROM t").await, expected);
}

#[rstest]
#[case::with_its_transaction(RESET, 0)]
#[case::without_its_transaction(RESET_KEEP_TRANSACTION, 1)]
#[tokio::test]
async fn a_session_is_made_as_new(#[case] reset: u8, #[case] rows: i64) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut watcher = server.database("comeback").await;
    run(&mut watcher, "CREATE TABLE t (a int)").await;
    let mut wire = Wire::connect(server.address, "comeback");
    wire.run("BEGIN TRAN; INSERT INTO t VALUES (1)");
    wire.batch(END | reset, "IF @@TRANCOUNT > 0 COMMIT");
    assert!(!is_error(&wire.answer()));
    assert_eq!(number(&mut watcher, "SELECT COUNT(*) FROM t").await, rows);
}

#[tokio::test]
async fn what_is_denied_is_refused_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &["--deny", "sys.dm_os_sys_info", "--deny", "sys.databases", "--deny", "DBCC CHECKDB"]);
    let mut session = server.connect("master").await;
    assert_eq!(error(&mut session, "SELECT sqlserver_start_time FROM sys.dm_os_sys_info").await, (300, 14));
    assert_eq!(error(&mut session, "SELECT name FROM sys.databases").await, (229, 14));
    assert_eq!(error(&mut session, "DBCC CHECKDB").await, (7983, 14));
    assert_eq!(number(&mut session, "SELECT COUNT(*) FROM sys.dm_exec_sessions WHERE program_name = N'tests'").await, 1);
}

#[tokio::test]
async fn checkdb_is_empty_when_all_is_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut session = server.database("comeback").await;
    run(&mut session, TABLES).await;
    write(&mut session, 1, 1).await.expect("it is written");
    let found = try_rows(&mut session, "DBCC CHECKDB (N'comeback') WITH NO_INFOMSGS").await.expect("all is well");
    assert!(found.is_empty());
}
