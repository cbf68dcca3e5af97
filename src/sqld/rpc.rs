//! Remote procedure calls and requests to the transaction manager, as they stand on the wire.

use bytes::Buf;

use super::{
    errors::{self, SqlError},
    types::{TypedValue, Unreadable, read_parameter, utf16},
};

/// A call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// What is called.
    pub(crate) procedure: Procedure,
    /// The parameters, in order.
    pub(crate) parameters: Vec<Parameter>,
}

/// The procedures that the protocol has numbers for, and all others by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Procedure {
    /// `sp_executesql`
    ExecuteSql,
    /// `sp_prepare`
    Prepare,
    /// `sp_execute`
    Execute,
    /// `sp_prepexec`
    PrepareAndExecute,
    /// `sp_unprepare`
    Unprepare,
    /// Any other.
    Named(String),
}

impl Procedure {
    fn numbered(number: u16) -> Self {
        match number {
            10 => Self::ExecuteSql,
            11 => Self::Prepare,
            12 => Self::Execute,
            13 => Self::PrepareAndExecute,
            15 => Self::Unprepare,
            1 => Self::Named("sp_cursor".to_owned()),
            2 => Self::Named("sp_cursoropen".to_owned()),
            other => Self::Named(format!("procedure {other}")),
        }
    }

    /// The procedure of a name.
    pub(crate) fn named(name: &str) -> Self {
        let plain = name.rsplit('.').next().unwrap_or(name).trim_matches(['[', ']']).to_ascii_lowercase();
        match plain.as_str() {
            "sp_executesql" => Self::ExecuteSql,
            "sp_prepare" => Self::Prepare,
            "sp_execute" => Self::Execute,
            "sp_prepexec" => Self::PrepareAndExecute,
            "sp_unprepare" => Self::Unprepare,
            _ => Self::Named(name.to_owned()),
        }
    }
}

/// A parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameter {
    /// Its name, with the `@`; empty: it is given by its place.
    pub(crate) name: String,
    /// Whether the procedure may change it.
    pub(crate) output: bool,
    /// Its value.
    pub(crate) value: TypedValue,
}

/// The body of a request without the headers before it; `None`: they are malformed.
pub(crate) fn without_headers(body: &[u8]) -> Option<&[u8]> {
    let mut head = body.get(..4)?;
    let length = head.get_u32_le() as usize;
    if length < 4 {
        return None;
    }
    body.get(length..)
}

/// Reads the calls of a request; there may be several.
pub(crate) fn parse(body: &[u8]) -> Result<Vec<Call>, SqlError> {
    let mut input = without_headers(body).ok_or_else(|| errors::malformed_request("headers of a remote procedure call"))?;
    let cut = || errors::malformed_request("a remote procedure call");
    let mut calls = Vec::new();
    while !input.is_empty() {
        let procedure = match u16_le(&mut input).ok_or_else(cut)? {
            u16::MAX => Procedure::numbered(u16_le(&mut input).ok_or_else(cut)?),
            units => Procedure::named(&text(&mut input, usize::from(units)).ok_or_else(cut)?),
        };
        // Options: whether to compile again, and whether to leave out the columns. Neither makes a difference here.
        u16_le(&mut input).ok_or_else(cut)?;
        let mut parameters = Vec::new();
        while let Some((&first, rest)) = input.split_first() {
            if matches!(first, 0xFF | 0xFE) {
                input = rest;
                break;
            }
            input = rest;
            let name = text(&mut input, usize::from(first)).ok_or_else(cut)?;
            let (&status, rest) = input.split_first().ok_or_else(cut)?;
            input = rest;
            let value = read_parameter(&mut input).map_err(|why| match why {
                Unreadable::Malformed => cut(),
                Unreadable::Type(code) => errors::unknown_wire_type(parameters.len() + 1, &name, code),
            })?;
            parameters.push(Parameter { name, output: status & 1 != 0, value });
        }
        calls.push(Call { procedure, parameters });
    }
    if calls.is_empty() { Err(cut()) } else { Ok(calls) }
}

fn u16_le(input: &mut &[u8]) -> Option<u16> {
    let (bytes, rest) = input.split_first_chunk::<2>()?;
    *input = rest;
    Some(u16::from_le_bytes(*bytes))
}

fn text(input: &mut &[u8], units: usize) -> Option<String> {
    let (bytes, rest) = input.split_at_checked(units * 2)?;
    *input = rest;
    Some(utf16(bytes))
}

/// A request to the transaction manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TransactionRequest {
    /// Begin one, which may have a name.
    Begin(Option<String>),
    /// Commit it, and perhaps begin the next.
    Commit {
        /// Whether another begins at once.
        then_begin: bool,
    },
    /// Roll it back, perhaps only to a savepoint, and perhaps begin the next.
    Rollback {
        /// The savepoint.
        savepoint: Option<String>,
        /// Whether another begins at once.
        then_begin: bool,
    },
    /// Set a savepoint.
    Save(String),
}

/// Reads such a request.
pub(crate) fn parse_transaction(body: &[u8]) -> Result<TransactionRequest, SqlError> {
    let cut = || errors::malformed_request("a transaction manager request");
    let mut input = without_headers(body).ok_or_else(cut)?;
    let kind = u16_le(&mut input).ok_or_else(cut)?;
    let name = |input: &mut &[u8]| -> Option<String> {
        let (&length, rest) = input.split_first()?;
        *input = rest;
        text(input, usize::from(length) / 2)
    };
    let then_begin = |input: &[u8]| input.first().is_some_and(|flags| flags & 1 != 0);
    match kind {
        5 => {
            // Before the name stands the isolation level, which makes no difference here.
            let name = input.split_off_first().and_then(|_| name(&mut input));
            Ok(TransactionRequest::Begin(name.filter(|name| !name.is_empty())))
        }
        7 => {
            name(&mut input).ok_or_else(cut)?;
            Ok(TransactionRequest::Commit { then_begin: then_begin(input) })
        }
        8 => {
            let savepoint = name(&mut input).ok_or_else(cut)?;
            let savepoint = (!savepoint.is_empty()).then_some(savepoint);
            Ok(TransactionRequest::Rollback { savepoint, then_begin: then_begin(input) })
        }
        9 => Ok(TransactionRequest::Save(name(&mut input).ok_or_else(cut)?)),
        other => Err(errors::unsupported(format!("transaction manager request {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::types::Value;

    use super::*;

    const HEADERS: [u8; 4] = [4, 0, 0, 0];

    fn units(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn a_call_by_name_and_one_by_number_are_the_same() {
        let mut by_name = HEADERS.to_vec();
        by_name.extend(13_u16.to_le_bytes());
        by_name.extend(units("sp_executesql"));
        by_name.extend([0, 0]);
        let mut by_number = HEADERS.to_vec();
        by_number.extend([0xFF, 0xFF, 10, 0, 0, 0]);
        assert_eq!(parse(&by_name).expect("well formed"), parse(&by_number).expect("well formed"));
    }

    #[test]
    fn parameters_are_read_with_names_and_directions() {
        let mut body = HEADERS.to_vec();
        body.extend([0xFF, 0xFF, 10, 0, 0, 0]);
        body.push(3);
        body.extend(units("@P1"));
        body.extend([1, 0x26, 4, 4, 42, 0, 0, 0]);
        let calls = parse(&body).expect("well formed");
        let parameter = &calls[0].parameters[0];
        assert_eq!((parameter.name.as_str(), parameter.output, &parameter.value.value), ("@P1", true, &Value::Integer(42)));
    }

    #[test]
    fn an_unknown_type_is_named_by_its_number() {
        let mut body = HEADERS.to_vec();
        body.extend([0xFF, 0xFF, 10, 0, 0, 0, 0, 0, 0xF3]);
        assert_eq!(parse(&body).expect_err("no table types here").number, 8009);
    }

    proptest! {
        #[test]
        fn a_malformed_call_is_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut body = HEADERS.to_vec();
            body.extend(bytes);
            let _ = parse(&body);
            let _ = parse_transaction(&body);
        }
    }
}
