//! Samples of what endpoints are told, to try them out with.

use serde_json::{Value, json};

use crate::domain::{
    EndpointId, MessageId, Moment, NotificationId, RoomId, TenantId,
    message::Seq,
    webhook::{EventType, FAILED_TOO_LONG},
};

/// The body of a webhook of `event` about nobody, marked with `test`. Its ids name nothing.
pub(super) fn body(event: EventType, tenant: TenantId, moment: &Moment) -> String {
    json!({
        "type": event.name(),
        "timestamp": moment.now.to_string(),
        "tenant_id": tenant.to_string(),
        "test": true,
        "data": data(event, moment),
    })
    .to_string()
}

fn data(event: EventType, moment: &Moment) -> Value {
    let room = RoomId::at(moment).to_string();
    let now = moment.now.to_string();
    let message = |content: &str, meta: Value| {
        json!({
            "message_id": MessageId::new(Seq::new(1), moment.seed).to_string(),
            "sender_id": "alice",
            "seq": 1,
            "content": content,
            "meta": meta,
            "created_at": now,
        })
    };
    let changed = |mut message: Value, when: &str| {
        message[when] = json!(now);
        json!({ "room_id": room, "recipient_id": null, "message": message })
    };
    match event {
        EventType::MessageCreated => json!({
            "room_id": room,
            "recipient_id": "bob",
            "message": message("Hello, world!", json!({ "type": "text" })),
        }),
        EventType::MessageEdited => {
            let message = message("Hello, everyone!", json!({ "type": "text" }));
            changed(message, "edited_at")
        }
        EventType::MessageDeleted => changed(message("", json!({})), "deleted_at"),
        EventType::RoomCreated => json!({ "room_id": room, "actor_id": "alice" }),
        EventType::MemberJoined | EventType::MemberLeft => {
            json!({ "room_id": room, "actor_id": "alice", "user_ids": ["bob"] })
        }
        EventType::Notification => json!({
            "notification_id": NotificationId::at(moment).to_string(),
            "recipient_id": "bob",
            "sender_id": "alice",
            "topic": "order.shipped",
            "payload": { "order_id": "12345" },
            "created_at": now,
        }),
        EventType::WebhookPaused => json!({
            "endpoint_id": EndpointId::at(moment).to_string(),
            "reason": FAILED_TOO_LONG,
        }),
    }
}
