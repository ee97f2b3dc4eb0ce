//! AWS KMS as far as a function asks it: symmetric encryption and decryption, bound to a context.
//!
//! What it answers is as the API reference says: <https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html>.
//! A ciphertext here is base64 of its plaintext with what it is bound to: faithful in what opens it, and no secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What `X-Amz-Target` begins with.
const SERVICE: &str = "TrentService.";
/// The longest plaintext, in bytes.
const LONGEST: usize = 4096;
/// No request is larger.
const LARGEST_BODY: usize = 64 << 10;

/// What a ciphertext holds.
#[derive(Serialize, Deserialize)]
struct Sealed {
    key: String,
    context: BTreeMap<String, String>,
    plaintext: String,
}

/// Why a request is refused: the exception's name.
type Refused = &'static str;

/// `others` with the keys of an account beside them, by id or ARN.
pub fn with_keys(others: Router, keys: BTreeSet<String>) -> Router {
    others.layer(from_fn_with_state(Arc::new(keys), answer))
}

async fn answer(
    State(keys): State<Arc<BTreeSet<String>>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let target = request.headers().get("x-amz-target");
    let target = target.and_then(|target| target.to_str().ok()?.strip_prefix(SERVICE));
    let Some(operation) = target.map(ToOwned::to_owned) else {
        return next.run(request).await;
    };
    let body = to_bytes(request.into_body(), LARGEST_BODY).await;
    let asked: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    let done = match operation.as_str() {
        "Encrypt" => encrypt(&keys, &asked),
        "Decrypt" => decrypt(&keys, &asked),
        _ => Err("UnknownOperationException"),
    };
    match done {
        Ok(body) => shown(StatusCode::OK, &body),
        Err(kind) => shown(
            StatusCode::BAD_REQUEST,
            &json!({ "__type": kind, "message": kind }),
        ),
    }
}

fn encrypt(keys: &BTreeSet<String>, asked: &Value) -> Result<Value, Refused> {
    let key = asked["KeyId"].as_str().unwrap_or_default();
    if !keys.contains(key) {
        return Err("NotFoundException");
    }
    let plaintext = asked["Plaintext"].as_str().unwrap_or_default();
    let length = STANDARD.decode(plaintext).map(|it| it.len());
    if !length.is_ok_and(|length| (1..=LONGEST).contains(&length)) {
        return Err("ValidationException");
    }
    let sealed = Sealed {
        key: key.to_owned(),
        context: context(asked),
        plaintext: plaintext.to_owned(),
    };
    let sealed = serde_json::to_vec(&sealed).map_err(|_| "KMSInternalException")?;
    Ok(json!({
        "CiphertextBlob": STANDARD.encode(sealed),
        "KeyId": key,
        "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
    }))
}

fn decrypt(keys: &BTreeSet<String>, asked: &Value) -> Result<Value, Refused> {
    let invalid = "InvalidCiphertextException";
    let blob = asked["CiphertextBlob"].as_str().unwrap_or_default();
    let blob = STANDARD.decode(blob).map_err(|_| invalid)?;
    let sealed: Sealed = serde_json::from_slice(&blob).map_err(|_| invalid)?;
    if !keys.contains(&sealed.key) || sealed.context != context(asked) {
        return Err(invalid);
    }
    if asked["KeyId"].as_str().is_some_and(|key| key != sealed.key) {
        return Err("IncorrectKeyException");
    }
    Ok(json!({
        "Plaintext": sealed.plaintext,
        "KeyId": sealed.key,
        "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
    }))
}

fn context(asked: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(asked["EncryptionContext"].clone()).unwrap_or_default()
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

    async fn asked(operation: &str, body: Value) -> (u16, Value) {
        let keys = BTreeSet::from(["ours".to_owned(), "another".to_owned()]);
        let others = Router::new().fallback(|| async { "\"others\"" });
        let request = Request::post("/").header("x-amz-target", operation);
        let request = request.body(Body::from(body.to_string())).unwrap();
        let answer = with_keys(others, keys).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 10_000).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn sealed() -> Value {
        let body = json!({
            "KeyId": "ours",
            "Plaintext": STANDARD.encode("secret"),
            "EncryptionContext": { "tenant": "a" },
        });
        let (status, sealed) = asked("TrentService.Encrypt", body).await;
        assert_eq!(status, 200, "{sealed}");
        sealed["CiphertextBlob"].clone()
    }

    #[tokio::test]
    async fn what_was_encrypted_opens_in_its_context() {
        let body =
            json!({ "CiphertextBlob": sealed().await, "EncryptionContext": { "tenant": "a" } });
        let (status, opened) = asked("TrentService.Decrypt", body).await;
        assert_eq!(
            (status, &opened["Plaintext"]),
            (200, &json!(STANDARD.encode("secret")))
        );
    }

    #[tokio::test]
    async fn it_does_not_open_in_another_context_or_by_another_key() {
        let blob = sealed().await;
        for (body, kind) in [
            (
                json!({ "CiphertextBlob": blob, "EncryptionContext": { "tenant": "b" } }),
                "InvalidCiphertextException",
            ),
            (
                json!({ "CiphertextBlob": blob }),
                "InvalidCiphertextException",
            ),
            (
                json!({ "CiphertextBlob": blob, "KeyId": "another", "EncryptionContext": { "tenant": "a" } }),
                "IncorrectKeyException",
            ),
        ] {
            let (status, error) = asked("TrentService.Decrypt", body).await;
            assert_eq!((status, &error["__type"]), (400, &json!(kind)));
        }
    }

    #[tokio::test]
    async fn a_key_that_is_not_there_encrypts_nothing() {
        let body = json!({ "KeyId": "none", "Plaintext": STANDARD.encode("secret") });
        let (status, error) = asked("TrentService.Encrypt", body).await;
        assert_eq!(
            (status, &error["__type"]),
            (400, &json!("NotFoundException"))
        );
    }

    #[tokio::test]
    async fn other_services_answer_for_themselves() {
        let (status, answer) = asked("DynamoDB_20120810.GetItem", json!({})).await;
        assert_eq!((status, answer), (200, json!("others")));
    }
}
