//! Provider keys that AWS KMS seals.

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::config::{Credentials, Region, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::{
    http::{
        HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
    },
    orchestrator::{HttpRequest, HttpResponse},
};
use aws_smithy_types::body::SdkBody;
use base64::{Engine, engine::general_purpose::STANDARD};
use parlance::{
    domain::{
        Error, ProviderKeyId, TenantId,
        provider_key::{ModelKey, Owner},
        webhook::Sealed,
    },
    http::moment,
    providers::{aws::Aws, vault::Vault},
};
use serde_json::{Value, json};

/// A small AWS KMS: `Encrypt` and `Decrypt` over awsJson1.1, as the API reference words them.
#[derive(Clone, Debug, Default)]
pub(super) struct Kms(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What was sealed: the key, the context and the text.
    sealed: Vec<[Value; 3]>,
    refusal: Option<&'static str>,
    asked: Vec<String>,
}

impl Kms {
    pub(super) fn vault(&self, key: &str) -> Vault {
        let kms = self.clone();
        let http: SharedHttpClient =
            http_client_fn(move |_, _| SharedHttpConnector::new(kms.clone()));
        let credentials = Credentials::new("AKIA", "secret", None, None, "test");
        let credentials = SharedCredentialsProvider::new(credentials);
        let region = Region::from_static("eu-west-1");
        Aws::new(http, credentials, Some(region)).vault(key.to_owned())
    }

    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let header = |name: &str| request.headers().get(name).unwrap_or_default();
        assert!(header("authorization").contains("/kms/aws4_request"));
        let asked: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let target = header("x-amz-target");
        let mut state = self.0.lock().unwrap();
        state.asked.push(format!("{target} {asked}"));
        if let Some(code) = state.refusal {
            return answered(400, &json!({ "__type": code, "message": "no" }));
        }
        let what = [&asked["KeyId"], &asked["EncryptionContext"]].map(Value::clone);
        match target {
            "TrentService.Encrypt" => {
                let [key, context] = what;
                let text = asked["Plaintext"].clone();
                state.sealed.push([key, context, text]);
                let blob = STANDARD.encode(format!("sealed {}", state.sealed.len() - 1));
                answered(
                    200,
                    &json!({ "CiphertextBlob": blob, "KeyId": asked["KeyId"] }),
                )
            }
            "TrentService.Decrypt" => {
                let blob = STANDARD.decode(asked["CiphertextBlob"].as_str().unwrap());
                let blob = String::from_utf8(blob.unwrap()).unwrap();
                let place = blob.strip_prefix("sealed ").and_then(|n| n.parse().ok());
                let sealed = place.and_then(|place: usize| state.sealed.get(place));
                match sealed {
                    Some([key, context, text]) if [key.clone(), context.clone()] == what => {
                        answered(200, &json!({ "Plaintext": text, "KeyId": key }))
                    }
                    Some(_) | None => {
                        answered(400, &json!({ "__type": "InvalidCiphertextException" }))
                    }
                }
            }
            target => panic!("{target} is not known here"),
        }
    }
}

impl HttpConnector for Kms {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(Ok(self.answer(&request)))
    }
}

fn answered(status: u16, body: &Value) -> HttpResponse {
    let body = SdkBody::from(body.to_string());
    let mut answer = HttpResponse::new(status.try_into().unwrap(), body);
    let headers = answer.headers_mut();
    headers.insert("content-type", "application/x-amz-json-1.1");
    answer
}

const TENANT: &str = "tenant_00000000000000000000000000000001";
const ID: &str = "pkey_00000000000000000000000000000002";

fn place() -> (Owner, ProviderKeyId) {
    let tenant: TenantId = TENANT.parse().unwrap();
    (Owner::Tenant(tenant), ID.parse().unwrap())
}

fn key() -> ModelKey {
    super::key("sk-0123456789")
}

async fn sealed(vault: &Vault) -> Sealed {
    let (owner, id) = place();
    let now = moment(std::time::Duration::from_secs(5)).unwrap();
    vault.seal(&key(), owner, id, &now).await.unwrap()
}

#[tokio::test]
async fn what_kms_seals_it_opens_for_the_same_tenant_and_key_alone() {
    let kms = Kms::default();
    let vault = kms.vault("alias/parlance");
    let text = sealed(&vault).await;
    let (owner, id) = place();
    assert_eq!(vault.open(&text, owner, id).await.unwrap(), key());

    let asked = kms.0.lock().unwrap().asked.clone();
    let asked: Value = asked[1].split_once(' ').unwrap().1.parse().unwrap();
    assert_eq!(
        (&asked["KeyId"], &asked["EncryptionContext"]),
        (
            &json!("alias/parlance"),
            &json!({ "tenant": TENANT, "key": ID })
        )
    );
    let other: ProviderKeyId = ID.replace('2', "3").parse().unwrap();
    for (vault, owner, id) in [
        (&vault, Owner::Operator, id),
        (&vault, owner, other),
        (&kms.vault("alias/other"), owner, id),
    ] {
        let error = vault.open(&text, owner, id).await.unwrap_err();
        assert!(matches!(error, Error::Internal(_)), "{error:?}");
    }
}

#[tokio::test]
async fn kms_out_of_order_is_a_503_and_nothing_is_lost() {
    let kms = Kms::default();
    let vault = kms.vault("alias/parlance");
    let text = sealed(&vault).await;
    let (owner, id) = place();
    for refusal in ["AccessDeniedException", "DisabledException"] {
        kms.0.lock().unwrap().refusal = Some(refusal);
        let error = vault.open(&text, owner, id).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
        let why = error.why().unwrap();
        assert!(!why.contains("0123456789"), "{why}");
    }
    kms.0.lock().unwrap().refusal = None;
    assert_eq!(vault.open(&text, owner, id).await.unwrap(), key());
}

#[tokio::test]
async fn what_a_given_key_sealed_kms_does_not_open_nor_the_other_way_round() {
    use parlance::domain::secret::SecretHash;
    let kms = Kms::default().vault("alias/parlance");
    let given = Vault::Given(SecretHash::of(b"a key of enough characters"));
    let (owner, id) = place();
    for (sealing, opening) in [(&kms, &given), (&given, &kms)] {
        let text = sealed(sealing).await;
        let error = opening.open(&text, owner, id).await.unwrap_err();
        assert!(matches!(error, Error::Internal(_)), "{error:?}");
    }
}
