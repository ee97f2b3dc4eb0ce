//! Functions that run by the clock, as `EventBridge` Scheduler has them run in AWS, and the pauses of pollers.

use std::time::Duration;

use parlance::domain::Pauses;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Pauses of a poller whose calls fail.
pub(crate) const POLLER_PAUSES: Pauses =
    Pauses::between(Duration::from_secs(1), Duration::from_secs(30));

/// Waits for `pause`. Whether the runner stops meanwhile.
pub(crate) async fn is_stopped_within(pause: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        biased;
        _ = stop.wait_for(|stopped| *stopped) => true,
        () = sleep(pause) => false,
    }
}

/// Runs `work` at once and then every so often, never twice at a time, until the runner stops.
pub async fn every<F>(period: Duration, mut stop: watch::Receiver<bool>, work: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stopped| *stopped) => return,
        }
        // In a task of its own, so that a panic is its failure and not ours.
        if let Err(error) = tokio::spawn(work()).await {
            tracing::error!(%error, "a function that runs by the clock died");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_is_done_at_once_and_then_by_the_clock_whatever_becomes_of_it() {
        let (stop, stopping) = watch::channel(false);
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        let task = tokio::spawn(every(Duration::from_mins(1), stopping, move || {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            async move { assert!(run != 0, "the first run dies") }
        }));
        let ran = async |times| {
            while runs.load(Ordering::SeqCst) < times {
                tokio::task::yield_now().await;
            }
        };
        ran(1).await;
        advance(Duration::from_secs(59)).await;
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        advance(Duration::from_secs(1)).await;
        ran(2).await;
        stop.send_replace(true);
        task.await.unwrap();
    }
}
