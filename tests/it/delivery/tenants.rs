//! One tenant's receiver hangs; another tenant does not wait for it.

use super::*;

/// Has `count` users told of a notification.
async fn notify(tenant: &Tenant, count: usize) {
    let users: Vec<_> = (0..count).map(|number| format!("user{number}")).collect();
    let targets = json!({ "user_ids": users });
    let body = json!({ "topic": "news", "payload": {}, "targets": targets });
    let sent = tenant.user("alice").post("/notify", &body).await;
    assert_eq!(sent.status, 202, "{}", sent.raw);
}

async fn endpoint(tenant: &Tenant, receiver: &Receiver) {
    let body = json!({ "url": receiver.url, "events": ["notification"] });
    let made = tenant.server().post("/webhooks", &body).await;
    assert_eq!(made.status, 201, "{}", made.raw);
}

/// A line on which `jobs` of its tenant go to a receiver that does not answer within `patience`, of which `hanging`
/// hang; and another tenant with a receiver that works.
async fn hanging(
    jobs: usize,
    hanging: usize,
    patience: Duration,
) -> (Line, running::Pollers, Receiver, Tenant, Receiver) {
    let (line, slow, quick) = (Line::new().await, Receiver::new(), Receiver::new());
    slow.hang();
    let app = line.another(Surroundings {
        patience,
        ..Surroundings::default()
    });
    let other = tenant_of(&line.tenant.world).await;
    endpoint(&line.tenant, &slow).await;
    endpoint(&other, &quick).await;
    let pollers = line.run(&app, |client| client);
    notify(&line.tenant, jobs).await;
    until("the slow receiver", LONG, async || slow.asked() >= hanging).await;
    (line, pollers, slow, other, quick)
}

#[tokio::test]
async fn a_tenant_is_served_while_hundreds_of_anothers_deliveries_hang() {
    let (line, _pollers, slow, other, quick) = hanging(300, 300, LONG).await;
    let begun = Instant::now();

    notify(&other, 1).await;
    until("the other tenant", LONG, async || quick.asked() == 1).await;

    // All of the first tenant's hang still: none is given up before 15 seconds.
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(slow.asked(), 300);
    assert!(line.count(DELIVERY).await.1 >= 300);
}

#[tokio::test]
async fn a_tenant_whose_deliveries_fill_every_worker_is_overtaken() {
    // More than the pollers have in hand at once.
    let (line, _pollers, slow, other, quick) = hanging(1_000, 400, Duration::from_secs(2)).await;

    notify(&other, 1).await;
    until("the other tenant", LONG, async || quick.asked() == 1).await;

    assert!(slow.asked() < 1_000, "{}", slow.asked());
    assert!(line.count(DELIVERY).await.0 > 0);
}

#[tokio::test]
async fn a_tenant_is_served_by_the_very_batch_in_which_anothers_deliveries_hang() {
    let (line, slow, quick) = (Line::new().await, Receiver::new(), Receiver::new());
    slow.hang();
    let other = tenant_of(&line.tenant.world).await;
    endpoint(&line.tenant, &slow).await;
    endpoint(&other, &quick).await;
    notify(&line.tenant, 9).await;
    notify(&other, 1).await;
    line.fan_out(line.records(2).await).await;
    let messages = line.receive(FANOUT, 0).await;
    line.does(&line.app, FANOUT, &messages).await;
    let messages = line.receive(DELIVERY, 0).await;
    assert_eq!(messages.len(), 10);
    let (app, poison) = (line.app.clone(), line.poison());

    let batch = tokio::spawn(async move { deliver::handle(&app, &poison, event(&messages)).await });
    until("the other tenant", LONG, async || quick.asked() == 1).await;

    assert!(!batch.is_finished());
    batch.abort();
}
