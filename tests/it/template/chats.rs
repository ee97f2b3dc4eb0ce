//! What the functions of the Kodey dialect may do, and those behind it.

use axum::Router;
use parlance::{
    app::App,
    http::{dialects::Kodey, edge::edge},
    queue::PoisonQueue,
};
use serde_json::json;

use super::{
    grants::{Grant, limited},
    guard::Guard,
    permissions::{assert_done, mounted, once},
};
use crate::{
    chatapi::partition,
    kodey::{Team, deletion::fill, team},
    support::World,
};

/// A function of the dialect that is mounted alone, and the guard before it.
async fn mounted_for_teams(binary: &str, routes: Router<App>) -> (World, Guard) {
    let (world, guard) = mounted(binary, Router::new()).await;
    let api = edge::<Kodey>(routes, &world.app);
    (world.behind(world.app.clone(), api), guard)
}

/// What is used in another way than through the guard: keys of providers are opened by another client.
fn opened() -> [Grant; 1] {
    [Grant::new("kms:Decrypt", "ProviderKeys")]
}

async fn chat_of(team: &Team) -> String {
    let made = team.sk.post("/chat", &json!({ "agentId": "chat" })).await;
    assert_done(&made);
    format!("/chat/{}", made.text("id"))
}

/// An agent that nobody can answer for: who asks is told why, which is counted.
async fn mute_agent(team: &Team) -> String {
    let agent = json!({ "name": "Mute", "provider": "openai", "model": "none" });
    let made = team.sk.post("/agent", &agent).await;
    assert_done(&made);
    made.text("id")
}

/// Where one writes to a chat whose agent is gone: there may have been an answer before.
async fn left_behind(team: &Team) -> String {
    let agent = mute_agent(team).await;
    let made = team.sk.post("/chat", &json!({ "agentId": agent })).await;
    assert_done(&team.sk.delete(&format!("/agent/{agent}")).await);
    format!("/chat/{}/message", made.text("id"))
}

#[tokio::test]
async fn chats_may_do_what_it_does() {
    let (world, guard) = mounted_for_teams("chats", chats::routes()).await;
    let plain = team().await;
    plain.set(json!({ "monthly_token_cap": 1_000_000 })).await;
    let mute = mute_agent(&plain).await;
    let team = plain.at(&world);

    let body = json!({ "agentId": "chat", "userId": "alice" });
    let made = once(team.sk.clone()).post("/chat", &body).await;
    assert_done(&made);
    assert_done(&team.sk.get("/chat").await);
    let chat = format!("/chat/{}", made.text("id"));
    let hello = json!({ "content": "Hello!", "role": "user" });
    let path = format!("{chat}/message");
    assert_done(&once(team.sk.clone()).post(&path, &hello).await);
    let again = once(team.sk.clone()).post(&path, &hello).await;
    assert_done(&again);
    let body = json!({ "agentId": mute });
    let silent = team.sk.post("/chat", &body).await;
    let silent = format!("/chat/{}/message", silent.text("id"));
    let other = team.sk.clone().with("idempotency-key", "other");
    let refused = other.post(&silent, &hello).await;
    assert_eq!(refused.status, 502, "{}", refused.raw);
    let third = team.sk.clone().with("idempotency-key", "third");
    let left = third.post(&left_behind(&plain).await, &hello).await;
    assert_eq!(left.status, 404, "{}", left.raw);
    assert_done(&team.sk.get(&path).await);
    assert_done(&team.sk.get(&chat).await);
    assert_done(&team.sk.delete(&chat).await);

    guard.assert_all_but(&opened());
}

#[tokio::test]
async fn chat_stream_may_do_what_it_does() {
    let (world, guard) = mounted_for_teams("chat-stream", chats::stream_routes()).await;
    let plain = team().await;
    plain.set(json!({ "monthly_token_cap": 1_000_000 })).await;
    let mute = mute_agent(&plain).await;
    let silent = plain.sk.post("/chat", &json!({ "agentId": mute })).await;
    let silent = format!("/chat/{}/message", silent.text("id"));
    let path = format!("{}/message", chat_of(&plain).await);
    let team = plain.at(&world);
    let server = team.sk.clone().with("accept", "text/event-stream");

    let hello = json!({ "content": "Hello!", "role": "user" });
    assert_done(&once(server.clone()).post(&path, &hello).await);
    assert_done(&once(server.clone()).post(&path, &hello).await);
    let other = server.clone().with("idempotency-key", "other");
    let refused = other.post(&silent, &hello).await;
    assert_eq!(refused.status, 502, "{}", refused.raw);
    let third = server.with("idempotency-key", "third");
    let left = third.post(&left_behind(&plain).await, &hello).await;
    assert_eq!(left.status, 404, "{}", left.raw);

    guard.assert_all_but(&opened());
}

#[tokio::test]
async fn agents_may_do_what_it_does() {
    let (world, guard) = mounted_for_teams("agents", agents::routes()).await;
    let team = team().await.at(&world);

    let body = json!({ "name": "Guide" });
    let made = once(team.sk.clone()).post("/agent", &body).await;
    assert_done(&made);
    assert_done(&team.sk.get("/agent").await);
    let path = format!("/agent/{}", made.text("id"));
    assert_done(&team.sk.put(&path, &json!({ "name": "Other" })).await);
    let back = format!("{path}/rollback");
    assert_done(&team.sk.put(&back, &json!({ "version": 1 })).await);
    assert_done(&team.sk.get(&path).await);
    assert_done(&team.sk.get(&format!("{path}/versions")).await);
    assert_done(&team.sk.delete(&path).await);
    assert_done(&team.sk.put("/agent/chat", &json!({ "name": "Ours" })).await);
    assert_done(&team.sk.delete("/agent/chat").await);

    guard.assert_exact();
}

#[tokio::test]
async fn keys_may_do_what_it_does() {
    let (world, guard) = mounted("keys", keys::routes()).await;
    let tenant = team().await.tenant.at(&world);
    let server = tenant.server();

    let path = format!("/admin/tenants/{}/api-keys", tenant.id);
    let body = json!({ "kind": "publishable", "name": "Page" });
    let made = once(server.clone()).post(&path, &body).await;
    assert_done(&made);
    assert_done(&world.operator().anew().get(&path).await);
    let key = format!("{path}/{}", made.text("key_id"));
    let rotated = once(server.clone())
        .post(&format!("{key}/rotate"), &json!({}))
        .await;
    assert_done(&rotated);
    assert_done(&server.delete(&key).await);
    let operator = world.operator().anew();
    let own = format!("/admin/tenants/{}/provider-keys", tenant.id);
    for (client, path) in [(&server, own.as_str()), (&operator, "/admin/provider-keys")] {
        let body = json!({ "provider": "openai", "api_key": format!("sk-{}", tenant.id) });
        let unique = client.clone().with("idempotency-key", &tenant.id);
        let made = unique.post(path, &body).await;
        assert_done(&made);
        assert_done(&client.get(path).await);
        let key = format!("{path}/{}", made.text("key_id"));
        assert_done(&client.put(&key, &json!({ "name": "Ours" })).await);
        assert_done(&client.delete(&key).await);
    }

    // The secret is read when the process starts, by another client.
    guard.assert_all_but(&[
        Grant::new("secretsmanager:GetSecretValue", "MasterKey"),
        Grant::new("kms:Encrypt", "ProviderKeys"),
    ]);
}

#[tokio::test]
async fn sweep_may_do_what_it_does() {
    let (world, guard) = mounted("sweep", Router::new()).await;
    let plain = team().await;
    let chat = chat_of(&plain).await;
    let id = chat.strip_prefix("/chat/").unwrap();
    // More than one job removes.
    fill(&plain, id, 501).await;
    assert_done(&plain.sk.delete(&chat).await);
    let job = json!({ "v": 1, "tenant": plain.id, "chat": id }).to_string();
    let agent = plain
        .sk
        .post("/agent", &json!({ "name": "Guide" }))
        .await
        .text("id");
    let deleted = plain.sk.delete(&format!("/agent/{agent}")).await;
    assert_done(&deleted);
    let of_agent = json!({ "v": 1, "tenant": plain.id, "agent": agent }).to_string();
    let record = |body: &str| {
        json!({
            "messageId": "1",
            "receiptHandle": "none",
            "body": body,
            "attributes": { "ApproximateReceiveCount": "1", "SentTimestamp": "1765627200000" },
            "messageAttributes": {},
        })
    };
    let records = [record(&job), record(&of_agent), record("?")];
    let event = serde_json::from_value(json!({ "Records": records })).unwrap();
    let poison = PoisonQueue::new(
        world.sqs(|client| guard.guard(client)),
        world.queue("Poison").1,
    );

    let answer = sweep::handle(&world.app, &poison, event).await;

    assert_eq!(answer.batch_item_failures.len(), 0);
    let log = format!("{}#{id}", plain.id);
    let left = partition(&plain.tenant.world, "Messages", log).await;
    assert_eq!(left.len(), 1);
    let versions = format!("{}#agent#{agent}", plain.id);
    let left = partition(&plain.tenant.world, "Tenants", versions.clone()).await;
    assert_eq!(left.len(), 0);
    // What the guard does not see: of the table it may touch such partitions alone.
    let begun = versions.split_once("agent#").unwrap().0;
    let may = |partition: &str| {
        let keys = limited("sweep", &Grant::new("dynamodb:BatchWriteItem", "Tenants"));
        keys.iter()
            .any(|key| partition.contains(key.trim_matches('*')))
    };
    assert!(may(&versions));
    for other in ["agents", "provider_keys", "api_keys"] {
        assert!(!may(&format!("{begun}{other}")), "{other}");
    }
    guard.assert_exact();
}
