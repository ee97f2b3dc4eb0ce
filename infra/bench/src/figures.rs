//! What was measured of one load.

use std::time::Duration;

/// The figures of one cell.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    /// In milliseconds, as all below.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Server CPU per request.
    pub(crate) cpu: f64,
}

impl Figures {
    /// Of requests that took `latencies` and, all of them, `cpu` of the server within `time`.
    pub(crate) fn of(mut latencies: Vec<Duration>, cpu: Duration, time: Duration) -> Self {
        latencies.sort_unstable();
        let count = u32::try_from(latencies.len()).unwrap_or(u32::MAX).max(1);
        let rank = |percent: usize| {
            let rank = latencies.len() * percent / 100;
            millis(latencies.get(rank).copied().unwrap_or_default())
        };
        Self {
            per_second: f64::from(count) / time.as_secs_f64(),
            p50: rank(50),
            p99: rank(99),
            cpu: millis(cpu) / f64::from(count),
        }
    }

    /// The median of each figure by itself.
    pub(crate) fn median(rounds: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(rounds.iter().map(figure).collect());
        Self {
            per_second: of(|it| it.per_second),
            p50: of(|it| it.p50),
            p99: of(|it| it.p99),
            cpu: of(|it| it.cpu),
        }
    }
}

/// The middle of `values`, the upper one of two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
