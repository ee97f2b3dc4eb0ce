//! AWS Secrets Manager as far as a function asks it: the current value of a secret.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use serde_json::{Value, json};

/// The operation, as `X-Amz-Target` names it.
const OPERATION: &str = "secretsmanager.GetSecretValue";
/// No request for a secret is larger.
const LARGEST_BODY: usize = 64 << 10;

/// `others` with the secrets of an account beside them: values by id, which may be a name or an ARN.
pub fn with_secrets(others: Router, secrets: BTreeMap<String, String>) -> Router {
    others.layer(from_fn_with_state(Arc::new(secrets), answer))
}

async fn answer(
    State(secrets): State<Arc<BTreeMap<String, String>>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let target = request.headers().get("x-amz-target");
    if target.is_none_or(|target| target != OPERATION) {
        return next.run(request).await;
    }
    let body = to_bytes(request.into_body(), LARGEST_BODY).await;
    let asked: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    let id = asked["SecretId"].as_str().unwrap_or_default();
    // There has never been a version before the current one.
    let is_current = matches!(asked["VersionStage"].as_str(), None | Some("AWSCURRENT"));
    let Some(value) = secrets.get(id).filter(|_| is_current) else {
        let error = json!({
            "__type": "ResourceNotFoundException",
            "Message": "Secrets Manager can't find the specified secret.",
        });
        return shown(StatusCode::BAD_REQUEST, &error);
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let secret = json!({
        "ARN": id,
        "Name": id,
        "VersionId": "00000000-0000-4000-8000-000000000000",
        "VersionStages": ["AWSCURRENT"],
        "CreatedDate": now.unwrap_or_default().as_secs(),
        "SecretString": value,
    });
    shown(StatusCode::OK, &secret)
}

fn shown(status: StatusCode, body: &Value) -> Response<Body> {
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.1");
    // Both headers are literals.
    response
        .body(Body::from(body.to_string()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;

    async fn asked(target: &str, body: Value) -> (u16, Value) {
        let secrets = BTreeMap::from([("key".to_owned(), "value".to_owned())]);
        let others = Router::new().fallback(|| async { "\"others\"" });
        let request = Request::post("/").header("x-amz-target", target);
        let request = request.body(Body::from(body.to_string())).unwrap();
        let answer = with_secrets(others, secrets)
            .oneshot(request)
            .await
            .unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 10_000).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_secret_is_shown_by_its_id() {
        let (status, secret) = asked(OPERATION, json!({ "SecretId": "key" })).await;
        assert_eq!((status, &secret["SecretString"]), (200, &json!("value")));
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_found() {
        for body in [
            json!({ "SecretId": "other" }),
            json!({ "SecretId": "key", "VersionStage": "AWSPREVIOUS" }),
        ] {
            let (status, error) = asked(OPERATION, body).await;
            let kind = json!("ResourceNotFoundException");
            assert_eq!((status, &error["__type"]), (400, &kind));
        }
    }

    #[tokio::test]
    async fn other_services_answer_for_themselves() {
        let (status, answer) = asked("DynamoDB_20120810.GetItem", json!({})).await;
        assert_eq!((status, answer), (200, json!("others")));
    }
}
