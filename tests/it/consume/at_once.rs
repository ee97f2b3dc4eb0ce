//! Standard queues: each message has a fate of its own.

use parlance::runtime::consume::queue::consume;

use super::*;

/// Has a worker do a batch that has `trouble` with `with`. What was done, and what the response names.
async fn batch(queue: &Queue, trouble: Trouble, with: &str) -> (Vec<String>, Vec<String>) {
    queue.send(&["a0", "a1", "a2-poison", "a3"]).await;
    let worker = Worker::new(queue, trouble, with);
    let event = queue.receive().await;
    let response = consume(&worker, &queue.poison(), event.clone()).await;
    let mut done = worker.done();
    done.sort_unstable();
    (done, named(&event, &response))
}

#[tokio::test]
async fn a_job_that_fails_is_named_and_holds_up_no_other() {
    let queue = Queue::standard().await;
    let (done, named) = batch(&queue, Trouble::Fail, "a0").await;
    assert_eq!(
        (done, named),
        (vec!["a1".into(), "a3".into()], vec!["a0".into()])
    );
}

#[tokio::test]
async fn a_job_that_panics_is_named_and_holds_up_no_other() {
    let queue = Queue::standard().await;
    let (done, named) = batch(&queue, Trouble::Panic, "a0").await;
    assert_eq!(
        (done, named),
        (vec!["a1".into(), "a3".into()], vec!["a0".into()])
    );
}

#[tokio::test]
async fn poison_is_put_aside_and_not_named() {
    let queue = Queue::standard().await;
    let (_, named) = batch(&queue, Trouble::Fail, "nothing").await;
    assert_eq!(named, [""; 0]);
    assert_eq!(queue.aside().await, ["a2-poison"]);
}

#[tokio::test]
async fn a_job_that_asks_for_it_comes_back_at_once() {
    let queue = Queue::standard().await;
    batch(&queue, Trouble::AskToComeAgain, "a1").await;
    let again = queue.receive().await;
    let bodies: Vec<_> = again.records.iter().map(|it| it.body.as_deref()).collect();
    assert_eq!(bodies, [Some("a1")]);
}
