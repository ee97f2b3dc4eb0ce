//! Whom a message reaches: each member by a connection or by webhooks, whatever their connections do meanwhile.

use parlance::{
    app::App,
    domain::{LogId, MessageId, delivery::Subject, live::STUCK_TRIES, message::Seq},
    queue::{Audience, parse_job},
};
use serde_json::json;

use super::{
    log, now, process, ready, try_connect, user, waiting,
    wire::{Fate, Wire},
};
use crate::support::{Tenant, faults::calm, tenant_of, world_over};

/// A tenant with a webhook, whose queues nobody else sends to.
async fn tenant_with_webhook() -> Tenant {
    let tenant = tenant_of(&world_over(|client| client).await).await;
    let endpoint = json!({ "url": "http://127.0.0.1:1/" });
    let made = tenant.server().post("/webhooks", &endpoint).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    tenant
}

/// Has alice say something, and gives what is then to be told.
async fn said(tenant: &Tenant, room: &str) -> Subject {
    let path = format!("/rooms/{room}/messages");
    let body = json!({ "content": "hi" });
    let sent = tenant.user("alice").post(&path, &body).await;
    let id: MessageId = sent.text("message_id").parse().unwrap();
    let log = room.parse().unwrap();
    Subject::MessageCreated { log, id }
}

async fn tell(app: &App, log: LogId, subjects: &[Subject], audience: &Audience) {
    let at = now();
    let told = app.tell(log.tenant, subjects, audience, &at);
    told.await.unwrap();
}

/// The seqs of the messages that webhooks are to hear of, each with whom it did not reach.
async fn missed(tenant: &Tenant) -> Vec<(Seq, String)> {
    let jobs = waiting(tenant, "DeliveryQueue").await;
    let mut missed: Vec<_> = jobs
        .iter()
        .map(|job| {
            let job = parse_job(job).unwrap().job;
            let Subject::MessageCreated { id, .. } = job.subject else {
                panic!("{job:?}");
            };
            (id.seq(), job.user.unwrap().to_string())
        })
        .collect();
    missed.sort();
    missed
}

#[tokio::test]
async fn who_connects_before_a_message_is_told_that_was_sent_before_is_told_by_webhooks() {
    let (tenant, wire) = (tenant_with_webhook().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let log = log(&tenant, &room);
    let before = said(&tenant, &room).await;
    let bob = try_connect(&app, &tenant, "bob", &now()).await.unwrap();
    ready(&app, &bob).await;

    for _ in 0..2 {
        // Whether the cursor is there or not.
        tell(&app, log, &[before], &Audience::All).await;
        let expected = [(Seq::FIRST, "bob".to_owned())];
        assert_eq!(missed(&tenant).await, expected);
    }
    assert_eq!(wire.posts(), 0);
}

#[tokio::test]
async fn of_messages_told_together_each_reaches_who_was_there_then() {
    let (tenant, wire) = (tenant_with_webhook().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let before = said(&tenant, &room).await;
    let bob = try_connect(&app, &tenant, "bob", &now()).await.unwrap();
    ready(&app, &bob).await;
    let after = said(&tenant, &room).await;

    let together = [before, after];
    tell(&app, log(&tenant, &room), &together, &Audience::All).await;

    assert_eq!(missed(&tenant).await, [(Seq::FIRST, "bob".to_owned())]);
    assert_eq!(wire.seqs(&bob), [2]);
}

#[tokio::test]
async fn who_has_another_connection_that_took_it_is_not_told_by_webhooks() {
    let (tenant, wire) = (tenant_with_webhook().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let first = super::connect(&app, &tenant, "bob").await;
    let subject = said(&tenant, &room).await;
    let second = try_connect(&app, &tenant, "bob", &now()).await.unwrap();
    ready(&app, &second).await;

    tell(&app, log(&tenant, &room), &[subject], &Audience::All).await;

    assert_eq!(missed(&tenant).await, []);
    assert_eq!((wire.seqs(&first), wire.seqs(&second)), (vec![1], vec![]));
}

#[tokio::test]
async fn who_is_not_reached_for_half_a_minute_is_told_by_webhooks_once() {
    let (tenant, wire) = (tenant_with_webhook().await, Wire::new(|_, _| Fate::Busy));
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    // Too new to be ended.
    let bob = try_connect(&app, &tenant, "bob", &now()).await.unwrap();
    ready(&app, &bob).await;
    let subject = said(&tenant, &room).await;

    for tries in [0, STUCK_TRIES - 1, STUCK_TRIES, STUCK_TRIES + 1] {
        let users = vec![user("bob")];
        let audience = Audience::Only { users, tries };
        tell(&app, log(&tenant, &room), &[subject], &audience).await;
        let told = usize::from(tries == STUCK_TRIES);
        assert_eq!(missed(&tenant).await.len(), told, "{tries}");
    }
}
