//! Deliveries: the row under races and faults, attempts, redrive, and what admins and senders see.

mod attempts;
mod batches;
mod fanout;
mod held;
mod owed;
mod rows;
mod webhooks;

use parlance::{
    app::{App, Verdict},
    domain::{
        Moment, NotificationId, TenantId, Timestamp, UserId,
        delivery::{About, Attempt, Delivery, Job, Receipt, Subject, Telling},
        tenant::RetrySchedule,
    },
    store::{Backoff, Stores},
};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

use crate::support::{
    Tenant, World,
    faults::{Plan, faulty},
    settings, world,
};

/// When these tests begin.
fn noon() -> Timestamp {
    "2025-12-13T12:00:00Z".parse().unwrap()
}

/// So many seconds later.
fn at(seconds: i64) -> Timestamp {
    noon().plus_seconds(seconds)
}

/// The stores, as a process sees them whose calls meet `plan`.
fn stores(world: &World, plan: Plan) -> Stores {
    let client = world.client(|client| faulty(client, plan));
    Stores::new(&client, &settings().tables, false)
}

/// A tenant that nobody else has, without a profile.
fn tenant_id() -> TenantId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("tenant_dead{number:028x}").parse().unwrap()
}

/// A number that nobody else has.
fn random() -> u128 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed).into()
}

fn race() -> Backoff {
    Backoff::until(Instant::now() + Duration::from_mins(1), 1)
}

/// What happens now, once.
fn moment(now: Timestamp) -> Moment {
    Moment::new(now, Instant::now(), Duration::from_secs(30), random())
}

/// Has the tenant's deliveries tried again in this way.
async fn retry(tenant: &Tenant, retry: Value) {
    let path = format!("/admin/tenants/{}", tenant.id);
    let operator = tenant.world.operator().anew();
    let patched = operator.patch(&path, &json!({ "retry": retry })).await;
    assert_eq!(patched.status, 200, "{}", patched.raw);
}

/// The job that tells bob, who is never there, of a notification that was sent just now.
async fn notify(tenant: &Tenant) -> Job {
    let body = json!({
        "topic": "order.shipped",
        "payload": { "order_id": 7.5 },
        "targets": { "user_ids": ["bob"] },
    });
    let sent = tenant.user("alice").post("/notify", &body).await;
    assert_eq!(sent.status, 202, "{}", sent.raw);
    let id: NotificationId = sent.text("notification_id").parse().unwrap();
    Job {
        tenant: tenant.id.parse().unwrap(),
        subject: Subject::Notification(id),
        user: Some(UserId::parse("user_id", "bob").unwrap()),
    }
}

async fn try_once(app: &App, job: &Job, receipt: Receipt, now: Timestamp) -> Verdict {
    app.attempt(job, receipt, &moment(now)).await.unwrap()
}

async fn row(tenant: &Tenant, job: &Job) -> Delivery {
    let stores = Stores::new(&tenant.world.dynamodb, &settings().tables, false);
    let row = stores.deliveries.get(job.tenant, job.id()).await.unwrap();
    row.unwrap().delivery
}

/// The job that tells alice of a notification.
fn job() -> Job {
    Job {
        tenant: tenant_id(),
        subject: Subject::Notification(format!("notif_{:032x}", 7).parse().unwrap()),
        user: Some(UserId::parse("user_id", "alice").unwrap()),
    }
}

fn about() -> About {
    About {
        event: "notification".to_owned(),
        room: None,
        topic: None,
    }
}

const fn telling(about: &About) -> Telling<'_> {
    Telling {
        about,
        content: None,
        is_owed: false,
    }
}

const fn first(sent_at: Timestamp) -> Receipt {
    Receipt {
        receives: 1,
        sent_at,
        made_at: Some(sent_at),
    }
}

/// A job that was made at noon, and moved back from the dead letters.
fn moved(sent_at: Timestamp) -> Receipt {
    Receipt {
        made_at: Some(noon()),
        ..first(sent_at)
    }
}

const fn again(sent_at: Timestamp) -> Receipt {
    Receipt {
        receives: 2,
        sent_at,
        made_at: Some(sent_at),
    }
}

fn attempt(now: Timestamp) -> Attempt {
    Attempt {
        lease: random(),
        now,
        schedule: RetrySchedule::DEFAULT,
    }
}
