//! How a receiver can tell that a webhook is ours: Standard Webhooks, and `ChatAPI`'s own header beside it.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac::{HMAC_SHA256, Key, Tag, sign};

use crate::domain::webhook::{Outgoing, Secret};

fn mac(key: &[u8], text: &[u8]) -> Tag {
    sign(&Key::new(HMAC_SHA256, key), text)
}

/// `webhook-signature`: for each secret `v1,` and the MAC of `id.timestamp.body`, with spaces between.
pub(super) fn standard(secrets: &[Secret], what: &Outgoing<'_>) -> String {
    let signed = format!("{}.{}.{}", what.id, what.at.seconds(), what.body);
    let signatures = secrets.iter().map(|secret| {
        let tag = mac(secret.key(), signed.as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

/// `X-ChatAPI-Signature`: the MAC of the body, keyed with the text of the secret.
pub(super) fn chatapi(secret: &Secret, body: &str) -> String {
    let tag = mac(secret.expose().as_bytes(), body.as_bytes());
    format!("sha256={}", hex::encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Timestamp, webhook::EventType};

    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        // From the test suite of its reference libraries.
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()).unwrap();
        let what = Outgoing {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
            at: Timestamp::from_micros(1_614_265_330_000_000),
            event: EventType::MessageCreated,
            body: r#"{"test": 2432232314}"#,
        };
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(standard(std::slice::from_ref(&secret), &what), expected);
        let two = [secret.clone(), secret];
        assert_eq!(standard(&two, &what), format!("{expected} {expected}"));
    }

    #[test]
    fn a_signature_of_chatapi_is_keyed_with_the_whole_text() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()).unwrap();
        // printf '{}' | openssl dgst -sha256 -hmac whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
        let expected = "sha256=6cbbcdf2c8016ca85b50543b19e8e121ef16137967bdfa3ce660972922bafaeb";
        assert_eq!(chatapi(&secret, "{}"), expected);
    }
}
