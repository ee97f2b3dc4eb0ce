//! Jobs of the fan-out: what cannot be told any more is not forgotten.

use parlance::{
    domain::EventId,
    queue::{Audience, Fanout},
};

use super::{
    batches::{alone, poison, receive},
    *,
};

/// Hands a job over as Lambda does. How many failed, and what was put aside.
async fn told(tenant: &Tenant, subject: Subject) -> (usize, Vec<Value>) {
    let job = Fanout::Tell {
        tenant: tenant.id.parse().unwrap(),
        subject,
        audience: Audience::All,
    };
    let message = json!({ "messageId": "1", "receiptHandle": "1", "body": job.to_text().unwrap() });
    let event = serde_json::from_value(json!({ "Records": [message] })).unwrap();
    let response = live::handle(&tenant.world.app, &poison(tenant), event).await;
    let aside = receive(tenant, "Poison", 10).await;
    let aside = aside
        .iter()
        .map(|message| serde_json::from_str(message.body().unwrap()).unwrap());
    (response.batch_item_failures.len(), aside.collect())
}

#[tokio::test]
async fn a_notification_that_is_no_longer_kept_is_put_aside_with_the_reason() {
    let tenant = alone().await;
    let subject = Subject::Notification(format!("notif_{:032x}", 7).parse().unwrap());

    let (failed, aside) = told(&tenant, subject).await;

    assert_eq!((failed, aside.len()), (0, 1));
    assert_eq!(aside[0]["function"], "live");
    assert_eq!(aside[0]["reason"], "the notification is no longer kept");
    let body = aside[0]["record"]["body"].as_str().unwrap();
    assert!(body.contains(&subject.to_string()), "{body}");
}

#[tokio::test]
async fn an_event_that_is_no_longer_kept_is_put_aside_with_the_reason() {
    let tenant = alone().await;
    let id: EventId = format!("evt_{:032x}", 7).parse().unwrap();

    let (failed, aside) = told(&tenant, Subject::Event(id)).await;

    assert_eq!((failed, aside.len()), (0, 1));
    assert_eq!(aside[0]["reason"], "the event is no longer kept");
}
