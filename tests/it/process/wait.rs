//! Waiting for something to be so.

use std::time::{Duration, Instant};

/// Far longer than anything here takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// What `look` finds at last.
#[track_caller]
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(LONG, what, look)
}

/// What `look` finds before `bound` is over.
#[track_caller]
pub fn within<T>(bound: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(PAUSE);
    }
}
