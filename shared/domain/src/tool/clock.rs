//! Telling the time.

use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use crate::Timestamp;

/// The date, the time and the day of the week of `now`, as a JSON object, at `offset` from UTC. `None` if that is no
/// offset such as `+02:00`: where on Earth a name like Europe/Paris is, changes by law and is not known here.
pub fn current_time(now: Timestamp, offset: &str) -> Option<String> {
    let offset = match offset.trim() {
        "" | "Z" | "z" | "UTC" => UtcOffset::UTC,
        text => read(text)?,
    };
    let at = OffsetDateTime::from_unix_timestamp(now.seconds()).ok()?;
    let at = at.checked_to_offset(offset)?;
    let (time, weekday) = (at.format(&Rfc3339).ok()?, at.weekday());
    Some(format!(r#"{{"time":"{time}","weekday":"{weekday}"}}"#))
}

/// Reads `+02:00`, `-0530` or `+2`.
fn read(text: &str) -> Option<UtcOffset> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest.split_once(':') {
        Some(parts) => parts,
        None if rest.len() == 4 => rest.split_at_checked(2)?,
        None => (rest, "0"),
    };
    let number = |text: &str| {
        let is_short = (1..=2).contains(&text.len());
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = (is_short && is_number).then(|| text.parse::<i8>());
        number.and_then(Result::ok)
    };
    // The Earth's offsets go from -12:00 to +14:00.
    let hours = number(hours).filter(|hours| *hours <= 14)?;
    let minutes = number(minutes).filter(|minutes| *minutes <= 59)?;
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(offset: &str) -> Option<String> {
        current_time("2026-11-22T23:30:15.5Z".parse().unwrap(), offset)
    }

    #[test]
    fn the_time_is_told_at_an_offset() {
        let utc = r#"{"time":"2026-11-22T23:30:15Z","weekday":"Sunday"}"#;
        for offset in ["", "Z", "UTC", "+00:00"] {
            assert_eq!(told(offset).unwrap(), utc);
        }
        let india = r#"{"time":"2026-11-23T05:00:15+05:30","weekday":"Monday"}"#;
        assert_eq!(told("+05:30").unwrap(), india);
        assert_eq!(told("+0530").unwrap(), india);
        let west = r#"{"time":"2026-11-22T18:30:15-05:00","weekday":"Sunday"}"#;
        assert_eq!(told("-5").unwrap(), west);
    }

    #[test]
    fn what_is_no_offset_is_not_guessed() {
        for bad in [
            "Europe/Paris",
            "+15:00",
            "+02:60",
            "02:00",
            "+",
            "+a",
            "+1:2:3",
            "++1",
            "+１",
            "é",
        ] {
            assert_eq!(told(bad), None, "{bad}");
        }
    }
}
