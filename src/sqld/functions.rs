//! The functions that SQLite lacks, as the translated statements call them.

use chrono::NaiveDateTime;
use rusqlite::{
    Connection,
    functions::{Context, FunctionFlags},
    types::{Value, ValueRef},
};

use super::{
    convert::{self, DatePart},
    errors::{self, SqlError},
    moment,
    types::{SqlType, owned},
};

/// Makes the functions known to a connection.
pub(crate) fn register(connection: &Connection) -> rusqlite::Result<()> {
    let pure = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("ms_convert", 4, pure, |context| {
        let (from, to, style): (String, String, i64) = (context.get(1)?, context.get(2)?, context.get(3)?);
        answer(
            from.parse()
                .and_then(|from| Ok((from, to.parse()?)))
                .and_then(|(from, to)| convert::convert(owned(context.get_raw(0)), from, to, style)),
        )
    })?;
    connection.create_scalar_function("ms_try_convert", 4, pure, |context| {
        let (from, to, style): (String, String, i64) = (context.get(1)?, context.get(2)?, context.get(3)?);
        let types = from.parse().and_then(|from| Ok((from, to.parse()?)));
        answer(types.map(|(from, to)| convert::convert(owned(context.get_raw(0)), from, to, style).unwrap_or(Value::Null)))
    })?;
    connection.create_scalar_function("ms_length", 2, pure, |context| {
        let (text, ty): (Option<String>, String) = (context.get(0)?, context.get(1)?);
        let ty: SqlType = ty.parse().map_err(SqlError::into_function_error)?;
        let length: Option<usize> = text.map(|text| text.chars().map(|character| ty.width(character)).sum());
        Ok(length.and_then(|length| i64::try_from(length).ok()))
    })?;
    connection.create_scalar_function("ms_div", 2, pure, |context| answer(divide(context.get_raw(0), context.get_raw(1))))?;
    connection.create_scalar_function("ms_mod", 2, pure, |context| answer(modulo(context.get_raw(0), context.get_raw(1))))?;
    connection
        .create_scalar_function("ms_newid", 0, FunctionFlags::SQLITE_UTF8, |_| Ok(uuid::Uuid::new_v4().to_string().to_uppercase()))?;
    connection.create_scalar_function("ms_rand", 0, FunctionFlags::SQLITE_UTF8, |_| Ok(fastrand::f64()))?;
    connection
        .create_scalar_function("ms_datepart", 2, pure, |context| answer(dated(context, 1, |part, at| Ok(Value::Integer(part.of(at))))))?;
    connection.create_scalar_function("ms_datediff", 3, pure, |context| {
        answer(dated(context, 1, |part, from| {
            let Some(to) = at(context, 2)? else { return Ok(Value::Null) };
            Ok(Value::Integer(part.between(from, to)))
        }))
    })?;
    connection.create_scalar_function("ms_dateadd", 4, pure, |context| {
        let (count, ty): (Option<i64>, String) = (context.get(2)?, context.get(3)?);
        answer(dated(context, 1, |part, at| {
            let Some(count) = count else { return Ok(Value::Null) };
            let ty: SqlType = ty.parse()?;
            let later = part.add(at, count).ok_or_else(|| errors::overflow(ty.name()))?;
            Ok(Value::Text(moment::store(later, ty)))
        }))
    })?;
    connection.create_scalar_function("ms_replicate", 2, pure, |context| {
        let (text, count): (Option<String>, Option<i64>) = (context.get(0)?, context.get(1)?);
        // SQL Server too cuts the result at 8000 bytes, unless the text is of type (max).
        Ok(text.zip(count.and_then(|count| usize::try_from(count).ok())).map(|(text, count)| {
            let fitting = 8000 / text.len().max(1);
            text.repeat(count.min(fitting))
        }))
    })
}

fn answer(result: Result<Value, SqlError>) -> rusqlite::Result<Value> {
    result.map_err(SqlError::into_function_error)
}

fn dated(
    context: &Context<'_>,
    index: usize,
    apply: impl FnOnce(DatePart, NaiveDateTime) -> Result<Value, SqlError>,
) -> Result<Value, SqlError> {
    let word: String = context.get(0).map_err(|error| errors::from_sqlite(&error))?;
    let part = DatePart::named(&word).ok_or_else(|| errors::syntax(&word))?;
    match at(context, index)? {
        Some(at) => apply(part, at),
        None => Ok(Value::Null),
    }
}

fn at(context: &Context<'_>, index: usize) -> Result<Option<NaiveDateTime>, SqlError> {
    match context.get_raw(index) {
        ValueRef::Null => Ok(None),
        ValueRef::Text(bytes) => moment::parse(&String::from_utf8_lossy(bytes)).map(Some).ok_or_else(errors::not_a_date),
        _ => Err(errors::not_a_date()),
    }
}

fn divide(left: ValueRef<'_>, right: ValueRef<'_>) -> Result<Value, SqlError> {
    match (left, right) {
        (ValueRef::Null, _) | (_, ValueRef::Null) => Ok(Value::Null),
        (_, ValueRef::Integer(0)) => Err(errors::divide_by_zero()),
        (ValueRef::Integer(left), ValueRef::Integer(right)) => {
            left.checked_div(right).map(Value::Integer).ok_or_else(|| errors::overflow("bigint"))
        }
        (left, right) => {
            let (left, right) = (number(left), number(right));
            if right == 0.0 { Err(errors::divide_by_zero()) } else { Ok(Value::Real(left / right)) }
        }
    }
}

fn modulo(left: ValueRef<'_>, right: ValueRef<'_>) -> Result<Value, SqlError> {
    match (left, right) {
        (ValueRef::Null, _) | (_, ValueRef::Null) => Ok(Value::Null),
        (_, ValueRef::Integer(0)) => Err(errors::divide_by_zero()),
        (ValueRef::Integer(left), ValueRef::Integer(right)) => Ok(Value::Integer(left.wrapping_rem(right))),
        (left, right) => {
            let (left, right) = (number(left), number(right));
            if right == 0.0 { Err(errors::divide_by_zero()) } else { Ok(Value::Real(left % right)) }
        }
    }
}

fn number(value: ValueRef<'_>) -> f64 {
    match value {
        ValueRef::Integer(number) => number as f64,
        ValueRef::Real(number) => number,
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).trim().parse().unwrap_or(0.0),
        _ => 0.0,
    }
}
