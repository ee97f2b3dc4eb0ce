//! Which characters a message may hold: those of XML 1.0, because SQS once answered in XML.

use super::fault::{Fault, Kind};

/// Refuses `text` for its first character out of the set; `place` says where it was found.
pub(super) fn check(text: &str, place: &str) -> Result<(), Fault> {
    let Some(stray) = text.chars().find(|&character| !is_allowed(character)) else {
        return Ok(());
    };
    Err(Fault::new(
        Kind::InvalidMessageContents,
        format!(
            "Invalid binary character '#x{:X}' was found in the {place}, the set of allowed \
             characters is #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to \
             #x10FFFF",
            u32::from(stray)
        ),
    ))
}

fn is_allowed(character: char) -> bool {
    matches!(
        character,
        '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..
    )
}
