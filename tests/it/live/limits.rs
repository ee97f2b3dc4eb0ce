//! Limits and tokens, where the time is an argument.

use parlance::{
    domain::{
        Error,
        live::LIFETIME_SECONDS,
        secret::{SecretHash, SocketToken},
    },
    http::entropy,
};

use super::{
    actor, ago, connect, now, process, try_connect,
    wire::{Fate, Wire},
};
use crate::support::{faults::calm, tenant};

#[tokio::test]
async fn a_token_holds_for_a_minute() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let alice = actor(&app, &tenant, "alice").await;
    let key = SecretHash::of(tenant.key.as_bytes());
    let mut tokens = Vec::new();
    let at = ago(60);
    for _ in 0..2 {
        let token = app.socket_token(&alice, key, entropy().unwrap(), &at);
        tokens.push(token.await.unwrap());
    }

    let open = async |token: &SocketToken, at| {
        let token = token.expose().as_bytes();
        app.open_with_token(token, &at).await
    };
    let late = open(&tokens[0], now()).await;
    assert!(matches!(late, Err(Error::Unauthenticated(_))));
    let (_, opened_with, opened_for) = open(&tokens[1], ago(10)).await.unwrap();
    assert_eq!((opened_with, opened_for.user()), (key, alice.user()));
}

#[tokio::test]
async fn a_token_from_before_a_step_back_does_not_hold_for_longer_than_a_minute() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let alice = actor(&app, &tenant, "alice").await;
    let key = SecretHash::of(tenant.key.as_bytes());
    let open = async |step| {
        let at = now();
        let made = app.socket_token(&alice, key, entropy().unwrap(), &at);
        let token = made.await.unwrap();
        app.open_with_token(token.expose().as_bytes(), &ago(step))
            .await
    };
    open(10).await.unwrap();
    for step in [3_600, 24 * 3_600] {
        let late = open(step).await;
        assert!(matches!(late, Err(Error::Unauthenticated(_))), "{step}");
    }
}

#[tokio::test]
async fn connections_that_are_gone_make_room_after_a_step_back() {
    let (tenant, wire) = (tenant().await, Wire::new(|_, _| Fate::Gone));
    let app = process(&tenant.world, &wire, calm());
    for _ in 0..5 {
        connect(&app, &tenant, "alice").await;
    }
    // The clock is a day behind the times of the five.
    let back = ago(24 * 3_600);
    try_connect(&app, &tenant, "alice", &back).await.unwrap();
}

#[tokio::test]
async fn a_connection_from_before_a_step_back_is_pumped_to() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    // It has said nothing, and is pending until a time that is a day away.
    try_connect(&app, &tenant, "alice", &now()).await.unwrap();
    let user = super::user("alice");
    let back = ago(24 * 3_600);
    let reach = app.post_to_user(super::tenant_id(&tenant), &user, "{}", &back);
    assert_eq!(reach.await.unwrap(), parlance::domain::Reach::Reached);
}

#[tokio::test]
async fn a_token_that_many_use_at_once_opens_one_connection() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let alice = actor(&app, &tenant, "alice").await;
    let key = SecretHash::of(tenant.key.as_bytes());
    let at = now();
    let token = app.socket_token(&alice, key, entropy().unwrap(), &at);
    let token = token.await.unwrap();
    let uses = (0..8).map(|_| async {
        let app = process(&tenant.world, &wire, calm());
        app.open_with_token(token.expose().as_bytes(), &now())
            .await
            .is_ok()
    });
    let uses = futures_util::future::join_all(uses).await;
    assert_eq!(uses.iter().filter(|used| **used).count(), 1);
}

#[tokio::test]
async fn many_who_connect_at_once_are_not_more_than_the_limit() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let connecting = (0..12).map(|_| async {
        let app = process(&tenant.world, &wire, calm());
        try_connect(&app, &tenant, "alice", &now()).await.is_ok()
    });
    let connected = futures_util::future::join_all(connecting).await;
    assert_eq!(connected.iter().filter(|is_in| **is_in).count(), 5);
}

#[tokio::test]
async fn connections_that_are_gone_make_room() {
    let (tenant, wire) = (tenant().await, Wire::new(|_, _| Fate::Gone));
    let app = process(&tenant.world, &wire, calm());
    for _ in 0..5 {
        connect(&app, &tenant, "alice").await;
    }
    assert!(try_connect(&app, &tenant, "alice", &now()).await.is_ok());
}

#[tokio::test]
async fn connections_in_their_first_seconds_are_not_taken_for_gone() {
    let (tenant, wire) = (tenant().await, Wire::new(|_, _| Fate::Gone));
    let app = process(&tenant.world, &wire, calm());
    for _ in 0..5 {
        try_connect(&app, &tenant, "alice", &now()).await.unwrap();
    }
    let refused = try_connect(&app, &tenant, "alice", &now()).await;
    assert!(matches!(refused, Err(Error::RateLimited { .. })));
}

#[tokio::test]
async fn a_connection_is_over_after_its_lifetime() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let at = ago(LIFETIME_SECONDS + 600);
    let id = try_connect(&app, &tenant, "alice", &at).await.unwrap();
    let id = parlance::domain::ConnectionId::parse(&id).unwrap();
    assert!(app.socket(&id, &now()).await.is_err());
    let user = super::user("alice");
    let at = now();
    let reach = app.post_to_user(super::tenant_id(&tenant), &user, "{}", &at);
    assert_eq!(reach.await.unwrap(), parlance::domain::Reach::Offline);
}
