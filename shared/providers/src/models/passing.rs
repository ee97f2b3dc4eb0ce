//! Passing on what a model says, within bounds.

use std::ops::ControlFlow;

/// The longest text that is passed on and kept, in bytes: the rest is cut.
pub(super) const LONGEST: usize = 128 * 1024;

/// What was passed on, and to whom.
pub(super) struct Passing<'a, H> {
    heard: &'a mut H,
    text: String,
    longest: usize,
    /// How many bytes came that nobody is to hear.
    thoughts: usize,
}

/// Why no more is to be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// Whoever listened has gone.
    Gone,
    /// It is as long as it may be.
    Full,
}

impl<'a, H: FnMut(&str) -> ControlFlow<()>> Passing<'a, H> {
    pub(super) const fn new(heard: &'a mut H) -> Self {
        Self {
            heard,
            text: String::new(),
            longest: LONGEST,
            thoughts: 0,
        }
    }

    /// Passes on at most `bytes`, if that is less than [`LONGEST`].
    pub(super) fn shorten(&mut self, bytes: usize) {
        self.longest = bytes.min(LONGEST);
    }

    /// Whether nothing was passed on yet.
    pub(super) const fn is_new(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether nothing was passed on yet but space.
    pub(super) fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// How many bytes were passed on.
    pub(super) const fn len(&self) -> usize {
        self.text.len()
    }

    /// Passes `piece` on, or as much of it as there is room for.
    pub(super) fn pass(&mut self, piece: &str) -> ControlFlow<Stopped> {
        let room = self.longest - self.text.len();
        let fits = piece.floor_char_boundary(room);
        let (piece, rest) = piece.split_at(fits);
        if !piece.is_empty() {
            if (self.heard)(piece).is_break() {
                return ControlFlow::Break(Stopped::Gone);
            }
            self.text.push_str(piece);
        }
        if rest.is_empty() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(Stopped::Full)
        }
    }

    /// Keeps that `piece` came, and not what it says: a thought.
    pub(super) const fn think(&mut self, piece: &str) {
        self.thoughts += piece.len();
    }

    /// How many bytes of thoughts came.
    pub(super) const fn take_thoughts(&mut self) -> usize {
        std::mem::replace(&mut self.thoughts, 0)
    }

    /// All that was passed on.
    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was_heard_and_no_more_than_there_is_room_for() {
        let mut pieces = String::new();
        let mut heard = |piece: &str| {
            pieces.push_str(piece);
            ControlFlow::Continue(())
        };
        let mut passing = Passing::new(&mut heard);
        passing.shorten(8);
        assert!(passing.pass("1234").is_continue());
        // Half a character is none.
        assert_eq!(passing.pass("567ü"), ControlFlow::Break(Stopped::Full));
        let text = passing.take();
        assert_eq!((text.as_str(), pieces.as_str()), ("1234567", "1234567"));
    }

    #[test]
    fn a_piece_that_was_not_taken_is_not_kept() {
        let mut heard = |piece: &str| match piece {
            "two" => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let mut passing = Passing::new(&mut heard);
        assert!(passing.pass("one").is_continue());
        assert_eq!(passing.pass("two"), ControlFlow::Break(Stopped::Gone));
        assert_eq!(passing.take(), "one");
    }
}
