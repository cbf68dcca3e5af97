//! What the server says of itself: `@@VERSION`, `SERVERPROPERTY`, and the system views.

use rusqlite::types::Value;

use super::{
    errors::{self, SqlError},
    moment,
    server::Instance,
    token::ResultColumn,
    tsql::bind::Facts,
    types::{Length, SqlType},
};

/// The version that clients compare: that of SQL Server 2022, whose dialect is spoken.
pub(crate) const PRODUCT_VERSION: &str = "16.0.4096.0";
/// The edition, which says what this is.
pub(crate) const EDITION: &str = "Stand-in (comeback sqld)";
/// The name of the only collation.
const COLLATION_NAME: &str = "SQL_Latin1_General_CP1_CI_AS";
/// The `EngineEdition` of SQL Server's Enterprise and Developer editions, which have every feature.
const ENGINE_EDITION: i64 = 3;
/// The principal that owns everything.
const OWNER_SID: i64 = 1;

/// `@@VERSION`
pub(crate) fn version() -> String {
    format!(
        "Microsoft SQL Server-compatible stand-in: comeback sqld {} (not SQL Server) - {PRODUCT_VERSION}\n\tSQLite {} on Linux",
        env!("CARGO_PKG_VERSION"),
        rusqlite::version()
    )
}

/// `SERVERPROPERTY`
pub(crate) fn server_property(instance: &Instance, property: &str) -> (Value, SqlType) {
    let text = |text: &str| (Value::Text(text.to_owned()), SqlType::NVarChar(Length::Of(128)));
    let number = |number: i64| (Value::Integer(number), SqlType::Int);
    match property.to_ascii_lowercase().as_str() {
        "edition" => text(EDITION),
        "productversion" | "resourceversion" => text(PRODUCT_VERSION),
        "productlevel" => text("RTM"),
        "productmajorversion" => text("16"),
        "productminorversion" => text("0"),
        "engineedition" => number(ENGINE_EDITION),
        "collation" => text(COLLATION_NAME),
        "servername" | "machinename" | "computernamephysicalnetbios" => text(&instance.name),
        "processid" => number(std::process::id().into()),
        "isclustered" | "ishadrenabled" | "issingleuser" | "isintegratedsecurityonly" | "isfulltextinstalled" => number(0),
        _ => (Value::Null, SqlType::NVarChar(Length::Of(128))),
    }
}

/// `DATABASEPROPERTYEX`
pub(crate) fn database_property(instance: &Instance, database: &str, property: &str) -> (Value, SqlType) {
    let ty = SqlType::NVarChar(Length::Of(128));
    let Some(database) = instance.storage.database(database) else { return (Value::Null, ty) };
    let value = match property.to_ascii_lowercase().as_str() {
        "status" => state(database.is_online()),
        "updateability" => "READ_WRITE",
        "recovery" => "FULL",
        "collation" => COLLATION_NAME,
        "useraccess" => "MULTI_USER",
        _ => return (Value::Null, ty),
    };
    (Value::Text(value.to_owned()), ty)
}

const fn state(online: bool) -> &'static str {
    if online { "ONLINE" } else { "RECOVERING" }
}

/// `OBJECT_ID`: `kind` is `U` for tables, or none.
pub(crate) fn object_id(facts: &Facts, name: &str, kind: Option<&str>) -> Option<i64> {
    if kind.is_some_and(|kind| !kind.trim().eq_ignore_ascii_case("u")) {
        return None;
    }
    let plain = |part: &str| part.trim().trim_matches(['[', ']', '"']).to_owned();
    let parts: Vec<_> = name.split('.').map(plain).collect();
    let (qualifiers, table) = match parts.as_slice() {
        [qualifiers @ .., table] if qualifiers.len() <= 2 => (qualifiers, table),
        _ => return None,
    };
    if let [.., schema] = qualifiers
        && !schema.is_empty()
        && !schema.eq_ignore_ascii_case("dbo")
    {
        return None;
    }
    if let [database, _] = qualifiers
        && !database.eq_ignore_ascii_case(&facts.database.name)
    {
        return None;
    }
    facts.schema.table(table).map(|table| table.object_id())
}

/// A system view: its columns and its rows, as they are now.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// The columns.
    pub(crate) columns: Vec<ResultColumn>,
    /// The rows.
    pub(crate) rows: Vec<Vec<Value>>,
}

const TEXT: SqlType = SqlType::NVarChar(Length::Of(128));
const NARROW: SqlType = SqlType::NVarChar(Length::Of(60));

impl View {
    fn with(columns: &[(&str, SqlType)]) -> Self {
        let column = |&(name, ty): &(&str, SqlType)| ResultColumn { name: name.to_owned(), ty, nullable: true, identity: false };
        Self { columns: columns.iter().map(column).collect(), rows: Vec::new() }
    }
}

/// The view of a name, if there is one and this client may see it.
pub(crate) fn view(facts: &Facts, schema: &str, name: &str) -> Result<Option<View>, SqlError> {
    let schema = schema.to_ascii_lowercase();
    let name = name.to_ascii_lowercase();
    if !matches!(schema.as_str(), "sys" | "information_schema") {
        return Ok(None);
    }
    if facts.instance.denies(&format!("{schema}.{name}")) {
        let for_the_server = name.starts_with("dm_");
        return Err(if for_the_server {
            errors::view_server_state_denied()
        } else {
            errors::select_denied(&name, "mssqlsystemresource", &schema)
        });
    }
    Ok(match (schema.as_str(), name.as_str()) {
        ("sys", "databases") => Some(databases(facts)),
        ("sys", "dm_os_sys_info") => Some(system(facts)),
        ("sys", "dm_exec_sessions") => Some(sessions(facts)),
        ("sys", "dm_exec_connections") => Some(connections(facts)),
        ("sys", "tables" | "objects") => Some(tables(facts)),
        ("sys", "columns") => Some(columns(facts)),
        ("sys", "indexes") => Some(indexes(facts)),
        ("sys", "schemas") => Some(schemas()),
        ("information_schema", "tables") => Some(information_tables(facts)),
        ("information_schema", "columns") => Some(information_columns(facts)),
        _ => None,
    })
}

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

fn databases(facts: &Facts) -> View {
    let mut view = View::with(&[
        ("name", TEXT),
        ("database_id", SqlType::Int),
        ("create_date", SqlType::DateTime),
        ("compatibility_level", SqlType::TinyInt),
        ("collation_name", TEXT),
        ("state", SqlType::TinyInt),
        ("state_desc", NARROW),
        ("user_access_desc", NARROW),
        ("is_read_only", SqlType::Bit),
        ("recovery_model_desc", NARROW),
        ("page_verify_option_desc", NARROW),
        ("delayed_durability", SqlType::Int),
        ("delayed_durability_desc", NARROW),
        ("snapshot_isolation_state_desc", NARROW),
        ("is_read_committed_snapshot_on", SqlType::Bit),
    ]);
    for database in facts.instance.storage.databases() {
        let online = database.is_online();
        view.rows.push(vec![
            text(database.name.as_str()),
            Value::Integer(database.id),
            text(database.created.as_str()),
            Value::Integer(160),
            text(COLLATION_NAME),
            Value::Integer(if online { 0 } else { 2 }),
            text(state(online)),
            text("MULTI_USER"),
            Value::Integer(0),
            text("FULL"),
            text("NONE"),
            Value::Integer(0),
            text("DISABLED"),
            text("OFF"),
            Value::Integer(1),
        ]);
    }
    view
}

fn system(facts: &Facts) -> View {
    let mut view = View::with(&[
        ("cpu_count", SqlType::Int),
        ("sqlserver_start_time", SqlType::DateTime),
        ("host_platform", NARROW),
        ("container_type_desc", NARROW),
    ]);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    view.rows.push(vec![
        Value::Integer(i64::try_from(cores).unwrap_or(i64::MAX)),
        text(moment::store(facts.instance.storage.start_time(), SqlType::DateTime)),
        text("Linux"),
        text("NONE"),
    ]);
    view
}

fn sessions(facts: &Facts) -> View {
    let mut view = View::with(&[
        ("session_id", SqlType::SmallInt),
        ("login_time", SqlType::DateTime),
        ("host_name", TEXT),
        ("program_name", TEXT),
        ("login_name", TEXT),
        ("status", SqlType::NVarChar(Length::Of(30))),
        ("database_id", SqlType::SmallInt),
        ("is_user_process", SqlType::Bit),
        ("open_transaction_count", SqlType::Int),
    ]);
    for (spid, session) in facts.instance.sessions() {
        let database = facts.instance.storage.database(&session.database).map_or(Value::Null, |database| Value::Integer(database.id));
        let running = session.running || spid == facts.spid;
        view.rows.push(vec![
            Value::Integer(spid.into()),
            text(moment::store(session.since, SqlType::DateTime)),
            text(session.host),
            text(session.program),
            text(session.user),
            text(if running { "running" } else { "sleeping" }),
            database,
            Value::Integer(1),
            Value::Integer(session.transactions.into()),
        ]);
    }
    view
}

fn connections(facts: &Facts) -> View {
    let mut view = View::with(&[
        ("session_id", SqlType::Int),
        ("connect_time", SqlType::DateTime),
        ("net_transport", TEXT),
        ("encrypt_option", TEXT),
        ("auth_scheme", TEXT),
        ("client_net_address", TEXT),
    ]);
    for (spid, session) in facts.instance.sessions() {
        view.rows.push(vec![
            Value::Integer(spid.into()),
            text(moment::store(session.since, SqlType::DateTime)),
            text("TCP"),
            text(if session.encrypted { "TRUE" } else { "FALSE" }),
            text("SQL"),
            text(session.address),
        ]);
    }
    view
}

fn tables(facts: &Facts) -> View {
    let mut view = View::with(&[
        ("name", TEXT),
        ("object_id", SqlType::Int),
        ("schema_id", SqlType::Int),
        ("type", SqlType::Char(2)),
        ("type_desc", NARROW),
        ("create_date", SqlType::DateTime),
        ("modify_date", SqlType::DateTime),
        ("is_ms_shipped", SqlType::Bit),
    ]);
    for table in &facts.schema.tables {
        view.rows.push(vec![
            text(table.name.as_str()),
            Value::Integer(table.object_id()),
            Value::Integer(OWNER_SID),
            text("U "),
            text("USER_TABLE"),
            text(table.created.as_str()),
            text(table.created.as_str()),
            Value::Integer(0),
        ]);
    }
    view
}

fn columns(facts: &Facts) -> View {
    let mut view = View::with(&[
        ("object_id", SqlType::Int),
        ("name", TEXT),
        ("column_id", SqlType::Int),
        ("system_type_id", SqlType::TinyInt),
        ("max_length", SqlType::SmallInt),
        ("is_nullable", SqlType::Bit),
        ("is_identity", SqlType::Bit),
    ]);
    for table in &facts.schema.tables {
        for (ordinal, column) in (1..).zip(&table.columns) {
            view.rows.push(vec![
                Value::Integer(table.object_id()),
                text(column.name.as_str()),
                Value::Integer(ordinal),
                Value::Integer(column.ty.system_id()),
                Value::Integer(max_length(column.ty)),
                Value::Integer(column.nullable.into()),
                Value::Integer(column.identity.into()),
            ]);
        }
    }
    view
}

fn max_length(ty: SqlType) -> i64 {
    match (ty, ty.length()) {
        (_, Some(Length::Max)) => -1,
        (_, Some(Length::Of(length))) => i64::from(length) * if ty.is_national() { 2 } else { 1 },
        (SqlType::Bit | SqlType::TinyInt, _) => 1,
        (SqlType::SmallInt, _) => 2,
        (SqlType::Int | SqlType::Real, _) => 4,
        (SqlType::Date, _) => 3,
        (SqlType::UniqueIdentifier, _) => 16,
        _ => 8,
    }
}

fn indexes(facts: &Facts) -> View {
    let mut view = View::with(&[
        ("object_id", SqlType::Int),
        ("name", TEXT),
        ("index_id", SqlType::Int),
        ("type_desc", NARROW),
        ("is_unique", SqlType::Bit),
        ("is_primary_key", SqlType::Bit),
    ]);
    for table in &facts.schema.tables {
        view.rows.push(vec![
            Value::Integer(table.object_id()),
            Value::Null,
            Value::Integer(0),
            text("HEAP"),
            Value::Integer(0),
            Value::Integer(0),
        ]);
        for (number, key) in (2..).zip(&table.keys) {
            view.rows.push(vec![
                Value::Integer(table.object_id()),
                text(key.name.as_str()),
                Value::Integer(number),
                text("NONCLUSTERED"),
                Value::Integer(key.kind.is_unique().into()),
                Value::Integer((key.kind == super::schema::KeyKind::Primary).into()),
            ]);
        }
    }
    view
}

fn schemas() -> View {
    let mut view = View::with(&[("name", TEXT), ("schema_id", SqlType::Int), ("principal_id", SqlType::Int)]);
    view.rows.push(vec![text("dbo"), Value::Integer(OWNER_SID), Value::Integer(OWNER_SID)]);
    view.rows.push(vec![text("sys"), Value::Integer(4), Value::Integer(4)]);
    view
}

fn information_tables(facts: &Facts) -> View {
    let mut view = View::with(&[("TABLE_CATALOG", TEXT), ("TABLE_SCHEMA", TEXT), ("TABLE_NAME", TEXT), ("TABLE_TYPE", NARROW)]);
    for table in &facts.schema.tables {
        view.rows.push(vec![text(facts.database.name.as_str()), text("dbo"), text(table.name.as_str()), text("BASE TABLE")]);
    }
    view
}

fn information_columns(facts: &Facts) -> View {
    let mut view = View::with(&[
        ("TABLE_CATALOG", TEXT),
        ("TABLE_SCHEMA", TEXT),
        ("TABLE_NAME", TEXT),
        ("COLUMN_NAME", TEXT),
        ("ORDINAL_POSITION", SqlType::Int),
        ("IS_NULLABLE", SqlType::VarChar(Length::Of(3))),
        ("DATA_TYPE", TEXT),
    ]);
    for table in &facts.schema.tables {
        for (ordinal, column) in (1..).zip(&table.columns) {
            view.rows.push(vec![
                text(facts.database.name.as_str()),
                text("dbo"),
                text(table.name.as_str()),
                text(column.name.as_str()),
                Value::Integer(ordinal),
                text(if column.nullable { "YES" } else { "NO" }),
                text(column.ty.name()),
            ]);
        }
    }
    view
}
