//! The events of an answer, whole and within bounds.

use hyper::body::Bytes;

/// The longest answer, in bytes. Providers say each token in an event of its own, of about 300 bytes: these are the
/// tokens of the longest answer that an agent may ask for.
pub(super) const LONGEST_ANSWER: usize = 16 * 1024 * 1024;
/// The longest event of an answer, in bytes.
pub(super) const LONGEST_EVENT: usize = 256 * 1024;

/// An answer so far, which is passed on event by event: `genai` copies what it has of an event with each piece of it
/// that comes, and nobody hears a part of one.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// All that came, in bytes.
    all: usize,
    /// The length of the last line, which has not ended.
    line: usize,
    /// The beginning of an event, which has not ended.
    held: Vec<u8>,
}

/// An answer became longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

impl Events {
    /// Takes what came, and gives the events that are whole with it: an empty line ends an event.
    pub(super) fn add(&mut self, data: &Bytes) -> Result<Option<Bytes>, TooLong> {
        self.all += data.len();
        if self.all > LONGEST_ANSWER {
            return Err(TooLong);
        }
        // Where the last event ends that is whole, and how long the one after it is so far.
        let (mut whole, mut event) = (0, self.held.len());
        for (place, byte) in data.iter().enumerate() {
            event += 1;
            if event > LONGEST_EVENT {
                return Err(TooLong);
            }
            match byte {
                b'\n' if self.line == 0 => (whole, event) = (place + 1, 0),
                b'\n' => self.line = 0,
                b'\r' => {}
                _ => self.line += 1,
            }
        }
        if whole == 0 {
            self.held.extend_from_slice(data);
            return Ok(None);
        }
        let rest = data.slice(whole..);
        let events = if self.held.is_empty() {
            data.slice(..whole)
        } else {
            self.held.extend_from_slice(&data[..whole]);
            self.held.split_off(0).into()
        };
        self.held.extend_from_slice(&rest);
        Ok(Some(events))
    }

    /// What is there without an end, if there is anything.
    pub(super) fn end(&mut self) -> Option<Bytes> {
        (!self.held.is_empty()).then(|| std::mem::take(&mut self.held).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on of `pieces`.
    fn passed_on(pieces: &[&str]) -> Vec<Bytes> {
        let mut events = Events::default();
        let mut passed_on = Vec::new();
        for piece in pieces {
            let piece = Bytes::copy_from_slice(piece.as_bytes());
            passed_on.extend(events.add(&piece).unwrap());
        }
        passed_on.extend(events.end());
        passed_on
    }

    #[test]
    fn an_event_is_bounded_and_so_are_all_of_them() {
        let half = Bytes::from(vec![b'x'; LONGEST_EVENT / 2]);
        let mut events = Events::default();
        assert_eq!(events.add(&half), Ok(None));
        assert_eq!(events.add(&half), Ok(None));
        assert_eq!(events.add(&Bytes::from_static(b"x")), Err(TooLong));

        let mut events = Events::default();
        let event = Bytes::from([&half[..], b"\n\n"].concat());
        for _ in 0..LONGEST_ANSWER / event.len() {
            assert_eq!(events.add(&event), Ok(Some(event.clone())));
        }
        assert_eq!(events.add(&event), Err(TooLong));
    }

    #[test]
    fn an_event_in_many_pieces_is_passed_on_as_one() {
        for end in ["\n\n", "\r\n\r\n"] {
            let event = format!("data: {}{end}", "x".repeat(LONGEST_EVENT / 2));
            let two = event.repeat(2);
            let pieces: Vec<_> = (0..two.len()).map(|at| &two[at..=at]).collect();
            assert_eq!(passed_on(&pieces), [event.as_str(); 2], "{end:?}");
        }
    }

    #[test]
    fn events_that_are_whole_are_passed_on_as_they_come() {
        let whole = ["data: a\n\n", ": ping\n\n", "data: b\r\n\r\n"];
        assert_eq!(passed_on(&whole), whole);
        let pieces = ["data: a\n\nda", "ta: b\n", "\ndata: c\n\n", "data: d\n"];
        let events = [
            "data: a\n\n",
            "data: b\n\ndata: c\n\n",
            // The end of an answer ends what has no end.
            "data: d\n",
        ];
        assert_eq!(passed_on(&pieces), events);
    }
}
