//! Code page 1252, the one behind the collation that every `varchar` here has (`SQL_Latin1_General_CP1_CI_AS`).
//!
//! What the code page lacks becomes a question mark, as SQL Server does it.

/// The characters of the bytes 0x80 to 0x9F; the five unassigned bytes stand for the control characters of the same number.
const HIGH: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–',
    '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Appends `text` in code page 1252.
pub(crate) fn encode(text: &str, out: &mut Vec<u8>) {
    if text.is_ascii() {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.extend(text.chars().map(byte));
}

/// The text that `bytes` stand for.
pub(crate) fn decode(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|&byte| match byte {
            0x80..=0x9F => HIGH[usize::from(byte - 0x80)],
            _ => char::from(byte),
        })
        .collect()
}

fn byte(character: char) -> u8 {
    match u32::from(character) {
        code @ (0..=0x7F | 0xA0..=0xFF) => u8::try_from(code).expect("the pattern bounds it"),
        _ => HIGH.iter().position(|&high| high == character).map_or(b'?', |at| 0x80 + u8::try_from(at).expect("the table has 32 entries")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_the_round_trip() {
        let all: Vec<u8> = (0..=255).collect();
        let mut back = Vec::new();
        encode(&decode(&all), &mut back);
        assert_eq!(back, all);
    }

    #[test]
    fn what_the_code_page_lacks_becomes_a_question_mark() {
        let mut bytes = Vec::new();
        encode("€ä漢", &mut bytes);
        assert_eq!(bytes, [0x80, 0xE4, b'?']);
    }
}
