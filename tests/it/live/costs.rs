//! What telling costs in round trips and units, on a warm function.

use parlance::{
    app::{App, Means, Verdict, Webhooks},
    domain::{
        TenantId,
        delivery::{Job, Receipt, Subject},
        message::Seq,
        secret::SecretHash,
        webhook::Targets,
    },
    http::moment,
    providers::{sealing::Sealing, sockets::Sockets, webhook::Sender},
    queue::{Audience, Jobs},
};
use parlance_local::clients::embedded_sockets;
use serde_json::json;

use super::{
    connect, now, tenant_id, user,
    wire::{Fate, Wire},
};
use crate::{
    budgets::assert_cost,
    chatapi::{partition, record},
    support::{
        SEALING_KEY, Tenant,
        faults::{Cost, Meter},
        receiver::Receiver,
        settings, tenant,
    },
};

/// A process whose calls are counted, with connections and webhooks.
struct Metered {
    tenant: Tenant,
    app: App,
    meter: Meter,
    wire: Wire,
    room: String,
}

async fn metered() -> Metered {
    metered_over(Wire::calm()).await
}

async fn metered_over(wire: Wire) -> Metered {
    let (tenant, meter) = (tenant().await, Meter::default());
    let dynamodb = tenant.world.client(|client| meter.meter(client));
    let settings = settings();
    let sealing = Sealing::Given(SecretHash::of(SEALING_KEY.as_bytes()));
    let (sqs, _) = tenant.world.queue("FanoutQueue");
    let means = Means {
        jobs: Jobs::new(sqs, settings.queues.clone()),
        sockets: Some(Sockets::new(embedded_sockets(wire.http_client()))),
        webhooks: Some(Webhooks::new(sealing, Sender::new(Targets::Any))),
        ..Means::default()
    };
    let app = App::with(&settings, &dynamodb, means);
    let room = tenant.group(&["alice", "bob"]).await;
    Metered {
        tenant,
        app,
        meter,
        wire,
        room,
    }
}

impl Metered {
    fn id(&self) -> TenantId {
        tenant_id(&self.tenant)
    }

    /// Alice says something.
    async fn say(&self) -> Subject {
        let body = json!({ "content": "Hello, world!" });
        let path = format!("/rooms/{}/messages", self.room);
        let sent = self.tenant.user("alice").post(&path, &body).await;
        Subject::MessageCreated {
            log: self.room.parse().unwrap(),
            id: sent.text("message_id").parse().unwrap(),
        }
    }

    /// Bob is notified.
    async fn notify(&self) -> Subject {
        let body = json!({ "topic": "t", "payload": {}, "targets": { "user_ids": ["bob"] } });
        let sent = self.tenant.user("alice").post("/notify", &body).await;
        sent.text("notification_id").parse().unwrap()
    }

    /// What it costs to deliver `subject` to bob, who must take it.
    async fn delivery(&self, subject: Subject) -> Cost {
        let job = Job {
            tenant: self.id(),
            subject,
            user: Some(user("bob")),
        };
        let receipt = Receipt {
            receives: 1,
            sent_at: now().now,
            made_at: None,
        };
        self.meter.take();
        let moment = moment(std::time::Duration::from_secs(25)).unwrap();
        let verdict = self.app.attempt(&job, receipt, &moment).await.unwrap();
        assert_eq!(verdict, Verdict::Delivered);
        self.meter.take()
    }
}

#[tokio::test]
async fn a_batch_of_the_stream_costs_one_round_trip_and_its_counts_a_write_in_seconds() {
    let metered = metered().await;
    metered.say().await;
    let log = format!("{}#{}", metered.tenant.id, metered.room);
    let log = partition(&metered.tenant.world, "Messages", log).await;
    let poison = crate::chatapi::poison().await.0;
    let batch = async || {
        let records: Vec<_> = log.iter().map(|it| record("INSERT", it)).collect();
        let event = serde_json::from_value(json!({ "Records": records })).unwrap();
        fanout::handle(&metered.app, &poison, event).await;
        metered.meter.take()
    };
    // A process that has ended a batch notes no start.
    fanout::handle(
        &metered.app,
        &poison,
        aws_lambda_events::dynamodb::Event::default(),
    )
    .await;
    metered.meter.take();
    let first = batch().await;
    assert!((first.write_units - 1.0).abs() < 1e-9, "{first:?}");
    for _ in 0..3 {
        assert_cost(&batch().await, "fanout");
    }
}

#[tokio::test]
async fn a_message_to_one_who_is_connected_costs_what_the_budget_says() {
    let metered = metered().await;
    let connection = connect(&metered.app, &metered.tenant, "bob").await;
    let mut costs = Vec::new();
    for _ in 0..3 {
        let subject = metered.say().await;
        metered.meter.take();
        let (subjects, moment) = ([subject], now());
        let tell = metered
            .app
            .tell(metered.id(), &subjects, &Audience::All, &moment);
        tell.await.unwrap();
        costs.push(metered.meter.take());
    }
    assert_eq!(metered.wire.seqs(&connection), [1, 2, 3]);
    // The first one finds out where the connection began.
    assert_cost(&costs[1], "live");
    assert_cost(&costs[2], "live");
}

impl Metered {
    /// The cost of telling that alice has received the first message.
    async fn told_acked(&self) -> Cost {
        let log = super::log(&self.tenant, &self.room);
        self.meter.take();
        self.app
            .tell_acked(log, &user("alice"), Seq::FIRST, None, &now())
            .await;
        self.meter.take()
    }
}

#[tokio::test]
async fn telling_an_ack_where_nobody_listens_costs_one_read() {
    let metered = metered().await;
    assert_cost(&metered.told_acked().await, "ack_unheard");
}

#[tokio::test]
async fn telling_an_ack_costs_three_round_trips_and_no_write() {
    let metered = metered().await;
    let bob = connect(&metered.app, &metered.tenant, "bob").await;
    // The mark; the head and the members; who of the two is there.
    assert_cost(&metered.told_acked().await, "ack_told");
    assert_eq!(metered.wire.frames(&bob).len(), 1);
}

#[tokio::test]
async fn a_webhook_costs_what_the_budget_says() {
    let metered = metered().await;
    let receiver = Receiver::new();
    let endpoint = json!({ "url": receiver.url });
    metered.tenant.server().post("/webhooks", &endpoint).await;
    metered.delivery(metered.say().await).await;
    let cost = metered.delivery(metered.say().await).await;
    assert_eq!(receiver.take().len(), 2);
    assert_cost(&cost, "webhook");
}

#[tokio::test]
async fn a_notification_to_one_who_is_connected_costs_what_the_budget_says() {
    let metered = metered().await;
    connect(&metered.app, &metered.tenant, "bob").await;
    metered.delivery(metered.notify().await).await;
    let cost = metered.delivery(metered.notify().await).await;
    assert_cost(&cost, "notification");
}

#[tokio::test]
async fn a_notification_to_one_whose_connection_takes_nothing_goes_to_webhooks() {
    let metered = metered_over(Wire::new(|_, _| Fate::Busy)).await;
    connect(&metered.app, &metered.tenant, "bob").await;
    let receiver = Receiver::new();
    let endpoint = json!({ "url": receiver.url });
    metered.tenant.server().post("/webhooks", &endpoint).await;
    metered.delivery(metered.notify().await).await;
    assert_eq!(receiver.take().len(), 1);
}
