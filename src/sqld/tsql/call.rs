//! Functions and global variables.

use rusqlite::types::Value;
use sqlparser::ast::{DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments};

use super::bind::{Binder, Bound, CONVERTED_LENGTH, Form, Scope, common_type, concatenated, converted, explicitly};
use crate::sqld::{
    catalog,
    convert::DatePart,
    errors::{self, SqlError},
    moment,
    types::{Length, SqlType},
};

const NAME: SqlType = SqlType::NVarChar(Length::Of(128));

impl Binder<'_> {
    fn known(&mut self, value: Value, ty: SqlType) -> Bound {
        let nullable = matches!(value, Value::Null);
        Bound { nullable, ..Bound::new(self.parameter(value), ty) }
    }

    fn known_text_value(&mut self, text: &str) -> Bound {
        let sql = self.text(text);
        Bound::present(sql, NAME)
    }

    fn now(&mut self, ty: SqlType) -> Bound {
        let text = moment::store(self.facts.now, ty);
        self.known(Value::Text(text), ty)
    }

    /// `@@NAME`
    pub(crate) fn global(&mut self, name: &str) -> Result<Bound, SqlError> {
        Ok(match name.to_ascii_uppercase().as_str() {
            "@@VERSION" => {
                let version = catalog::version();
                let sql = self.text(&version);
                Bound::present(sql, SqlType::NVarChar(Length::Of(300)))
            }
            "@@SERVERNAME" => self.known_text_value(&self.facts.instance.name.clone()),
            "@@SERVICENAME" => self.known_text_value("MSSQLSERVER"),
            "@@LANGUAGE" => self.known_text_value("us_english"),
            "@@SPID" => self.known(Value::Integer(self.facts.spid.into()), SqlType::SmallInt),
            "@@TRANCOUNT" => self.known(Value::Integer(self.facts.transactions.into()), SqlType::Int),
            "@@ROWCOUNT" => self.known(Value::Integer(self.facts.rows), SqlType::Int),
            "@@ERROR" => self.known(Value::Integer(self.facts.last_error.into()), SqlType::Int),
            "@@IDENTITY" => self.known(identity(self.facts.identity), SqlType::Decimal { precision: 38, scale: 0 }),
            "@@MAX_PRECISION" => self.known(Value::Integer(38), SqlType::TinyInt),
            "@@MICROSOFTVERSION" => self.known(Value::Integer(0x1000_0000), SqlType::Int),
            "@@LOCK_TIMEOUT" => self.known(Value::Integer(-1), SqlType::Int),
            "@@OPTIONS" => self.known(Value::Integer(5496), SqlType::Int),
            _ => return Err(errors::unknown_variable(name)),
        })
    }

    /// A word that is a function without parentheses.
    pub(crate) fn bare_word(&mut self, word: &str) -> Option<Bound> {
        match word.to_ascii_uppercase().as_str() {
            "CURRENT_TIMESTAMP" => Some(self.now(SqlType::DateTime)),
            "SYSTEM_USER" | "SESSION_USER" | "CURRENT_USER" | "USER" => {
                let user = self.user(word);
                Some(self.known_text_value(&user))
            }
            _ => None,
        }
    }

    fn user(&self, word: &str) -> String {
        if word.eq_ignore_ascii_case("SYSTEM_USER") { self.facts.user.clone() } else { "dbo".to_owned() }
    }

    /// A call of a function.
    pub(crate) fn call(&mut self, function: &Function, scope: &Scope<'_>) -> Result<Bound, SqlError> {
        let name = function.name.to_string().to_ascii_uppercase();
        let name = name.trim_start_matches("SYS.").to_owned();
        if function.over.is_some() {
            return self.over(&name, function, scope);
        }
        if let Some(aggregate) = self.aggregate(&name, function, scope)? {
            return Ok(aggregate);
        }
        let args = arguments(function)?;
        if let Some(bound) = self.about_the_server(&name, &args)? {
            return Ok(bound);
        }
        if let Some(bound) = self.about_dates(&name, &args, scope)? {
            return Ok(bound);
        }
        let bound = args.iter().map(|arg| self.expr(arg, scope)).collect::<Result<Vec<_>, _>>()?;
        scalar(&name, bound)
    }

    fn over(&mut self, name: &str, function: &Function, scope: &Scope<'_>) -> Result<Bound, SqlError> {
        use sqlparser::ast::WindowType;
        let Some(WindowType::WindowSpec(window)) = &function.over else { return Err(errors::unsupported("a named window")) };
        if window.window_frame.is_some() || !matches!(name, "ROW_NUMBER" | "RANK" | "DENSE_RANK") {
            return Err(errors::unsupported(format!("{name} OVER")));
        }
        let partition = window.partition_by.iter().map(|expr| Ok(self.expr(expr, scope)?.sql)).collect::<Result<Vec<_>, SqlError>>()?;
        let order = window
            .order_by
            .iter()
            .map(|item| Ok(format!("{}{}", self.expr(&item.expr, scope)?.sql, super::query::direction(item))))
            .collect::<Result<Vec<_>, SqlError>>()?;
        let partition = if partition.is_empty() { String::new() } else { format!("PARTITION BY {} ", partition.join(", ")) };
        let order = if order.is_empty() { String::new() } else { format!("ORDER BY {}", order.join(", ")) };
        Ok(Bound::present(format!("{}() OVER ({partition}{order})", name.to_ascii_lowercase()), SqlType::BigInt))
    }

    fn aggregate(&mut self, name: &str, function: &Function, scope: &Scope<'_>) -> Result<Option<Bound>, SqlError> {
        if !matches!(name, "COUNT" | "COUNT_BIG" | "SUM" | "MIN" | "MAX" | "AVG" | "STRING_AGG") {
            return Ok(None);
        }
        let FunctionArguments::List(list) = &function.args else { return Err(errors::wrong_argument_count(name, 1)) };
        let distinct = if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) { "DISTINCT " } else { "" };
        let count_type = if name == "COUNT_BIG" { SqlType::BigInt } else { SqlType::Int };
        if matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard | FunctionArgExpr::WildcardWithOptions(_))]) {
            return if name.starts_with("COUNT") { Ok(Some(Bound::present("count(*)", count_type))) } else { Err(errors::syntax("*")) };
        }
        let args = arguments(function)?;
        let Some(first) = args.first() else { return Err(errors::wrong_argument_count(name, 1)) };
        let value = self.expr(first, scope)?;
        let collate = if value.ty.is_text() { " COLLATE NOCASE" } else { "" };
        Ok(Some(match name {
            "COUNT" | "COUNT_BIG" => Bound::present(format!("count({distinct}{})", value.sql), count_type),
            "SUM" => {
                let ty = match value.ty {
                    SqlType::Bit | SqlType::TinyInt | SqlType::SmallInt => SqlType::Int,
                    SqlType::Decimal { scale, .. } => SqlType::Decimal { precision: 38, scale },
                    SqlType::Real => SqlType::Float,
                    other => other,
                };
                Bound::new(format!("sum({distinct}{})", value.sql), ty)
            }
            // The average of whole numbers is a whole number.
            "AVG" if value.ty.is_integer() => {
                let ty = if value.ty == SqlType::BigInt { SqlType::BigInt } else { SqlType::Int };
                Bound::new(format!("ms_div(sum({distinct}{v}), count({distinct}{v}))", v = value.sql), ty)
            }
            "AVG" => {
                let ty = match value.ty {
                    SqlType::Real => SqlType::Float,
                    SqlType::Decimal { scale, .. } => SqlType::Decimal { precision: 38, scale: scale.max(6) },
                    other => other,
                };
                Bound::new(format!("avg({distinct}{})", value.sql), ty)
            }
            "STRING_AGG" => {
                let [_, separator] = args.as_slice() else { return Err(errors::wrong_argument_count(name, 2)) };
                let separator = self.expr(separator, scope)?;
                Bound::new(format!("group_concat({}, {})", value.sql, separator.sql), SqlType::NVarChar(Length::Max))
            }
            _ => Bound {
                form: Form::Other,
                nullable: true,
                ..Bound::new(format!("{}({}{collate})", name.to_ascii_lowercase(), value.sql), value.ty)
            },
        }))
    }

    /// What is known of the server, the session and its objects when the statement is read.
    fn about_the_server(&mut self, name: &str, args: &[Expr]) -> Result<Option<Bound>, SqlError> {
        let facts = self.facts;
        let known = |index: usize| args.get(index).and_then(|arg| self.known_text(arg));
        let text = |bound: Option<&str>| bound.map_or(Value::Null, |text| Value::Text(text.to_owned()));
        let (value, ty) = match name {
            "SERVERPROPERTY" => {
                let property = known(0).ok_or_else(|| errors::unsupported("SERVERPROPERTY of an expression"))?;
                catalog::server_property(&facts.instance, &property)
            }
            "DATABASEPROPERTYEX" => {
                let (database, property) = (known(0).unwrap_or_default(), known(1).unwrap_or_default());
                catalog::database_property(&facts.instance, &database, &property)
            }
            "DB_NAME" if args.is_empty() => (text(Some(&facts.database.name)), NAME),
            "DB_NAME" => {
                let id = args.first().map(ToString::to_string).and_then(|id| id.parse::<i64>().ok());
                let database = facts.instance.storage.databases().into_iter().find(|database| Some(database.id) == id);
                (text(database.as_ref().map(|database| database.name.as_str())), NAME)
            }
            "DB_ID" => {
                let wanted = if args.is_empty() { Some(facts.database.name.clone()) } else { known(0) };
                let found = wanted.and_then(|name| facts.instance.storage.database(&name));
                (found.map_or(Value::Null, |database| Value::Integer(database.id)), SqlType::SmallInt)
            }
            "OBJECT_ID" => {
                let wanted = known(0).ok_or_else(|| errors::unsupported("OBJECT_ID of an expression"))?;
                let kind = known(1);
                (catalog::object_id(facts, &wanted, kind.as_deref()).map_or(Value::Null, Value::Integer), SqlType::Int)
            }
            "SUSER_SNAME" | "SUSER_NAME" | "ORIGINAL_LOGIN" => (text(Some(&facts.user)), NAME),
            "USER_NAME" | "SCHEMA_NAME" => (text(Some("dbo")), NAME),
            "HOST_NAME" => (text(Some(&facts.host)), NAME),
            "APP_NAME" | "PROGRAM_NAME" => (text(Some(&facts.program)), NAME),
            "SCOPE_IDENTITY" => (identity(facts.identity), SqlType::Decimal { precision: 38, scale: 0 }),
            "ROWCOUNT_BIG" => (Value::Integer(facts.rows), SqlType::BigInt),
            "XACT_STATE" => (Value::Integer(if facts.doomed { -1 } else { i64::from(facts.transactions > 0) }), SqlType::SmallInt),
            "IS_SRVROLEMEMBER" | "IS_MEMBER" | "HAS_PERMS_BY_NAME" => (Value::Integer(1), SqlType::Int),
            "ERROR_NUMBER" => (facts.caught.as_ref().map_or(Value::Null, |error| Value::Integer(error.number.into())), SqlType::Int),
            "ERROR_SEVERITY" => (facts.caught.as_ref().map_or(Value::Null, |error| Value::Integer(error.class.into())), SqlType::Int),
            "ERROR_STATE" => (facts.caught.as_ref().map_or(Value::Null, |error| Value::Integer(error.state.into())), SqlType::Int),
            "ERROR_MESSAGE" => (text(facts.caught.as_ref().map(|error| error.message.as_str())), SqlType::NVarChar(Length::Max)),
            _ => return Ok(None),
        };
        Ok(Some(self.known(value, ty)))
    }

    fn about_dates(&mut self, name: &str, args: &[Expr], scope: &Scope<'_>) -> Result<Option<Bound>, SqlError> {
        let ty = match name {
            "GETDATE" | "GETUTCDATE" | "CURRENT_TIMESTAMP" => SqlType::DateTime,
            "SYSUTCDATETIME" | "SYSDATETIME" => SqlType::DateTime2(7),
            "DATEADD" | "DATEDIFF" | "DATEDIFF_BIG" | "DATEPART" => return self.date_part(name, args, scope).map(Some),
            "YEAR" | "MONTH" | "DAY" => {
                let [of] = args else { return Err(errors::wrong_argument_count(name, 1)) };
                let value = as_moment(self.expr(of, scope)?);
                return Ok(Some(Bound::new(format!("ms_datepart('{}', {})", name.to_ascii_lowercase(), value.sql), SqlType::Int)));
            }
            _ => return Ok(None),
        };
        Ok(Some(self.now(ty)))
    }

    fn date_part(&mut self, name: &str, args: &[Expr], scope: &Scope<'_>) -> Result<Bound, SqlError> {
        let Some((Expr::Identifier(part), rest)) = args.split_first() else { return Err(errors::wrong_argument_count(name, 3)) };
        let part = &part.value;
        if DatePart::named(part).is_none() {
            return Err(errors::unsupported(format!("{name} of {part}")));
        }
        let rest = rest.iter().map(|arg| self.expr(arg, scope)).collect::<Result<Vec<_>, _>>()?;
        match (name, <[Bound; 2]>::try_from(rest.clone()), rest.as_slice()) {
            ("DATEPART", _, [of]) => Ok(Bound::new(format!("ms_datepart('{part}', {})", as_moment(of.clone()).sql), SqlType::Int)),
            ("DATEADD", Ok([count, to]), _) => {
                let to = as_moment(to);
                let count = converted(count, SqlType::BigInt);
                Ok(Bound::new(format!("ms_dateadd('{part}', {}, {}, '{}')", to.sql, count.sql, to.ty), to.ty))
            }
            ("DATEDIFF" | "DATEDIFF_BIG", Ok([from, to]), _) => {
                let ty = if name == "DATEDIFF" { SqlType::Int } else { SqlType::BigInt };
                Ok(Bound::new(format!("ms_datediff('{part}', {}, {})", as_moment(from).sql, as_moment(to).sql), ty))
            }
            _ => Err(errors::wrong_argument_count(name, if name == "DATEPART" { 2 } else { 3 })),
        }
    }
}

fn identity(value: Option<i64>) -> Value {
    value.map_or(Value::Null, Value::Integer)
}

fn as_moment(value: Bound) -> Bound {
    if value.ty.is_text() { converted(value, SqlType::DateTime) } else { value }
}

/// The arguments that are plain expressions.
fn arguments(function: &Function) -> Result<Vec<Expr>, SqlError> {
    match &function.args {
        FunctionArguments::None => Ok(Vec::new()),
        FunctionArguments::Subquery(_) => Err(errors::unsupported(function)),
        FunctionArguments::List(list) => list
            .args
            .iter()
            .map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr.clone()),
                other => Err(errors::syntax(&other.to_string())),
            })
            .collect(),
    }
}

fn as_text(value: Bound) -> Bound {
    if value.ty.is_text() { value } else { converted(value, SqlType::VarChar(Length::Of(CONVERTED_LENGTH))) }
}

/// Functions of their arguments alone.
#[expect(clippy::too_many_lines, reason = "a table: an arm for each function")]
fn scalar(name: &str, args: Vec<Bound>) -> Result<Bound, SqlError> {
    let count = args.len();
    let exactly = |wanted: usize| if count == wanted { Ok(()) } else { Err(errors::wrong_argument_count(name, wanted)) };
    let joined = |args: &[Bound]| args.iter().map(|arg| arg.sql.as_str()).collect::<Vec<_>>().join(", ");
    match name {
        "ISNULL" => {
            exactly(2)?;
            let [first, second] = <[Bound; 2]>::try_from(args).expect("the count was checked");
            let ty = if first.form == Form::Null { second.ty } else { first.ty };
            let nullable = second.nullable;
            // The second is cut to the first's length; nowhere else does a silent conversion cut.
            let second = if ty.length().is_some() { explicitly(second, ty, "0", false) } else { converted(second, ty) };
            Ok(Bound { nullable, ..Bound::new(format!("ifnull({}, {})", first.sql, second.sql), ty) })
        }
        "COALESCE" => {
            if count < 2 {
                return Err(errors::wrong_argument_count(name, 2));
            }
            let ty = common_type(&args);
            let args: Vec<_> = args.into_iter().map(|arg| converted(arg, ty)).collect();
            Ok(Bound::new(format!("coalesce({})", joined(&args)), ty))
        }
        "NULLIF" => {
            exactly(2)?;
            Ok(Bound::new(format!("nullif({})", joined(&args)), args[0].ty))
        }
        "IIF" => {
            exactly(3)?;
            let [condition, yes, no] = <[Bound; 3]>::try_from(args).expect("the count was checked");
            let ty = common_type(&[yes.clone(), no.clone()]);
            Ok(Bound::new(format!("iif({}, {}, {})", condition.sql, converted(yes, ty).sql, converted(no, ty).sql), ty))
        }
        "LEN" => {
            exactly(1)?;
            let value = as_text(args[0].clone());
            Ok(Bound::new(format!("ms_length(rtrim({}, ' '), '{}')", value.sql, value.ty), SqlType::Int))
        }
        "DATALENGTH" => {
            exactly(1)?;
            let value = &args[0];
            let sql = match value.ty {
                ty @ (SqlType::NVarChar(_) | SqlType::NChar(_)) => format!("(2 * ms_length({}, '{ty}'))", value.sql),
                ty @ (SqlType::VarChar(_) | SqlType::Char(_)) => format!("ms_length({}, '{ty}')", value.sql),
                SqlType::VarBinary(_) | SqlType::Binary(_) => format!("length({})", value.sql),
                _ => return Err(errors::unsupported(format!("DATALENGTH of {}", value.ty.name()))),
            };
            Ok(Bound::new(sql, SqlType::Int))
        }
        "UPPER" | "LOWER" | "LTRIM" | "RTRIM" | "TRIM" => {
            exactly(1)?;
            let value = as_text(args[0].clone());
            Ok(Bound { form: Form::Other, sql: format!("{}({})", name.to_ascii_lowercase(), value.sql), ..value })
        }
        "LEFT" | "RIGHT" => {
            exactly(2)?;
            let value = as_text(args[0].clone());
            let length = &args[1].sql;
            let sql = if name == "LEFT" {
                format!("substr({}, 1, {length})", value.sql)
            } else {
                format!("iif({length} = 0, '', substr({}, -({length})))", value.sql)
            };
            Ok(Bound { form: Form::Other, sql, ..value })
        }
        "SUBSTRING" => {
            exactly(3)?;
            Ok(Bound { form: Form::Other, sql: format!("substr({})", joined(&args)), ..args[0].clone() })
        }
        "REPLACE" => {
            exactly(3)?;
            let ty = if args[0].ty.is_national() { SqlType::NVarChar(Length::Max) } else { SqlType::VarChar(Length::Of(8000)) };
            Ok(Bound::new(format!("replace({})", joined(&args)), ty))
        }
        "REPLICATE" => {
            exactly(2)?;
            let ty = if args[0].ty.is_national() { SqlType::NVarChar(Length::Max) } else { SqlType::VarChar(Length::Of(8000)) };
            Ok(Bound::new(format!("ms_replicate({})", joined(&args)), ty))
        }
        "CHARINDEX" => {
            exactly(2)?;
            Ok(Bound::new(format!("instr(lower({}), lower({}))", args[1].sql, args[0].sql), SqlType::Int))
        }
        "CONCAT" => {
            if count < 2 {
                return Err(errors::wrong_argument_count(name, 2));
            }
            let mut parts = args.into_iter().map(|arg| {
                let arg = as_text(arg);
                Bound { sql: format!("ifnull({}, '')", arg.sql), ..arg }
            });
            let first = parts.next().expect("the count was checked");
            Ok(parts.fold(first, |whole, part| concatenated(&whole, &part)))
        }
        "ABS" | "SIGN" => {
            exactly(1)?;
            Ok(Bound { form: Form::Other, sql: format!("{}({})", name.to_ascii_lowercase(), args[0].sql), ..args[0].clone() })
        }
        "CEILING" | "FLOOR" => {
            exactly(1)?;
            let function = if name == "CEILING" { "ceil" } else { "floor" };
            Ok(Bound { form: Form::Other, sql: format!("{function}({})", args[0].sql), ..args[0].clone() })
        }
        "ROUND" => {
            exactly(2)?;
            Ok(Bound { form: Form::Other, sql: format!("round({})", joined(&args)), ..args[0].clone() })
        }
        "NEWID" => {
            exactly(0)?;
            Ok(Bound::present("ms_newid()", SqlType::UniqueIdentifier))
        }
        "RAND" => {
            exactly(0)?;
            Ok(Bound::present("ms_rand()", SqlType::Float))
        }
        "QUOTENAME" => {
            exactly(1)?;
            Ok(Bound::new(format!("('[' || replace({}, ']', ']]') || ']')", args[0].sql), SqlType::NVarChar(Length::Of(258))))
        }
        _ => Err(errors::unknown_function(name)),
    }
}
