//! A small AWS Secrets Manager: `GetSecretValue` over awsJson1.1, as the API reference words it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use aws_smithy_runtime_api::client::{
    http::{
        HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
    },
    orchestrator::{HttpRequest, HttpResponse},
};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};

/// The secrets of an account.
#[derive(Clone, Debug, Default)]
pub(crate) struct SecretsManager(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// By name; the versions from the oldest to the current one.
    secrets: BTreeMap<String, Vec<Version>>,
    refusal: Option<&'static str>,
    asked: usize,
    hangs: bool,
}

#[derive(Debug)]
struct Version {
    secret: String,
    made_at: i64,
}

impl SecretsManager {
    /// Makes `secret` the current version of the secret `name`, as of `made_at`, in seconds since 1970.
    pub(crate) fn put(&self, name: &str, secret: &str, made_at: i64) {
        let mut state = self.0.lock().unwrap();
        let versions = state.secrets.entry(name.to_owned()).or_default();
        versions.push(Version {
            secret: secret.to_owned(),
            made_at,
        });
    }

    /// Refuses everything with `code` from now on; answers again with `None`.
    pub(crate) fn refuse(&self, code: Option<&'static str>) {
        self.0.lock().unwrap().refusal = code;
    }

    /// Answers nothing from now on.
    pub(crate) fn hang(&self) {
        self.0.lock().unwrap().hangs = true;
    }

    /// How often it was asked since this was last asked.
    pub(crate) fn asked(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }

    /// The way to it.
    pub(crate) fn http_client(&self) -> SharedHttpClient {
        let manager = self.clone();
        http_client_fn(move |_, _| SharedHttpConnector::new(manager.clone()))
    }

    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let header = |name: &str| request.headers().get(name).unwrap_or_default();
        assert_eq!(header("content-type"), "application/x-amz-json-1.1");
        assert_eq!(header("x-amz-target"), "secretsmanager.GetSecretValue");
        let signed = header("authorization");
        assert!(signed.contains("/secretsmanager/aws4_request"), "{signed}");
        let asked: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();

        let mut state = self.0.lock().unwrap();
        state.asked += 1;
        match state.refusal {
            Some("AccessDeniedException") => refused(
                "AccessDeniedException",
                "User: arn:aws:sts::123456789012:assumed-role/admin/admin is not authorized to perform: \
                 secretsmanager:GetSecretValue on resource: master because no identity-based policy allows \
                 the secretsmanager:GetSecretValue action",
            ),
            Some("ThrottlingException") => refused("ThrottlingException", "Rate exceeded"),
            Some("InternalServiceError") => {
                let message = "An error occurred on the server side.";
                let body = json!({ "__type": "InternalServiceError", "Message": message });
                answered(500, &body)
            }
            Some(code) => panic!("{code} is not known here"),
            None => state.value(&asked),
        }
    }
}

impl State {
    fn value(&self, asked: &Value) -> HttpResponse {
        let name = asked["SecretId"].as_str().unwrap();
        // An ARN ends with the name and six random characters.
        let name = name
            .strip_prefix("arn:aws:secretsmanager:eu-west-1:123456789012:secret:")
            .map_or(name, |name| &name[..name.len() - 7]);
        let Some(versions) = self.secrets.get(name) else {
            return refused(
                "ResourceNotFoundException",
                "Secrets Manager can't find the specified secret.",
            );
        };
        let stage = asked["VersionStage"].as_str().unwrap_or("AWSCURRENT");
        let back = match stage {
            "AWSCURRENT" => 1,
            "AWSPREVIOUS" => 2,
            _ => panic!("{stage} is not known here"),
        };
        let found = versions.len().checked_sub(back).map(|at| &versions[at]);
        let Some(version) = found else {
            let message = format!(
                "Secrets Manager can't find the specified secret value for staging label: {stage}"
            );
            return refused("ResourceNotFoundException", &message);
        };
        answered(
            200,
            &json!({
                "ARN": format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-AbCdEf"),
                "CreatedDate": version.made_at,
                "Name": name,
                "SecretString": version.secret,
                "VersionId": "8f3b2a1c-0000-4000-8000-000000000000",
                "VersionStages": [stage],
            }),
        )
    }
}

impl HttpConnector for SecretsManager {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if self.0.lock().unwrap().hangs {
            return HttpConnectorFuture::new(std::future::pending());
        }
        HttpConnectorFuture::ready(Ok(self.answer(&request)))
    }
}

fn refused(code: &str, message: &str) -> HttpResponse {
    answered(400, &json!({ "__type": code, "Message": message }))
}

fn answered(status: u16, body: &Value) -> HttpResponse {
    let body = SdkBody::from(body.to_string());
    let mut answer = HttpResponse::new(status.try_into().unwrap(), body);
    let headers = answer.headers_mut();
    headers.insert("content-type", "application/x-amz-json-1.1");
    headers.insert("x-amzn-requestid", "6f7b1c1e-0000-4000-8000-000000000000");
    answer
}
