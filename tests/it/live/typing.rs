//! Typing indicators: told once, and over by themselves, on send, on leave and on disconnect.

use parlance::{
    app::App,
    domain::{
        Connection, ConnectionId, Moment, RoomId,
        delivery::Subject,
        live::{Socket, Typing},
    },
    queue::{Audience, Fanout},
};
use serde_json::{Value, json};

use super::{actor, connect, now, process, tenant_id, user, waiting, wire::Wire};
use crate::{
    chatapi::{scan, text},
    support::{
        Tenant,
        faults::{Meter, calm},
        tenant, tenant_of, world_over,
    },
};

/// Alice, who types, and bob, who hears of it.
struct Typist {
    tenant: Tenant,
    app: App,
    wire: Wire,
    room: String,
    alice: Connection,
    bob: String,
}

async fn typist() -> Typist {
    typist_of(tenant().await).await
}

async fn typist_of(tenant: Tenant) -> Typist {
    let wire = Wire::calm();
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["root", "alice", "bob"]).await;
    let alice = connection(&app, &tenant, "alice").await;
    let bob = connect(&app, &tenant, "bob").await;
    Typist {
        tenant,
        app,
        wire,
        room,
        alice,
        bob,
    }
}

async fn connection(app: &App, tenant: &Tenant, name: &str) -> Connection {
    let id = connect(app, tenant, name).await;
    let id = ConnectionId::parse(&id).unwrap();
    let socket: Socket = app.socket(&id, &now()).await.unwrap();
    socket.connection
}

/// So many milliseconds after `at`.
fn after(at: &Moment, millis: i64) -> Moment {
    Moment {
        now: at.now.plus_micros(1_000 * millis),
        ..now()
    }
}

impl Typist {
    /// Alice says over `connection` that she types in `room`.
    async fn start_at(&self, connection: &Connection, room: &str, at: &Moment) -> Typing {
        let actor = actor(&self.app, &self.tenant, "alice").await;
        let room: RoomId = room.parse().unwrap();
        let started = self.app.start_typing(&actor, connection, room, at);
        started.await.unwrap();
        Typing {
            user: user("alice"),
            connection: connection.id.clone(),
            log: room.into(),
            at: at.now,
        }
    }

    async fn start(&self, at: &Moment) -> Typing {
        self.start_at(&self.alice, &self.room, at).await
    }

    async fn stop(&self) {
        let actor = actor(&self.app, &self.tenant, "alice").await;
        let room = self.room.parse().unwrap();
        let at = now();
        let stopped = self.app.stop_typing(&actor, &self.alice, room, &at);
        stopped.await.unwrap();
    }

    /// Does the job of `typing`, as in six seconds.
    async fn end(&self, typing: &Typing) {
        let at = now();
        let ended = self.app.end_typing(tenant_id(&self.tenant), typing, &at);
        ended.await.unwrap();
    }

    async fn tell(&self, subject: Subject) {
        let at = now();
        let subjects = [subject];
        let told = self
            .app
            .tell(tenant_id(&self.tenant), &subjects, &Audience::All, &at);
        told.await.unwrap();
    }

    /// Alice says something by REST: when it was stored, and what is then to be told.
    async fn send(&self) -> (Moment, Subject) {
        let path = format!("/rooms/{}/messages", self.room);
        let alice = self.tenant.user("alice");
        let sent = alice.post(&path, &json!({ "content": "hi" })).await;
        let stored = Moment {
            now: sent.text("created_at").parse().unwrap(),
            ..now()
        };
        let subject = Subject::MessageCreated {
            log: self.room.parse().unwrap(),
            id: sent.text("message_id").parse().unwrap(),
        };
        (stored, subject)
    }

    /// The frames that bob heard; of a message only that it is one.
    fn heard(&self) -> Vec<Value> {
        let frames = self.wire.frames(&self.bob).into_iter();
        frames
            .map(|frame| match frame["type"].as_str().unwrap() {
                "message" => json!("message"),
                _ => frame,
            })
            .collect()
    }

    fn frame(&self, action: &str) -> Value {
        frame_in(&self.room, action)
    }
}

fn frame_in(room: &str, action: &str) -> Value {
    json!({ "type": "typing", "room_id": room, "user_id": "alice", "action": action })
}

#[tokio::test]
async fn typing_is_told_once_in_three_seconds_and_noted_no_oftener_however_often_it_is_said() {
    let (tenant, meter) = (tenant().await, Meter::default());
    let mut typist = typist_of(tenant.clone()).await;
    let dynamodb = tenant.world.client(|client| meter.meter(client));
    typist.app = super::process_over(&tenant.world, &typist.wire, &dynamodb);
    let at = now();
    let mut writes = Vec::new();
    for millis in [0, 500, 1_000, 2_900, 3_000, 5_900, 6_000] {
        meter.take();
        typist.start(&after(&at, millis)).await;
        writes.push(meter.take().write_units > 0.0);
    }

    let start = typist.frame("start");
    assert_eq!(typist.heard(), [start.clone(), start.clone(), start]);
    assert_eq!(writes, [true, false, false, false, true, false, true]);
}

#[tokio::test]
async fn typing_that_is_said_again_is_ended_by_the_last_job_alone_and_once() {
    let typist = typist().await;
    let at = now();
    let first = typist.start(&at).await;
    let second = typist.start(&after(&at, 4_000)).await;

    typist.end(&first).await;
    let start = typist.frame("start");
    assert_eq!(typist.heard(), [start.clone(), start.clone()]);

    // A job may come twice.
    typist.end(&second).await;
    typist.end(&second).await;
    assert_eq!(typist.heard(), [start.clone(), start, typist.frame("stop")]);
}

#[tokio::test]
async fn typing_ends_when_the_typist_sends() {
    let typist = typist().await;
    let typing = typist.start(&now()).await;

    let (_, message) = typist.send().await;
    typist.tell(message).await;
    typist.end(&typing).await;

    let heard = typist.heard();
    assert_eq!(heard[0], typist.frame("start"));
    // In either order: no message waits for that.
    let mut ended = heard[1..].to_vec();
    ended.sort_by_key(Value::is_object);
    assert_eq!(ended, [json!("message"), typist.frame("stop")]);
}

#[tokio::test]
async fn typing_that_began_after_a_message_is_not_ended_by_it() {
    let typist = typist().await;
    let (stored, message) = typist.send().await;
    typist.start(&after(&stored, 1)).await;

    typist.tell(message).await;

    assert_eq!(typist.heard(), [typist.frame("start"), json!("message")]);
}

#[tokio::test]
async fn a_message_of_another_ends_nobodys_typing() {
    let typist = typist().await;
    typist.start(&now()).await;
    let path = format!("/rooms/{}/messages", typist.room);
    let root = typist.tenant.user("root");
    let sent = root.post(&path, &json!({ "content": "hi" })).await;

    let message = Subject::MessageCreated {
        log: typist.room.parse().unwrap(),
        id: sent.text("message_id").parse().unwrap(),
    };
    typist.tell(message).await;

    assert_eq!(typist.heard(), [typist.frame("start"), json!("message")]);
}

#[tokio::test]
async fn typing_ends_when_the_typist_leaves_the_room() {
    let typist = typist().await;
    let typing = typist.start(&now()).await;
    let place = format!("/rooms/{}/members/alice", typist.room);
    let left = typist.tenant.user("alice").delete(&place).await;
    assert_eq!(left.status, 204, "{}", left.raw);

    let events = scan(&typist.tenant.world, "Events").await;
    let left = events.iter().find(|event| {
        text(event, "kind") == "member.left" && text(event, "pk").starts_with(&typist.tenant.id)
    });
    let (_, id) = text(left.unwrap(), "pk").split_once('#').unwrap();
    typist.tell(Subject::Event(id.parse().unwrap())).await;
    typist.end(&typing).await;

    assert_eq!(
        typist.heard(),
        [typist.frame("start"), typist.frame("stop")]
    );
}

/// The job that is to be done at once, not in six seconds.
#[tokio::test]
async fn typing_ends_when_the_typists_connection_does() {
    let typist = typist_of(tenant_of(&world_over(|client| client).await).await).await;
    let typing = typist.start(&now()).await;
    waiting(&typist.tenant, "FanoutQueue").await;

    let at = now();
    let gone = typist.app.disconnect(&typist.alice.id, &at);
    gone.await.unwrap();

    let jobs = waiting(&typist.tenant, "FanoutQueue").await;
    let jobs: Vec<_> = jobs.iter().map(|job| Fanout::parse(job).unwrap()).collect();
    let ends = Fanout::TypingEnds {
        tenant: tenant_id(&typist.tenant),
        typing: typing.clone(),
    };
    assert_eq!(jobs, [ends]);
    typist.end(&typing).await;
    assert_eq!(
        typist.heard(),
        [typist.frame("start"), typist.frame("stop")]
    );
}

#[tokio::test]
async fn who_types_in_another_room_types_in_the_first_no_longer() {
    let typist = typist().await;
    let other = typist.tenant.group(&["alice", "bob"]).await;
    let at = now();
    typist.start(&at).await;

    typist
        .start_at(&typist.alice, &other, &after(&at, 1_000))
        .await;

    let expected = [
        typist.frame("start"),
        frame_in(&other, "start"),
        typist.frame("stop"),
    ];
    assert_eq!(typist.heard(), expected);
}

#[tokio::test]
async fn who_stops_typing_at_one_connection_and_goes_on_at_another_still_types() {
    let typist = typist().await;
    let second = connection(&typist.app, &typist.tenant, "alice").await;
    let at = now();
    let first = typist.start(&at).await;
    let goes_on = typist.start_at(&second, &typist.room, &at).await;

    typist.end(&first).await;
    let start = typist.frame("start");
    assert_eq!(typist.heard(), [start.clone(), start.clone()]);
    typist.end(&goes_on).await;
    assert_eq!(typist.heard(), [start.clone(), start, typist.frame("stop")]);
}

#[tokio::test]
async fn a_stop_is_told_once_and_the_job_that_follows_tells_nothing() {
    let typist = typist().await;
    let typing = typist.start(&now()).await;
    typist.stop().await;
    typist.stop().await;
    typist.end(&typing).await;
    assert_eq!(
        typist.heard(),
        [typist.frame("start"), typist.frame("stop")]
    );
}

/// A note from a clock that was an hour ahead holds up nobody.
#[tokio::test]
async fn a_clock_that_steps_back_does_not_silence_a_typist() {
    let typist = typist().await;
    let at = now();
    typist.start(&after(&at, 3_600_000)).await;
    typist.start(&at).await;
    let start = typist.frame("start");
    assert_eq!(typist.heard(), [start.clone(), start]);
}

#[tokio::test]
async fn typing_in_a_room_of_more_than_a_hundred_is_told_to_nobody() {
    let typist = typist().await;
    let users: Vec<_> = (0..100).map(|number| format!("user{number}")).collect();
    let mut names: Vec<_> = users.iter().map(String::as_str).collect();
    names.extend(["alice", "bob"]);
    let large = typist.tenant.group(&names).await;
    typist.start_at(&typist.alice, &large, &now()).await;
    assert_eq!(typist.heard(), Vec::<Value>::new());
}

#[tokio::test]
async fn typing_is_not_told_to_a_user_of_the_same_name_in_another_tenant() {
    let typist = typist().await;
    let other = tenant().await;
    other.group(&["alice", "bob"]).await;
    let strange = connect(&typist.app, &other, "bob").await;
    typist.start(&now()).await;
    assert_eq!(typist.wire.frames(&strange), Vec::<Value>::new());
}
