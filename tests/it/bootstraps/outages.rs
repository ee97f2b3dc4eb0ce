//! A store that is away, and one that takes no credential.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response as HttpResponse},
};
use serde_json::json;

use super::folder;
use crate::process::wait::until;
use crate::support::{
    Response, Tenant, World, deployed::serve, deployed::serve_on, tenant_of, world_over,
};

/// A tenant whose store is there, and the bootstraps that do not know it yet.
async fn tenant_and_bootstraps(endpoint: impl FnOnce(&World) -> String) -> Option<Tenant> {
    let folder = folder()?;
    let world = world_over(|client| client).await;
    let tenant = tenant_of(&world).await;
    let endpoint = endpoint(&world);
    Some(tenant.at(&world.deployed_at(&folder, &endpoint, |_| {})))
}

#[track_caller]
fn assert_unavailable(answer: &Response) {
    answer.assert_error(503, "SERVICE_UNAVAILABLE", None);
    assert_eq!(answer.header("retry-after"), Some("1"));
}

/// What the function of rooms has logged as errors. Its lines are written before its answer, and read after.
fn errors(tenant: &Tenant) -> Vec<String> {
    let deployed = tenant.world.deployed.as_ref().unwrap();
    let rooms = deployed.lambda.function("RoomsFunction").unwrap();
    until("an error in the log", || {
        let log = rooms.log();
        let lines = log.lines().filter(|line| line.contains("\"ERROR\""));
        let errors: Vec<_> = lines.map(str::to_owned).collect();
        (!errors.is_empty()).then_some(errors)
    })
}

#[tokio::test]
async fn a_store_that_is_away_is_unavailable_until_it_is_back() {
    // Nobody listens at an address that was just free.
    let address = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let Some(tenant) = tenant_and_bootstraps(|_| format!("http://{address}")).await else {
        return;
    };
    let alice = tenant.user("alice");

    assert_unavailable(&alice.get("/rooms").await);
    let logged = errors(&tenant);
    assert_eq!(logged.len(), 1, "{logged:?}");

    serve_on(TcpListener::bind(address).unwrap(), tenant.world.stores());
    assert_eq!(alice.get("/rooms").await.status, 200);
    let deployed = tenant.world.deployed.as_ref().unwrap();
    assert_eq!(
        deployed.lambda.function("RoomsFunction").unwrap().starts(),
        1
    );
}

/// A store that refuses credentials while it is told to, and counts how often it did.
#[derive(Clone, Default)]
struct Guard {
    refuses: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
}

impl Guard {
    fn before(&self, stores: Router) -> Router {
        stores.layer(from_fn_with_state(self.clone(), Self::check))
    }

    async fn check(State(guard): State<Self>, request: Request, next: Next) -> HttpResponse {
        if !guard.refuses.load(Ordering::SeqCst) {
            return next.run(request).await;
        }
        guard.refused.fetch_add(1, Ordering::SeqCst);
        let error = json!({
            "__type": "com.amazon.coral.service#ExpiredTokenException",
            "message": "The security token included in the request is expired",
        });
        let kind = [("content-type", "application/x-amz-json-1.0")];
        (axum::http::StatusCode::BAD_REQUEST, kind, error.to_string()).into_response()
    }
}

#[tokio::test]
async fn an_expired_token_is_unavailable_until_it_is_replaced() {
    let guard = Guard::default();
    guard.refuses.store(true, Ordering::SeqCst);
    let made = tenant_and_bootstraps(|world| serve(guard.before(world.stores()))).await;
    let Some(tenant) = made else {
        return;
    };
    let alice = tenant.user("alice");

    let answer = alice.get("/rooms").await;

    assert_unavailable(&answer);
    assert!(!answer.raw.contains("token"), "{}", answer.raw);
    let logged = errors(&tenant);
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert!(logged[0].contains("ExpiredTokenException"), "{logged:?}");
    // Once more at most, with credentials read anew: asking again with the same ones is in vain.
    assert!(guard.refused.load(Ordering::SeqCst) <= 2);

    guard.refuses.store(false, Ordering::SeqCst);
    assert_eq!(alice.get("/rooms").await.status, 200);
}
