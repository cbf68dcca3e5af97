//! The data types: their T-SQL names, their TYPE_INFO on the wire, and their values both ways.
//!
//! Values live as SQLite keeps them ([`Value`]): whole numbers and bits as integers, `float` as real, text as text, dates as text that
//! sorts (see [`super::moment`]), a `uniqueidentifier` as its upper-case text, a `decimal` as a number that is rounded to its scale when it
//! is sent (so only some 15 digits are exact).

use std::{fmt, str::FromStr};

use bytes::{Buf, BufMut, BytesMut};
use rusqlite::types::{Value, ValueRef};
use sqlparser::{
    ast::{BinaryLength, CharacterLength, DataType, ExactNumberInfo},
    dialect::MsSqlDialect,
    parser::Parser,
};

use super::{
    codepage,
    errors::{self, SqlError},
    moment,
};

/// `SQL_Latin1_General_CP1_CI_AS`, as the wire has it.
pub(crate) const COLLATION: [u8; 5] = [0x09, 0x04, 0xD0, 0x00, 0x34];

/// The longest `varchar(n)` and `varbinary(n)`.
const MAX_BYTES: u16 = 8000;
/// The longest `nvarchar(n)`.
const MAX_CHARS: u16 = 4000;

/// How long a value may be: bytes, or characters for the national types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// At most so many.
    Of(u16),
    /// `(max)`.
    Max,
}

/// A data type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SqlType {
    /// `bit`
    Bit,
    /// `tinyint`
    TinyInt,
    /// `smallint`
    SmallInt,
    /// `int`
    Int,
    /// `bigint`
    BigInt,
    /// `real`
    Real,
    /// `float`
    Float,
    /// `decimal(p, s)` and `numeric(p, s)`
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// `char(n)`
    Char(u16),
    /// `varchar(n)`
    VarChar(Length),
    /// `nchar(n)`
    NChar(u16),
    /// `nvarchar(n)`
    NVarChar(Length),
    /// `binary(n)`
    Binary(u16),
    /// `varbinary(n)`
    VarBinary(Length),
    /// `uniqueidentifier`
    UniqueIdentifier,
    /// `date`
    Date,
    /// `datetime`
    DateTime,
    /// `datetime2(n)`
    DateTime2(u8),
}

/// The families within which SQLite can compare values without a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Numbers and bits.
    Number,
    /// Text.
    Text,
    /// Dates and times.
    Moment,
    /// Bytes.
    Bytes,
    /// `uniqueidentifier`.
    Guid,
}

impl SqlType {
    /// The type's family.
    pub(crate) const fn family(self) -> Family {
        match self {
            Self::Bit | Self::TinyInt | Self::SmallInt | Self::Int | Self::BigInt | Self::Real | Self::Float | Self::Decimal { .. } => {
                Family::Number
            }
            Self::Char(_) | Self::VarChar(_) | Self::NChar(_) | Self::NVarChar(_) => Family::Text,
            Self::Binary(_) | Self::VarBinary(_) => Family::Bytes,
            Self::UniqueIdentifier => Family::Guid,
            Self::Date | Self::DateTime | Self::DateTime2(_) => Family::Moment,
        }
    }

    /// Whether it is a whole number.
    pub(crate) const fn is_integer(self) -> bool {
        matches!(self, Self::Bit | Self::TinyInt | Self::SmallInt | Self::Int | Self::BigInt)
    }

    /// Whether it is text.
    pub(crate) fn is_text(self) -> bool {
        self.family() == Family::Text
    }

    /// Whether it is Unicode text.
    pub(crate) const fn is_national(self) -> bool {
        matches!(self, Self::NChar(_) | Self::NVarChar(_))
    }

    /// How long its values may be, for the types that say so; in characters.
    pub(crate) const fn length(self) -> Option<Length> {
        match self {
            Self::Char(length) | Self::NChar(length) | Self::Binary(length) => Some(Length::Of(length)),
            Self::VarChar(length) | Self::NVarChar(length) | Self::VarBinary(length) => Some(length),
            _ => None,
        }
    }

    /// How long a character is in text of this type: Unicode text counts the units of UTF-16, other text the bytes of the code page.
    pub(crate) const fn width(self, character: char) -> usize {
        if self.is_national() { character.len_utf16() } else { 1 }
    }

    /// The smallest and the largest value of a whole number.
    pub(crate) const fn integer_range(self) -> Option<(i64, i64)> {
        match self {
            Self::Bit => Some((0, 1)),
            Self::TinyInt => Some((0, 255)),
            Self::SmallInt => Some((i16::MIN as i64, i16::MAX as i64)),
            Self::Int => Some((i32::MIN as i64, i32::MAX as i64)),
            Self::BigInt => Some((i64::MIN, i64::MAX)),
            _ => None,
        }
    }

    /// The storage class of a column of this type in a STRICT table of SQLite.
    pub(crate) const fn storage(self) -> &'static str {
        match self {
            Self::Bit | Self::TinyInt | Self::SmallInt | Self::Int | Self::BigInt => "INTEGER",
            Self::Real | Self::Float => "REAL",
            Self::Decimal { .. } => "ANY",
            Self::Binary(_) | Self::VarBinary(_) => "BLOB",
            _ => "TEXT",
        }
    }

    /// The name without length, as error texts have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bit => "bit",
            Self::TinyInt => "tinyint",
            Self::SmallInt => "smallint",
            Self::Int => "int",
            Self::BigInt => "bigint",
            Self::Real => "real",
            Self::Float => "float",
            Self::Decimal { .. } => "decimal",
            Self::Char(_) => "char",
            Self::VarChar(_) => "varchar",
            Self::NChar(_) => "nchar",
            Self::NVarChar(_) => "nvarchar",
            Self::Binary(_) => "binary",
            Self::VarBinary(_) => "varbinary",
            Self::UniqueIdentifier => "uniqueidentifier",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::DateTime2(_) => "datetime2",
        }
    }

    /// The type's number in `sys.types`.
    pub(crate) const fn system_id(self) -> i64 {
        match self {
            Self::Bit => 104,
            Self::TinyInt => 48,
            Self::SmallInt => 52,
            Self::Int => 56,
            Self::BigInt => 127,
            Self::Real => 59,
            Self::Float => 62,
            Self::Decimal { .. } => 106,
            Self::Char(_) => 175,
            Self::VarChar(_) => 167,
            Self::NChar(_) => 239,
            Self::NVarChar(_) => 231,
            Self::Binary(_) => 173,
            Self::VarBinary(_) => 165,
            Self::UniqueIdentifier => 36,
            Self::Date => 40,
            Self::DateTime => 61,
            Self::DateTime2(_) => 42,
        }
    }

    /// The type of text of the same width class that holds both, or of numbers: what `CASE`, `UNION` and arithmetic give.
    pub(crate) fn wider(self, other: Self) -> Self {
        if self == other {
            return self;
        }
        match (self.family(), other.family()) {
            (Family::Text, Family::Text) => {
                let length = match (self.length(), other.length()) {
                    (Some(Length::Of(a)), Some(Length::Of(b))) => Length::Of(a.max(b)),
                    _ => Length::Max,
                };
                if self.is_national() || other.is_national() { Self::nvarchar(length) } else { Self::VarChar(length) }
            }
            (Family::Bytes, Family::Bytes) => match (self.length(), other.length()) {
                (Some(Length::Of(a)), Some(Length::Of(b))) => Self::VarBinary(Length::Of(a.max(b))),
                _ => Self::VarBinary(Length::Max),
            },
            (Family::Number, Family::Number) => {
                if let (Self::Decimal { precision: p, scale: s }, Self::Decimal { precision: q, scale: t }) = (self, other) {
                    let scale = s.max(t);
                    let whole = (p - s).max(q - t);
                    return Self::Decimal { precision: (whole + scale).min(38), scale };
                }
                if self.precedence() >= other.precedence() { self } else { other }
            }
            _ if self.precedence() >= other.precedence() => self,
            _ => other,
        }
    }

    /// `nvarchar` of a length, `(max)` where it would pass 4000.
    pub(crate) fn nvarchar(length: Length) -> Self {
        match length {
            Length::Of(length) if length <= MAX_CHARS => Self::NVarChar(Length::Of(length)),
            _ => Self::NVarChar(Length::Max),
        }
    }

    /// `varchar` of a length, `(max)` where it would pass 8000.
    pub(crate) fn varchar(length: Length) -> Self {
        match length {
            Length::Of(length) if length <= MAX_BYTES => Self::VarChar(Length::Of(length)),
            _ => Self::VarChar(Length::Max),
        }
    }

    /// SQL Server's data type precedence; where two types meet, the higher wins.
    pub(crate) const fn precedence(self) -> u8 {
        match self {
            Self::DateTime2(_) => 30,
            Self::DateTime => 29,
            Self::Date => 28,
            Self::Float => 27,
            Self::Real => 26,
            Self::Decimal { .. } => 25,
            Self::BigInt => 24,
            Self::Int => 23,
            Self::SmallInt => 22,
            Self::TinyInt => 21,
            Self::Bit => 20,
            Self::UniqueIdentifier => 15,
            Self::NVarChar(_) => 10,
            Self::NChar(_) => 9,
            Self::VarChar(_) => 8,
            Self::Char(_) => 7,
            Self::VarBinary(_) => 6,
            Self::Binary(_) => 5,
        }
    }

    /// The type that a parsed declaration names. `default` is the length where none is given: 1 in a declaration, 30 in a conversion.
    pub(crate) fn from_ast(ty: &DataType, default: u16) -> Result<Self, SqlError> {
        let chars = |length: &Option<CharacterLength>, limit: u16| -> Result<Length, SqlError> {
            match length {
                None => Ok(Length::Of(default)),
                Some(CharacterLength::Max) => Ok(Length::Max),
                Some(CharacterLength::IntegerLength { length, .. }) => bounded(*length, limit, ty).map(Length::Of),
            }
        };
        let fixed = |length: Length| match length {
            Length::Of(length) => Ok(length),
            Length::Max => Err(errors::unknown_type(&ty.to_string())),
        };
        Ok(match ty {
            DataType::Bit(_) | DataType::Bool | DataType::Boolean => Self::Bit,
            DataType::TinyInt(_) => Self::TinyInt,
            DataType::SmallInt(_) => Self::SmallInt,
            DataType::Int(_) | DataType::Integer(_) => Self::Int,
            DataType::BigInt(_) => Self::BigInt,
            DataType::Real => Self::Real,
            DataType::Float(ExactNumberInfo::Precision(digits)) if *digits <= 24 => Self::Real,
            DataType::Float(_) | DataType::DoublePrecision | DataType::Double(_) => Self::Float,
            DataType::Decimal(info) | DataType::Numeric(info) => match info {
                ExactNumberInfo::None => Self::Decimal { precision: 18, scale: 0 },
                ExactNumberInfo::Precision(precision) => Self::decimal(*precision, 0, ty)?,
                ExactNumberInfo::PrecisionAndScale(precision, scale) => Self::decimal(*precision, *scale, ty)?,
            },
            DataType::Char(length) | DataType::Character(length) => Self::Char(fixed(chars(length, MAX_BYTES)?)?),
            DataType::Varchar(length) | DataType::CharVarying(length) | DataType::CharacterVarying(length) => {
                Self::VarChar(chars(length, MAX_BYTES)?)
            }
            DataType::Nvarchar(length) => Self::NVarChar(chars(length, MAX_CHARS)?),
            DataType::Text => Self::VarChar(Length::Max),
            DataType::Binary(length) => Self::Binary(length.map_or(Ok(default), |length| bounded(length, MAX_BYTES, ty))?),
            DataType::Varbinary(None) => Self::VarBinary(Length::Of(default)),
            DataType::Varbinary(Some(BinaryLength::Max)) => Self::VarBinary(Length::Max),
            DataType::Varbinary(Some(BinaryLength::IntegerLength { length })) => {
                Self::VarBinary(Length::Of(bounded(*length, MAX_BYTES, ty)?))
            }
            DataType::Uuid => Self::UniqueIdentifier,
            DataType::Date => Self::Date,
            DataType::Datetime(_) => Self::DateTime,
            DataType::Custom(name, modifiers) => {
                let name = name.to_string().to_lowercase();
                let first = modifiers.first().map(ToString::to_string);
                let length = |limit: u16| match &first {
                    None => Ok(Length::Of(default)),
                    Some(text) if text.eq_ignore_ascii_case("max") => Ok(Length::Max),
                    Some(text) => bounded(text.parse().unwrap_or(0), limit, ty).map(Length::Of),
                };
                match name.trim_start_matches("sys.").trim_matches(['[', ']']) {
                    "sysname" => Self::NVarChar(Length::Of(128)),
                    "nchar" => Self::NChar(fixed(length(MAX_CHARS)?)?),
                    "nvarchar" => Self::NVarChar(length(MAX_CHARS)?),
                    "varchar" => Self::VarChar(length(MAX_BYTES)?),
                    "ntext" => Self::NVarChar(Length::Max),
                    "image" => Self::VarBinary(Length::Max),
                    "uniqueidentifier" => Self::UniqueIdentifier,
                    "smalldatetime" => Self::DateTime,
                    "datetime2" => match &first {
                        None => Self::DateTime2(7),
                        Some(text) => match text.parse() {
                            Ok(scale @ 0..=7) => Self::DateTime2(scale),
                            _ => return Err(errors::unknown_type(&ty.to_string())),
                        },
                    },
                    "int" => Self::Int,
                    "bigint" => Self::BigInt,
                    "bit" => Self::Bit,
                    "money" => Self::Decimal { precision: 19, scale: 4 },
                    "smallmoney" => Self::Decimal { precision: 10, scale: 4 },
                    _ => return Err(errors::unknown_type(&ty.to_string())),
                }
            }
            other => return Err(errors::unknown_type(&other.to_string())),
        })
    }

    fn decimal(precision: u64, scale: i64, ty: &DataType) -> Result<Self, SqlError> {
        match (u8::try_from(precision), u8::try_from(scale)) {
            (Ok(precision @ 1..=38), Ok(scale)) if scale <= precision => Ok(Self::Decimal { precision, scale }),
            _ => Err(errors::unknown_type(&ty.to_string())),
        }
    }

    /// Writes the TYPE_INFO of a nullable column of this type.
    pub(crate) fn write_info(self, out: &mut BytesMut) {
        let sized = |out: &mut BytesMut, code: u8, length: Length, unit: u16, collated: bool| {
            out.put_u8(code);
            out.put_u16_le(match length {
                Length::Of(length) => length.max(1) * unit,
                Length::Max => u16::MAX,
            });
            if collated {
                out.put_slice(&COLLATION);
            }
        };
        match self {
            Self::Bit => out.put_slice(&[0x68, 1]),
            Self::TinyInt => out.put_slice(&[0x26, 1]),
            Self::SmallInt => out.put_slice(&[0x26, 2]),
            Self::Int => out.put_slice(&[0x26, 4]),
            Self::BigInt => out.put_slice(&[0x26, 8]),
            Self::Real => out.put_slice(&[0x6D, 4]),
            Self::Float => out.put_slice(&[0x6D, 8]),
            Self::Decimal { precision, scale } => out.put_slice(&[0x6A, decimal_size(precision), precision, scale]),
            Self::Char(length) => sized(out, 0xAF, Length::Of(length), 1, true),
            Self::VarChar(length) => sized(out, 0xA7, length, 1, true),
            Self::NChar(length) => sized(out, 0xEF, Length::Of(length), 2, true),
            Self::NVarChar(length) => sized(out, 0xE7, length, 2, true),
            Self::Binary(length) => sized(out, 0xAD, Length::Of(length), 1, false),
            Self::VarBinary(length) => sized(out, 0xA5, length, 1, false),
            Self::UniqueIdentifier => out.put_slice(&[0x24, 16]),
            Self::Date => out.put_u8(0x28),
            Self::DateTime => out.put_slice(&[0x6F, 8]),
            Self::DateTime2(scale) => out.put_slice(&[0x2A, scale]),
        }
    }

    /// Writes a value of this type, as it stands in a row.
    pub(crate) fn write_value(self, value: ValueRef<'_>, out: &mut BytesMut) -> Result<(), SqlError> {
        if matches!(value, ValueRef::Null) {
            match self.length() {
                Some(Length::Max) => out.put_u64_le(u64::MAX),
                Some(Length::Of(_)) => out.put_u16_le(u16::MAX),
                None => out.put_u8(0),
            }
            return Ok(());
        }
        match self {
            Self::Bit | Self::TinyInt | Self::SmallInt | Self::Int | Self::BigInt => {
                let number = integer(value, self)?;
                let (low, high) = self.integer_range().expect("it is a whole number");
                if !(low..=high).contains(&number) {
                    return Err(errors::overflow(self.name()));
                }
                let size = match self {
                    Self::Bit | Self::TinyInt => 1,
                    Self::SmallInt => 2,
                    Self::Int => 4,
                    _ => 8,
                };
                out.put_u8(size);
                out.put_slice(&number.to_le_bytes()[..usize::from(size)]);
            }
            Self::Real => {
                out.put_u8(4);
                #[expect(clippy::cast_possible_truncation, reason = "a real has four bytes; the rest of the digits are not kept")]
                out.put_f32_le(real(value, self)? as f32);
            }
            Self::Float => {
                out.put_u8(8);
                out.put_f64_le(real(value, self)?);
            }
            Self::Decimal { precision, scale } => write_decimal(value, precision, scale, out)?,
            Self::Char(length) => {
                let mut bytes = Vec::new();
                codepage::encode(&text(value), &mut bytes);
                bytes.resize(bytes.len().max(length.into()), b' ');
                put_sized(&bytes, Length::Of(length), out)?;
            }
            Self::VarChar(length) => match value {
                ValueRef::Text(bytes) if bytes.is_ascii() => put_sized(bytes, length, out)?,
                _ => {
                    let mut bytes = Vec::new();
                    codepage::encode(&text(value), &mut bytes);
                    put_sized(&bytes, length, out)?;
                }
            },
            Self::NChar(length) => {
                let mut units: Vec<u16> = text(value).encode_utf16().collect();
                units.resize(units.len().max(length.into()), u16::from(b' '));
                put_sized(&utf16_bytes(units.into_iter()), Length::Of(length * 2), out)?;
            }
            Self::NVarChar(length) => {
                let limit = match length {
                    Length::Of(length) => Length::Of(length * 2),
                    Length::Max => Length::Max,
                };
                put_sized(&utf16_bytes(text(value).encode_utf16()), limit, out)?;
            }
            Self::Binary(length) => {
                let mut bytes = blob(value);
                bytes.resize(bytes.len().max(length.into()), 0);
                put_sized(&bytes, Length::Of(length), out)?;
            }
            Self::VarBinary(length) => put_sized(&blob(value), length, out)?,
            Self::UniqueIdentifier => {
                let id = uuid::Uuid::try_parse(&text(value)).map_err(|_| errors::not_a_uniqueidentifier())?;
                out.put_u8(16);
                out.put_slice(&id.to_bytes_le());
            }
            Self::Date => {
                let at = moment::parse(&text(value)).ok_or_else(errors::not_a_date)?;
                out.put_u8(3);
                out.put_slice(&moment::day_number(at.date()).to_le_bytes()[..3]);
            }
            Self::DateTime => {
                let at = moment::parse(&text(value)).ok_or_else(errors::not_a_date)?;
                let (days, ticks) = moment::ticks(at);
                out.put_u8(8);
                out.put_i32_le(days);
                out.put_u32_le(ticks);
            }
            Self::DateTime2(scale) => {
                let at = moment::parse(&text(value)).ok_or_else(errors::not_a_date)?;
                let size = time_size(scale);
                out.put_u8(size + 3);
                out.put_slice(&moment::time_units(at, scale).to_le_bytes()[..usize::from(size)]);
                out.put_slice(&moment::day_number(at.date()).to_le_bytes()[..3]);
            }
        }
        Ok(())
    }
}

fn bounded(length: u64, limit: u16, ty: &DataType) -> Result<u16, SqlError> {
    match u16::try_from(length) {
        Ok(length) if (1..=limit).contains(&length) => Ok(length),
        _ => Err(errors::unknown_type(&ty.to_string())),
    }
}

/// The T-SQL form, which [`FromStr`] reads back.
impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Decimal { precision, scale } => write!(f, "({precision}, {scale})"),
            Self::DateTime2(scale) => write!(f, "({scale})"),
            _ => match self.length() {
                Some(Length::Of(length)) => write!(f, "({length})"),
                Some(Length::Max) => f.write_str("(max)"),
                None => Ok(()),
            },
        }
    }
}

impl FromStr for SqlType {
    type Err = SqlError;

    fn from_str(text: &str) -> Result<Self, SqlError> {
        let ty = Parser::new(&MsSqlDialect {})
            .try_with_sql(text)
            .and_then(|mut parser| parser.parse_data_type())
            .map_err(|_| errors::unknown_type(text))?;
        Self::from_ast(&ty, 1)
    }
}

fn integer(value: ValueRef<'_>, ty: SqlType) -> Result<i64, SqlError> {
    match value {
        ValueRef::Integer(number) => Ok(number),
        #[expect(clippy::cast_possible_truncation, reason = "the range is checked; the fraction is cut off, as SQL Server does it")]
        ValueRef::Real(number) if number.abs() < 9.2e18 => Ok(number as i64),
        ValueRef::Real(_) => Err(errors::overflow(ty.name())),
        other => {
            let text = text(other);
            text.trim().parse().map_err(|_| errors::conversion_failed("varchar", &text, ty.name()))
        }
    }
}

fn real(value: ValueRef<'_>, ty: SqlType) -> Result<f64, SqlError> {
    match value {
        ValueRef::Integer(number) => Ok(number as f64),
        ValueRef::Real(number) => Ok(number),
        other => text(other).trim().parse().map_err(|_| errors::cannot_convert("varchar", ty.name())),
    }
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn blob(value: ValueRef<'_>) -> Vec<u8> {
    match value {
        ValueRef::Blob(bytes) => bytes.to_vec(),
        other => text(other).into_bytes(),
    }
}

fn utf16_bytes(units: impl Iterator<Item = u16>) -> Vec<u8> {
    units.flat_map(u16::to_le_bytes).collect()
}

/// Writes bytes with a length before them, or in one chunk where the type is `(max)`. What does not fit is refused: half a value is worse
/// than none.
fn put_sized(bytes: &[u8], limit: Length, out: &mut BytesMut) -> Result<(), SqlError> {
    match limit {
        Length::Of(limit) => {
            let length = u16::try_from(bytes.len()).ok().filter(|&length| length <= limit).ok_or_else(errors::does_not_fit)?;
            out.put_u16_le(length);
            out.put_slice(bytes);
        }
        Length::Max => {
            let length = u32::try_from(bytes.len()).map_err(|_| errors::does_not_fit())?;
            out.put_u64_le(length.into());
            if length > 0 {
                out.put_u32_le(length);
                out.put_slice(bytes);
            }
            out.put_u32_le(0);
        }
    }
    Ok(())
}

const fn decimal_size(precision: u8) -> u8 {
    match precision {
        0..=9 => 5,
        10..=19 => 9,
        20..=28 => 13,
        _ => 17,
    }
}

const fn time_size(scale: u8) -> u8 {
    match scale {
        0..=2 => 3,
        3..=4 => 4,
        _ => 5,
    }
}

fn write_decimal(value: ValueRef<'_>, precision: u8, scale: u8, out: &mut BytesMut) -> Result<(), SqlError> {
    let scaled = scaled(value, scale).ok_or_else(|| errors::overflow("numeric"))?;
    let magnitude = scaled.unsigned_abs();
    if magnitude >= 10_u128.pow(u32::from(precision)) {
        return Err(errors::overflow("numeric"));
    }
    let size = decimal_size(precision);
    out.put_u8(size);
    out.put_u8(u8::from(scaled >= 0));
    out.put_slice(&magnitude.to_le_bytes()[..usize::from(size - 1)]);
    Ok(())
}

/// A number in units of 10^-scale.
fn scaled(value: ValueRef<'_>, scale: u8) -> Option<i128> {
    let text = match value {
        ValueRef::Integer(number) => return i128::from(number).checked_mul(10_i128.checked_pow(u32::from(scale))?),
        ValueRef::Real(number) if number.is_finite() => format!("{number:.*}", usize::from(scale)),
        ValueRef::Real(_) => return None,
        other => format!("{:.*}", usize::from(scale), text(other).trim().parse::<f64>().ok()?),
    };
    text.replace('.', "").parse().ok()
}

/// A value of its own. Text that is no UTF-8 (which nothing here stores) is read as far as it can be.
pub(crate) fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(bytes) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

/// A parameter of a remote procedure call: its type, and its value as SQLite keeps it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TypedValue {
    /// Its type.
    pub(crate) ty: SqlType,
    /// Its value.
    pub(crate) value: Value,
}

/// Why a parameter could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// The message ended too soon, or a length in it cannot be.
    Malformed,
    /// The type is not known here.
    Type(u8),
}

/// Reads the TYPE_INFO and the value of a parameter.
pub(crate) fn read_parameter(input: &mut &[u8]) -> Result<TypedValue, Unreadable> {
    let code = take_u8(input)?;
    Ok(match code {
        0x1F => TypedValue { ty: SqlType::Int, value: Value::Null },
        0x30 => read_integer(input, SqlType::TinyInt, 1)?,
        0x32 => read_integer(input, SqlType::Bit, 1)?,
        0x34 => read_integer(input, SqlType::SmallInt, 2)?,
        0x38 => read_integer(input, SqlType::Int, 4)?,
        0x7F => read_integer(input, SqlType::BigInt, 8)?,
        0x3B => read_float(input, 4)?,
        0x3E => read_float(input, 8)?,
        0x3A => read_datetime(input, 4)?,
        0x3D => read_datetime(input, 8)?,
        0x26 | 0x68 => {
            let declared = take_u8(input)?;
            let ty = match (code, declared) {
                (0x68, _) => SqlType::Bit,
                (_, 1) => SqlType::TinyInt,
                (_, 2) => SqlType::SmallInt,
                (_, 4) => SqlType::Int,
                (_, 8) => SqlType::BigInt,
                _ => return Err(Unreadable::Malformed),
            };
            match take_u8(input)? {
                0 => TypedValue { ty, value: Value::Null },
                size @ (1 | 2 | 4 | 8) => read_integer(input, ty, size)?,
                _ => return Err(Unreadable::Malformed),
            }
        }
        0x6D => {
            let declared = take_u8(input)?;
            match take_u8(input)? {
                0 => TypedValue { ty: if declared == 4 { SqlType::Real } else { SqlType::Float }, value: Value::Null },
                size @ (4 | 8) => read_float(input, size)?,
                _ => return Err(Unreadable::Malformed),
            }
        }
        0x6F => {
            take_u8(input)?;
            match take_u8(input)? {
                0 => TypedValue { ty: SqlType::DateTime, value: Value::Null },
                size @ (4 | 8) => read_datetime(input, size)?,
                _ => return Err(Unreadable::Malformed),
            }
        }
        0x6A | 0x6C => read_decimal(input)?,
        0x24 => {
            take_u8(input)?;
            let ty = SqlType::UniqueIdentifier;
            match take_u8(input)? {
                0 => TypedValue { ty, value: Value::Null },
                16 => {
                    let bytes: [u8; 16] = take(input, 16)?.try_into().expect("sixteen were taken");
                    TypedValue { ty, value: Value::Text(uuid::Uuid::from_bytes_le(bytes).to_string().to_uppercase()) }
                }
                _ => return Err(Unreadable::Malformed),
            }
        }
        0x28 => {
            let ty = SqlType::Date;
            match take_u8(input)? {
                0 => TypedValue { ty, value: Value::Null },
                3 => {
                    let date = moment::from_day_number(take_days(input)?);
                    TypedValue { ty, value: Value::Text(moment::store(date.and_time(chrono::NaiveTime::MIN), ty)) }
                }
                _ => return Err(Unreadable::Malformed),
            }
        }
        0x2A => {
            let scale = take_u8(input)?;
            if scale > 7 {
                return Err(Unreadable::Malformed);
            }
            let ty = SqlType::DateTime2(scale);
            let size = take_u8(input)?;
            if size == 0 {
                return Ok(TypedValue { ty, value: Value::Null });
            }
            if size != time_size(scale) + 3 {
                return Err(Unreadable::Malformed);
            }
            let mut units = [0; 8];
            units[..usize::from(size - 3)].copy_from_slice(take(input, usize::from(size - 3))?);
            let time = moment::from_time_units(u64::from_le_bytes(units), scale);
            let date = moment::from_day_number(take_days(input)?);
            TypedValue { ty, value: Value::Text(moment::store(date.and_time(time), ty)) }
        }
        0xA7 | 0xAF | 0xE7 | 0xEF | 0xA5 | 0xAD => read_sized(input, code)?,
        0x22 | 0x23 | 0x63 => read_long(input, code)?,
        other => return Err(Unreadable::Type(other)),
    })
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], Unreadable> {
    if input.len() < count {
        return Err(Unreadable::Malformed);
    }
    let (head, tail) = input.split_at(count);
    *input = tail;
    Ok(head)
}

fn take_u8(input: &mut &[u8]) -> Result<u8, Unreadable> {
    take(input, 1).map(|bytes| bytes[0])
}

fn take_days(input: &mut &[u8]) -> Result<u32, Unreadable> {
    let bytes = take(input, 3)?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]))
}

fn read_integer(input: &mut &[u8], ty: SqlType, size: u8) -> Result<TypedValue, Unreadable> {
    let mut bytes = take(input, usize::from(size))?;
    let number = match size {
        1 => i64::from(bytes.get_u8()),
        2 => i64::from(bytes.get_i16_le()),
        4 => i64::from(bytes.get_i32_le()),
        _ => bytes.get_i64_le(),
    };
    let number = if ty == SqlType::Bit { i64::from(number != 0) } else { number };
    Ok(TypedValue { ty, value: Value::Integer(number) })
}

fn read_float(input: &mut &[u8], size: u8) -> Result<TypedValue, Unreadable> {
    let mut bytes = take(input, usize::from(size))?;
    Ok(match size {
        4 => TypedValue { ty: SqlType::Real, value: Value::Real(f64::from(bytes.get_f32_le())) },
        _ => TypedValue { ty: SqlType::Float, value: Value::Real(bytes.get_f64_le()) },
    })
}

fn read_datetime(input: &mut &[u8], size: u8) -> Result<TypedValue, Unreadable> {
    let mut bytes = take(input, usize::from(size))?;
    let ticks = match size {
        4 => {
            let days = i32::from(bytes.get_u16_le());
            (days, u32::from(bytes.get_u16_le()) * 60 * 300)
        }
        _ => (bytes.get_i32_le(), bytes.get_u32_le()),
    };
    let ty = SqlType::DateTime;
    Ok(TypedValue { ty, value: Value::Text(moment::store(moment::from_ticks(ticks), ty)) })
}

fn read_decimal(input: &mut &[u8]) -> Result<TypedValue, Unreadable> {
    take_u8(input)?;
    let precision = take_u8(input)?;
    let scale = take_u8(input)?;
    if !(1..=38).contains(&precision) || scale > precision {
        return Err(Unreadable::Malformed);
    }
    let ty = SqlType::Decimal { precision, scale };
    let size = usize::from(take_u8(input)?);
    if size == 0 {
        return Ok(TypedValue { ty, value: Value::Null });
    }
    if size > 17 {
        return Err(Unreadable::Malformed);
    }
    let negative = take_u8(input)? == 0;
    let mut magnitude = [0; 16];
    magnitude[..size - 1].copy_from_slice(take(input, size - 1)?);
    let magnitude = u128::from_le_bytes(magnitude);
    let value = match i64::try_from(magnitude) {
        Ok(whole) if scale == 0 => Value::Integer(if negative { -whole } else { whole }),
        _ => {
            let number = magnitude as f64 / 10_f64.powi(i32::from(scale));
            Value::Real(if negative { -number } else { number })
        }
    };
    Ok(TypedValue { ty, value })
}

/// The types whose length has two bytes, or which come in chunks.
fn read_sized(input: &mut &[u8], code: u8) -> Result<TypedValue, Unreadable> {
    let declared = take(input, 2)?.get_u16_le();
    if matches!(code, 0xA7 | 0xAF | 0xE7 | 0xEF) {
        take(input, COLLATION.len())?;
    }
    let length = if declared == u16::MAX {
        Length::Max
    } else if matches!(code, 0xE7 | 0xEF) {
        Length::Of(declared / 2)
    } else {
        Length::Of(declared)
    };
    let bytes = match length {
        Length::Max => read_chunks(input)?,
        Length::Of(_) => match take(input, 2)?.get_u16_le() {
            u16::MAX => None,
            count => Some(take(input, usize::from(count))?.to_vec()),
        },
    };
    Ok(from_bytes(code, length, bytes))
}

/// `text`, `ntext` and `image`.
fn read_long(input: &mut &[u8], code: u8) -> Result<TypedValue, Unreadable> {
    take(input, 4)?;
    if code != 0x22 {
        take(input, COLLATION.len())?;
    }
    let bytes = match take(input, 4)?.get_u32_le() {
        u32::MAX => None,
        count => Some(take(input, count as usize)?.to_vec()),
    };
    let code = match code {
        0x22 => 0xA5,
        0x23 => 0xA7,
        _ => 0xE7,
    };
    Ok(from_bytes(code, Length::Max, bytes))
}

fn from_bytes(code: u8, length: Length, bytes: Option<Vec<u8>>) -> TypedValue {
    let ty = match code {
        0xA7 | 0xAF => SqlType::VarChar(length),
        0xE7 | 0xEF => SqlType::NVarChar(length),
        _ => SqlType::VarBinary(length),
    };
    let value = bytes.map_or(Value::Null, |bytes| match code {
        0xA7 | 0xAF => Value::Text(codepage::decode(&bytes)),
        0xE7 | 0xEF => Value::Text(utf16(&bytes)),
        _ => Value::Blob(bytes),
    });
    TypedValue { ty, value }
}

/// The text of UTF-16 bytes; a lone surrogate becomes the replacement character.
pub(crate) fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// A value in chunks: its length (or that it is unknown), then chunks until an empty one.
fn read_chunks(input: &mut &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
    if take(input, 8)?.get_u64_le() == u64::MAX {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    loop {
        match take(input, 4)?.get_u32_le() {
            0 => return Ok(Some(bytes)),
            count => bytes.extend_from_slice(take(input, count as usize)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// What a client would read of a value that the server sends, taken by the server's own reader of parameters.
    fn there_and_back(ty: SqlType, value: &Value) -> TypedValue {
        let mut wire = BytesMut::new();
        ty.write_info(&mut wire);
        ty.write_value(value.into(), &mut wire).expect("the value fits the type");
        let mut input = &wire[..];
        let read = read_parameter(&mut input).expect("what the server writes can be read");
        assert!(input.is_empty(), "{} bytes are left over", input.len());
        read
    }

    #[rstest]
    #[case::bit(SqlType::Bit, Value::Integer(1))]
    #[case::tinyint(SqlType::TinyInt, Value::Integer(255))]
    #[case::smallint(SqlType::SmallInt, Value::Integer(-32768))]
    #[case::float(SqlType::Float, Value::Real(0.1))]
    #[case::real(SqlType::Real, Value::Real(0.5))]
    #[case::decimal(SqlType::Decimal { precision: 9, scale: 2 }, Value::Real(-12.34))]
    #[case::whole_decimal(SqlType::Decimal { precision: 18, scale: 0 }, Value::Integer(123_456_789_012))]
    #[case::guid(SqlType::UniqueIdentifier, Value::Text("6F9619FF-8B86-D011-B42D-00C04FC964FF".into()))]
    #[case::date(SqlType::Date, Value::Text("2026-11-23".into()))]
    #[case::datetime(SqlType::DateTime, Value::Text("2026-11-23 16:20:15.123".into()))]
    #[case::datetime2(SqlType::DateTime2(7), Value::Text("2026-11-23 16:20:15.1234567".into()))]
    #[case::datetime2_whole(SqlType::DateTime2(0), Value::Text("0001-01-01 00:00:00".into()))]
    #[case::empty_text(SqlType::VarChar(Length::Of(10)), Value::Text(String::new()))]
    #[case::empty_max(SqlType::NVarChar(Length::Max), Value::Text(String::new()))]
    #[case::bytes(SqlType::VarBinary(Length::Max), Value::Blob(vec![0, 255, 7]))]
    fn a_value_survives_the_wire(#[case] ty: SqlType, #[case] value: Value) {
        assert_eq!(there_and_back(ty, &value), TypedValue { ty, value });
        assert_eq!(there_and_back(ty, &Value::Null), TypedValue { ty, value: Value::Null });
    }

    #[rstest]
    #[case::text("varchar(64)", SqlType::VarChar(Length::Of(64)))]
    #[case::max("nvarchar(max)", SqlType::NVarChar(Length::Max))]
    #[case::national_char("nchar(3)", SqlType::NChar(3))]
    #[case::decimal("decimal(10, 2)", SqlType::Decimal { precision: 10, scale: 2 })]
    #[case::moment("datetime2(3)", SqlType::DateTime2(3))]
    #[case::bytes("varbinary(max)", SqlType::VarBinary(Length::Max))]
    #[case::guid("uniqueidentifier", SqlType::UniqueIdentifier)]
    fn a_type_survives_its_name(#[case] name: &str, #[case] ty: SqlType) {
        assert_eq!(name.parse(), Ok(ty));
        assert_eq!(ty.to_string().parse(), Ok(ty));
    }

    #[rstest]
    #[case("varchar(0)")]
    #[case("varchar(8001)")]
    #[case("geography")]
    #[case("decimal(39)")]
    fn what_is_no_type_is_refused(#[case] name: &str) {
        assert_eq!(name.parse::<SqlType>().expect_err("it is no type").number, 2715);
    }

    #[test]
    fn a_number_too_large_for_its_type_is_an_error_and_not_another_number() {
        let mut out = BytesMut::new();
        let error = SqlType::Int.write_value(ValueRef::Integer(1 << 40), &mut out).expect_err("it does not fit");
        assert_eq!(error.number, 8115);
        assert!(out.is_empty());
    }

    #[test]
    fn text_longer_than_its_type_is_refused_and_not_cut() {
        for ty in [SqlType::VarChar(Length::Of(3)), SqlType::Char(3), SqlType::NVarChar(Length::Of(3)), SqlType::NChar(3)] {
            let refused = ty.write_value(ValueRef::Text("a😀b😁".as_bytes()), &mut BytesMut::new()).expect_err("it is too long");
            assert_eq!(refused.number, 8152);
        }
    }

    proptest! {
        #[test]
        fn every_bigint_survives(number: i64) {
            prop_assert_eq!(there_and_back(SqlType::BigInt, &Value::Integer(number)).value, Value::Integer(number));
        }

        #[test]
        fn every_int_survives(number: i32) {
            prop_assert_eq!(there_and_back(SqlType::Int, &Value::Integer(number.into())).value, Value::Integer(number.into()));
        }

        #[test]
        fn every_text_survives_as_nvarchar(text in "\\PC{0,300}") {
            let ty = SqlType::NVarChar(Length::Max);
            prop_assert_eq!(there_and_back(ty, &Value::Text(text.clone())).value, Value::Text(text));
        }

        #[test]
        fn every_latin_text_survives_as_varchar(text in "[ -~äöüßéÿ€]{0,60}") {
            let ty = SqlType::VarChar(Length::Of(60));
            prop_assert_eq!(there_and_back(ty, &Value::Text(text.clone())).value, Value::Text(text));
        }

        #[test]
        fn a_parameter_cut_short_is_refused_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read_parameter(&mut &bytes[..]);
        }
    }
}
