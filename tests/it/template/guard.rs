//! IAM, as far as this service needs it: a connector that lets a function's calls pass if the template grants
//! them, and notes what was asked for.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex},
};

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient as _, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
        http_client_fn,
    },
    orchestrator::HttpRequest,
};
use serde_json::{Value, json};

use super::grants::{Grant, granted, limited};
use crate::support::faults::{body, operation, refusal};

/// What a function may do, and what it did.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    binary: Arc<str>,
    granted: Arc<BTreeSet<Grant>>,
    asked: Arc<Mutex<BTreeSet<Grant>>>,
}

impl Guard {
    /// The guard of the function whose binary is `binary`.
    pub(super) fn of(binary: &str) -> Self {
        Self {
            binary: binary.into(),
            granted: Arc::new(granted(binary)),
            asked: Arc::default(),
        }
    }

    /// `client`, guarded.
    pub(super) fn guard(&self, client: SharedHttpClient) -> SharedHttpClient {
        let guard = self.clone();
        http_client_fn(move |settings, components| {
            SharedHttpConnector::new(Guarded {
                inner: client.http_connector(settings, components),
                guard: guard.clone(),
            })
        })
    }

    /// Whether a call changes an item of a partition that the function may change.
    fn is_within(&self, operation: &str, body: &Value) -> bool {
        if !["UpdateItem", "DeleteItem"].contains(&operation) {
            return true;
        }
        let table = body["TableName"].as_str().unwrap();
        let grant = Grant::new(format!("dynamodb:{operation}"), table);
        let patterns = limited(&self.binary, &grant);
        let partition = body["Key"]["pk"]["S"].as_str().unwrap();
        let matches = |pattern: &String| {
            let (start, end) = pattern.split_once('*').unwrap();
            partition.starts_with(start) && partition.ends_with(end)
        };
        patterns.is_empty() || patterns.iter().any(matches)
    }

    /// Fails unless the function asked for all that it is granted, and for nothing else.
    #[track_caller]
    pub(super) fn assert_exact(&self) {
        self.assert_all_but(&[]);
    }

    /// The same, where `others` are used in another way than through this guard.
    #[track_caller]
    pub(super) fn assert_all_but(&self, others: &[Grant]) {
        let asked = self.asked.lock().unwrap();
        let refused: Vec<_> = asked.difference(&self.granted).collect();
        assert!(refused.is_empty(), "not granted: {refused:?}");
        let unused: Vec<_> = self
            .granted
            .difference(&asked)
            .filter(|grant| !others.contains(grant))
            .collect();
        assert!(unused.is_empty(), "granted in vain: {unused:?}");
    }
}

struct Guarded {
    inner: SharedHttpConnector,
    guard: Guard,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guarded")
    }
}

impl HttpConnector for Guarded {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        // Connections are reached in another way than tables and queues.
        let asked = if request.uri().contains("/@connections/") {
            vec![Grant::new(
                "execute-api:ManageConnections",
                "WebSocketApi/connections",
            )]
        } else {
            asks(&operation(&request), &body(&request))
        };
        let may = asked.iter().all(|it| self.guard.granted.contains(it))
            && self.guard.is_within(&operation(&request), &body(&request));
        self.guard.asked.lock().unwrap().extend(asked);
        if may {
            return self.inner.call(request);
        }
        let denied = json!({ "message": "User is not authorized to perform this action" });
        HttpConnectorFuture::ready(Ok(refusal("AccessDeniedException", denied)))
    }
}

/// What a call must be granted. Tables and queues are named by their logical ids here.
fn asks(operation: &str, body: &Value) -> Vec<Grant> {
    let on = |part: &Value| part["TableName"].as_str().unwrap().to_owned();
    match operation {
        // Each part is allowed or denied as the call it stands for.
        "TransactWriteItems" | "TransactGetItems" => {
            let parts = body["TransactItems"].as_array().unwrap().iter();
            let parts = parts.flat_map(|part| part.as_object().unwrap());
            parts
                .map(|(kind, part)| Grant::new(format!("dynamodb:{kind}Item"), on(part)))
                .collect()
        }
        "BatchGetItem" | "BatchWriteItem" => {
            let tables = body["RequestItems"].as_object().unwrap().keys();
            tables
                .map(|table| Grant::new(format!("dynamodb:{operation}"), table))
                .collect()
        }
        "GetItem" | "PutItem" | "UpdateItem" | "DeleteItem" | "Query" | "Scan" => {
            let mut on = on(body);
            if let Some(index) = body["IndexName"].as_str() {
                on = format!("{on}/index/{index}");
            }
            vec![Grant::new(format!("dynamodb:{operation}"), on)]
        }
        "SendMessage" | "SendMessageBatch" => {
            let queue = body["QueueUrl"].as_str().unwrap().rsplit('/').next();
            // A batch is allowed as its messages are.
            vec![Grant::new("sqs:SendMessage", queue.unwrap())]
        }
        "ChangeMessageVisibility" => {
            let queue = body["QueueUrl"].as_str().unwrap().rsplit('/').next();
            vec![Grant::new("sqs:ChangeMessageVisibility", queue.unwrap())]
        }
        other => panic!("{other} is new: what must it be granted?"),
    }
}
