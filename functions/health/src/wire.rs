//! What goes over the wire.

use std::time::Duration;

use parlance::app::Health;
use serde::Serialize;
use utoipa::ToSchema;

/// How the service is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthOut {
    /// `ok` or `degraded`.
    #[schema(example = "ok")]
    status: &'static str,
    /// Since when this process runs.
    #[schema(example = "2h30m45s")]
    uptime: String,
    #[schema(example = true)]
    db_writable: bool,
}

impl From<&Health> for HealthOut {
    fn from(health: &Health) -> Self {
        Self {
            status: if health.writable { "ok" } else { "degraded" },
            uptime: uptime(health.uptime),
            db_writable: health.writable,
        }
    }
}

/// `2h30m45s`, as the seed shows it: no leading zero units.
fn uptime(since: Duration) -> String {
    let seconds = since.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        (_, _) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_reads_as_in_the_seed() {
        assert_eq!(uptime(Duration::from_secs(9_045)), "2h30m45s");
        assert_eq!(uptime(Duration::from_secs(65)), "1m5s");
        assert_eq!(uptime(Duration::from_hours(1)), "1h0m0s");
        assert_eq!(uptime(Duration::ZERO), "0s");
    }
}
