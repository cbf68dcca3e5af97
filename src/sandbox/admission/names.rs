//! What names and labels may look like.

use super::super::kinds::Kind;

/// What is wrong with a name that is no label.
pub(super) const NO_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an \
                        alphanumeric character";

/// Whether it is a label of RFC 1123, but for its length.
pub(super) fn is_label(part: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    !part.is_empty() && part.starts_with(edge) && part.ends_with(edge) && part.chars().all(|c| edge(c) || c == '-')
}

/// Refuses a name that an object of that kind cannot have.
pub(super) fn check_name(kind: Kind, name: &str) -> Result<(), &'static str> {
    match kind {
        Kind::Namespace | Kind::Service if !is_label(name) || name.len() > 63 => Err(NO_LABEL),
        _ if !name.split('.').all(is_label) || name.len() > 253 => Err(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with \
                 an alphanumeric character",
        ),
        _ => Ok(()),
    }
}

/// Whether a label may have that value.
pub(super) fn is_label_value(value: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    value.is_empty()
        || (value.len() <= 63 && value.starts_with(edge) && value.ends_with(edge) && value.chars().all(|c| edge(c) || "-_.".contains(c)))
}
