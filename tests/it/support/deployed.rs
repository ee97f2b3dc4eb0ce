//! The service as it is deployed: its bootstraps as Lambda runs them, behind API Gateway's events.
//!
//! `PARLANCE_BOOTSTRAPS` names the folder that holds them. With it the shared [`super::world`] is served by
//! them; without it in process.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    path::PathBuf,
    sync::LazyLock,
};

use axum::Router;
use parlance_lambda::{
    Definition, Gateway, Lambda, Surroundings, definitions, names, with_keys, with_secrets,
};
use parlance_local::{
    aws_port::{self, Stores},
    dynamodb::DynamoDb,
    provision::Provisioned,
    sqs::Sqs,
    template::Stack,
};

use super::store::{MASTER_KEY, SEALING_KEY};

const TEMPLATE: &str = include_str!("../../../template.yaml");

/// The secret that holds the operator's key.
const MASTER_KEY_SECRET: &str = "master-key";
/// The secret that holds the sealing key.
const SEALING_KEY_SECRET: &str = "sealing-key";
/// The key that seals the keys of model providers.
const PROVIDER_KEYS: &str = "provider-keys";

/// Where servers and processes live. The shared ones outlive the test that started them, and its runtime.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
});

/// The functions of the template, running from their bootstraps.
#[derive(Clone)]
pub struct Deployed {
    /// The processes.
    pub lambda: Lambda,
    /// The API in front of them.
    pub gateway: Gateway,
}

/// The folder of bootstraps. Without one, a test says that it is skipped.
pub fn bootstraps() -> Option<PathBuf> {
    let folder = std::env::var_os("PARLANCE_BOOTSTRAPS")?;
    let folder = PathBuf::from(folder);
    assert!(
        folder.is_absolute(),
        "PARLANCE_BOOTSTRAPS must be an absolute path: tests run in a folder of cargo's choice"
    );
    Some(folder)
}

impl Deployed {
    /// The functions of the template over stores at `endpoint`, after `change`.
    pub fn new(
        folder: &std::path::Path,
        endpoint: &str,
        provisioned: &Provisioned,
        change: impl FnOnce(&mut Vec<Definition>),
    ) -> Self {
        let mut names = names(&Stack::compiled_in().unwrap(), provisioned);
        names.insert("MasterApiKey".to_owned(), MASTER_KEY.to_owned());
        names.insert("MasterKey".to_owned(), MASTER_KEY_SECRET.to_owned());
        names.insert("SealingKey".to_owned(), SEALING_KEY_SECRET.to_owned());
        names.insert("ProviderKeys.Arn".to_owned(), PROVIDER_KEYS.to_owned());
        // The receivers and the models of tests are on this machine.
        names.insert("WebhookTargets".to_owned(), "any".to_owned());
        names.insert("ModelTargets".to_owned(), "any".to_owned());
        let mut definitions = definitions(TEMPLATE, &names).unwrap();
        change(&mut definitions);
        let surroundings = Surroundings::default().with("AWS_ENDPOINT_URL", endpoint);
        let _here = RUNTIME.enter();
        let lambda = Lambda::new(definitions, folder, &surroundings).unwrap();
        let gateway = Gateway::new(&lambda).unwrap();
        Self { lambda, gateway }
    }
}

/// Serves the stores on a port of this machine; its URL.
pub fn served(dynamodb: &DynamoDb, sqs: &Sqs) -> String {
    serve(stores(dynamodb, sqs))
}

/// The stores as a service.
pub fn stores(dynamodb: &DynamoDb, sqs: &Sqs) -> Router {
    let stores = aws_port::router(Stores {
        dynamodb: Some(dynamodb.clone()),
        sqs: Some(sqs.clone()),
    });
    let keys = [
        (MASTER_KEY_SECRET, MASTER_KEY),
        (SEALING_KEY_SECRET, SEALING_KEY),
    ];
    let keys = keys.map(|(name, key)| (name.to_owned(), key.to_owned()));
    let stores = with_secrets(stores, BTreeMap::from(keys));
    with_keys(stores, BTreeSet::from([PROVIDER_KEYS.to_owned()]))
}

/// Serves `router` on a port of this machine; its URL.
pub fn serve(router: Router) -> String {
    serve_on(TcpListener::bind(("127.0.0.1", 0)).unwrap(), router)
}

/// Serves `router` to whoever connects to `listener`; its URL.
pub fn serve_on(listener: TcpListener, router: Router) -> String {
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    RUNTIME.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        axum::serve(listener, router).await.unwrap();
    });
    format!("http://{address}")
}
