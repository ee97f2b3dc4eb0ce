//! What is said while it is said: what was passed on is what is kept, to the byte.

use std::{borrow::Cow, ops::ControlFlow};

/// The longest answer, in bytes of UTF-8: what is said beyond is cut.
pub(super) const LONGEST: usize = 128 * 1024;
/// What stands between what was said before tools were called and after.
const PAUSE: &str = "\n\n";

/// Passes on what models say, and keeps it.
#[derive(Debug)]
pub(super) struct Voice<'a, H> {
    heard: &'a mut H,
    said: String,
    /// Whether tools were called since the last word.
    paused: bool,
    /// Whether somebody still listens.
    gone: bool,
    full: bool,
}

impl<'a, H: FnMut(&str) -> ControlFlow<()>> Voice<'a, H> {
    pub(super) const fn new(heard: &'a mut H) -> Self {
        Self {
            heard,
            said: String::new(),
            paused: false,
            gone: false,
            full: false,
        }
    }

    /// Passes `delta` on: what is not taken is not kept. [`ControlFlow::Break`] once nobody listens or all was said that
    /// may be.
    pub(super) fn say(&mut self, delta: &str) -> ControlFlow<()> {
        if self.gone || self.full {
            return ControlFlow::Break(());
        }
        // Several clients, terminals and queues cut text there.
        let mut delta = Cow::Borrowed(delta);
        if delta.contains('\0') {
            delta = Cow::Owned(delta.replace('\0', ""));
        }
        if delta.is_empty() {
            return ControlFlow::Continue(());
        }
        if self.paused && !self.said.is_empty() {
            delta = Cow::Owned(format!("{PAUSE}{delta}"));
        }
        self.paused = false;
        let room = LONGEST - self.said.len();
        self.full = delta.len() > room;
        let delta = &delta[..delta.floor_char_boundary(room)];
        if !delta.is_empty() {
            self.gone = (self.heard)(delta).is_break();
            if !self.gone {
                self.said.push_str(delta);
            }
        }
        if self.gone || self.full {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Tools are called now.
    pub(super) const fn pause(&mut self) {
        self.paused = true;
    }

    /// Whether nobody listens any more.
    pub(super) const fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether all was said that may be.
    pub(super) const fn is_full(&self) -> bool {
        self.full
    }

    /// Whether nothing was said yet but space.
    pub(super) fn is_silent(&self) -> bool {
        self.said.trim().is_empty()
    }

    /// How many bytes were passed on.
    pub(super) const fn len(&self) -> usize {
        self.said.len()
    }

    /// All that was passed on.
    pub(super) fn take_said(&mut self) -> String {
        std::mem::take(&mut self.said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was passed on of `deltas`, with a pause before each `|`, and what is kept.
    fn spoken(deltas: &[&str]) -> (String, String) {
        let mut passed_on = String::new();
        let mut heard = |delta: &str| {
            passed_on.push_str(delta);
            ControlFlow::Continue(())
        };
        let mut voice = Voice::new(&mut heard);
        for delta in deltas {
            if *delta == "|" {
                voice.pause();
            } else {
                let _ = voice.say(delta);
            }
        }
        let said = voice.take_said();
        (passed_on, said)
    }

    #[test]
    fn what_is_passed_on_is_what_is_kept() {
        let long = "ä".repeat(LONGEST);
        for deltas in [
            vec!["Let me", " see.", "|", "It is", " 4."],
            vec!["|", "|", "It is 4."],
            vec!["a\0b", "\0", "c"],
            vec!["a", "|", "\0", "|", ""],
            vec!["x", &long, "more"],
            vec![&long[..LONGEST], "|", "more"],
        ] {
            let (passed_on, said) = spoken(&deltas);
            assert!(passed_on == said && said.len() <= LONGEST);
        }
        assert_eq!(spoken(&["See.", "|", "4"]).1, "See.\n\n4");
        assert_eq!(spoken(&["|", "4"]).1, "4");
        assert_eq!(spoken(&["a\0b"]).1, "ab");
    }

    #[test]
    fn nothing_is_passed_on_to_who_has_gone() {
        let mut calls = 0;
        let mut heard = |_: &str| {
            calls += 1;
            ControlFlow::Break(())
        };
        let mut voice = Voice::new(&mut heard);
        assert!(voice.say("a").is_break() && voice.say("b").is_break());
        assert!(voice.is_gone());
        assert!(voice.is_silent());
        assert_eq!(calls, 1);
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let long = "ä".repeat(LONGEST / 2 + 1);
        let mut heard = |_: &str| ControlFlow::Continue(());
        let mut voice = Voice::new(&mut heard);
        assert!(voice.say("x").is_continue() && voice.say(&long).is_break());
        assert!(voice.is_full());
        assert_eq!(voice.take_said().len(), LONGEST - 1);
    }
}
