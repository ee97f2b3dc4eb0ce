//! The service under test.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use axum::Router;
use parlance::{
    app::{App, Means, ProviderKeys, Settings, Webhooks},
    domain::{secret::SecretHash, webhook::Targets},
    providers::{
        models::{DefaultModel, Models},
        outbound::Fetcher,
        sealing::Sealing,
        sockets::Sockets,
        vault::Vault,
        webhook::Sender,
    },
    queue::Jobs,
};
use parlance_lambda::Definition;
use parlance_local::{
    clients::{embedded_dynamodb, embedded_sockets, embedded_sqs, embedded_streams},
    dynamodb::{DynamoDb, Sync},
    functions,
    provision::{Provisioned, provision},
    sqs::{self, Sqs},
    streams::Wake,
    template::Stack,
};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::{
    Client,
    deployed::{Deployed, bootstraps, served, stores},
};

/// The operator's key of every service under test.
pub const MASTER_KEY: &str = "mk_the_operators_key_of_the_tests";

/// What seals secrets in every service under test.
pub const SEALING_KEY: &str = "the_sealing_key_of_the_tests";

/// A service and its store.
#[derive(Clone)]
pub struct World {
    /// All routes, as the gateway serves them.
    pub api: Router,
    /// A client of the store that no fault touches.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// The use cases, in process.
    pub app: App,
    /// The processes that answer, unless it is this one.
    pub deployed: Option<Deployed>,
    store: DynamoDb,
    queues: Sqs,
    provisioned: Provisioned,
}

/// The service that tests share: its bootstraps, if there are any, or in process.
pub async fn world() -> World {
    static WORLD: OnceLock<World> = OnceLock::new();
    // Made once, by whoever comes first; others may make one in vain, never use two.
    if let Some(world) = WORLD.get() {
        return world.clone();
    }
    let fresh = World::new().await;
    WORLD
        .get_or_init(|| match bootstraps() {
            Some(folder) => fresh.deployed(&folder),
            None => fresh,
        })
        .clone()
}

/// A service of its own over a store of its own, whose SDK calls go through `wrap`.
pub async fn world_over(wrap: impl FnOnce(SharedHttpClient) -> SharedHttpClient) -> World {
    let world = World::new().await;
    world.another(wrap)
}

impl World {
    async fn new() -> Self {
        let folder: PathBuf = tempfile::tempdir().unwrap().keep();
        let store = DynamoDb::open(&folder.join("dynamodb.sqlite"), Sync::Normal).unwrap();
        let dynamodb = embedded_dynamodb(store.http_client());
        let queues = Sqs::open(None, sqs::Sync::Normal).unwrap();
        let sqs = embedded_sqs(queues.http_client());
        let provisioned = provision(&Stack::compiled_in().unwrap(), &dynamodb, &sqs)
            .await
            .unwrap();
        // The file lives as long as the store holds it open.
        std::fs::remove_dir_all(&folder).ok();
        let app = app_sending(&dynamodb, embedded_sqs(queues.http_client()), Targets::Any);
        Self {
            api: functions::router(&app),
            dynamodb,
            app,
            deployed: None,
            store,
            queues,
            provisioned,
        }
    }

    /// The same store, served by the bootstraps in `folder`.
    pub fn deployed(&self, folder: &Path) -> Self {
        self.deployed_at(folder, &self.served(), |_| {})
    }

    /// The stores as a URL.
    pub fn served(&self) -> String {
        served(&self.store, &self.queues)
    }

    /// The stores as a service.
    pub fn stores(&self) -> Router {
        stores(&self.store, &self.queues)
    }

    /// Bootstraps that believe the stores to be at `endpoint`, of the template's functions after `change`.
    pub fn deployed_at(
        &self,
        folder: &Path,
        endpoint: &str,
        change: impl FnOnce(&mut Vec<Definition>),
    ) -> Self {
        let deployed = Deployed::new(folder, endpoint, &self.provisioned, change);
        Self {
            api: deployed.gateway.router(),
            deployed: Some(deployed),
            ..self.clone()
        }
    }

    /// A queue of the stack: its client and its URL.
    pub fn queue(&self, name: &str) -> (aws_sdk_sqs::Client, String) {
        let client = embedded_sqs(self.queues.http_client());
        (client, self.provisioned.queue_urls[name].clone())
    }

    /// A table's stream: a client of it whose calls go through `wrap`, and its name.
    pub fn stream(
        &self,
        table: &str,
        wrap: impl FnOnce(SharedHttpClient) -> SharedHttpClient,
    ) -> (aws_sdk_dynamodbstreams::Client, String) {
        let client = embedded_streams(wrap(self.store.http_client()));
        (client, self.provisioned.stream_arns[table].clone())
    }

    /// What wakes whoever reads a stream.
    pub fn wake(&self) -> Wake {
        Wake::OnChange(self.store.changes())
    }

    /// Has what was received from a queue, and would come again later, come again now.
    pub async fn release(&self, queue: &str) {
        self.queues.release(queue).await.unwrap();
    }

    /// The SDK's way to the queues.
    pub fn queues(&self) -> SharedHttpClient {
        self.queues.http_client()
    }

    /// A client of the queues whose calls go through `wrap`.
    pub fn sqs(
        &self,
        wrap: impl FnOnce(SharedHttpClient) -> SharedHttpClient,
    ) -> aws_sdk_sqs::Client {
        embedded_sqs(wrap(self.queues()))
    }

    /// Another process over the same store: it shares no memory with this one. Its SDK calls go through
    /// `wrap`.
    pub fn another(&self, wrap: impl FnOnce(SharedHttpClient) -> SharedHttpClient) -> Self {
        let app = app_sending(
            &self.client(wrap),
            embedded_sqs(self.queues.http_client()),
            Targets::Any,
        );
        let api = functions::router(&app);
        self.behind(app, api)
    }

    /// Another process over the same store, whose webhooks go to `targets` alone.
    pub fn sending_to(&self, targets: Targets) -> Self {
        let app = app_sending(
            &self.dynamodb,
            embedded_sqs(self.queues.http_client()),
            targets,
        );
        let api = functions::router(&app);
        self.behind(app, api)
    }

    /// A client of the store whose calls go through `wrap`.
    pub fn client(
        &self,
        wrap: impl FnOnce(SharedHttpClient) -> SharedHttpClient,
    ) -> aws_sdk_dynamodb::Client {
        embedded_dynamodb(wrap(self.store.http_client()))
    }

    /// This service behind other routes: some of its functions, mounted by a test.
    pub fn behind(&self, app: App, api: Router) -> Self {
        Self {
            api,
            app,
            deployed: None,
            ..self.clone()
        }
    }

    /// Whether the gateway hands over another path than `path`, which is percent-encoded: it decodes it, and
    /// what was data is then part of a URL. The service refuses such a one before it looks for anything.
    pub fn alters(&self, path: &str) -> bool {
        let path = percent_decode_str(path).decode_utf8_lossy();
        let twice = percent_decode_str(&path).decode_utf8_lossy();
        let cut = |c: char| c.is_ascii_control() || c == ' ';
        self.deployed.is_some()
            && (twice != path
                || path.contains(['?', '#', '\\'])
                || path.trim_matches(cut) != path
                || path
                    .split('/')
                    .any(|segment| segment == "." || segment == ".."))
    }

    /// The operator.
    pub fn operator(&self) -> Client {
        Client::new(self.api.clone()).with("x-master-key", MASTER_KEY)
    }

    /// Somebody without any credential.
    pub fn stranger(&self) -> Client {
        Client::new(self.api.clone())
    }
}

/// The use cases over a store that `dynamodb` reaches.
pub fn app(dynamodb: &aws_sdk_dynamodb::Client, targets: Targets) -> App {
    sending(dynamodb, Jobs::default(), targets)
}

/// The same, with the queues it sends to through `sqs`, and connections that nobody has.
pub fn app_sending(
    dynamodb: &aws_sdk_dynamodb::Client,
    sqs: aws_sdk_sqs::Client,
    targets: Targets,
) -> App {
    sending(dynamodb, Jobs::new(sqs, settings().queues), targets)
}

fn sending(dynamodb: &aws_sdk_dynamodb::Client, jobs: Jobs, targets: Targets) -> App {
    let settings = settings();
    let key = SecretHash::of(SEALING_KEY.as_bytes());
    let sealing = Sealing::Given(key);
    let sockets = parlance_local::sockets::Sockets::default();
    let means = Means {
        jobs,
        sockets: Some(Sockets::new(embedded_sockets(sockets.http_client()))),
        webhooks: Some(Webhooks::new(sealing, Sender::new(targets))),
        models: Some(Models::new(targets, DefaultModel::default())),
        provider_keys: Some(ProviderKeys::new(Vault::Given(key), targets)),
        fetcher: Some(Fetcher::new(targets)),
        ..Means::default()
    };
    App::with(&settings, dynamodb, means)
}

/// As the functions' environment in the cloud: several writers, so every tail is read.
pub fn settings() -> Settings {
    let stack = Stack::compiled_in().unwrap();
    Settings::from_env(|name| match name {
        "MASTER_API_KEY" => Some(MASTER_KEY.to_owned()),
        // The embedded queues' URLs are made of their names.
        "FANOUT_QUEUE" | "DELIVERY_QUEUE" | "SWEEP_QUEUE" => {
            let queue = stack.environment.get(name)?;
            Some(format!("http://embedded/000000000000/{queue}"))
        }
        name => stack.environment.get(name).cloned(),
    })
    .unwrap()
}

/// A tenant of a service.
#[derive(Clone)]
pub struct Tenant {
    /// Its id.
    pub id: String,
    /// Its API key.
    pub key: String,
    /// Where it lives.
    pub world: World,
}

/// A fresh tenant of the shared service, with a rate limit that no test reaches by accident.
pub async fn tenant() -> Tenant {
    tenant_of(&world().await).await
}

/// A fresh tenant of `world`.
pub async fn tenant_of(world: &World) -> Tenant {
    // Each from an address of its own, so that the operator is not limited as one.
    let made = world
        .operator()
        .anew()
        .post("/admin/tenants", &json!({ "name": "test" }))
        .await;
    assert_eq!(made.status, 201, "{}", made.body);
    let tenant = Tenant {
        id: made.text("tenant_id"),
        key: made.text("api_key"),
        world: world.clone(),
    };
    let path = format!("/admin/tenants/{}", tenant.id);
    let patched = world
        .operator()
        .anew()
        .patch(&path, &json!({ "rate_limit": 1_000_000 }))
        .await;
    assert_eq!(patched.status, 200, "{}", patched.body);
    tenant
}

impl Tenant {
    /// The tenant's server, acting for the tenant itself.
    pub fn server(&self) -> Client {
        Client::new(self.world.api.clone()).with("x-api-key", &self.key)
    }

    /// The tenant's server, acting for `user`.
    pub fn user(&self, user: &str) -> Client {
        Client::new(self.world.api.clone())
            .with("x-api-key", &self.key)
            .with("x-user-id", user)
    }

    /// The same tenant, served by another process.
    pub fn at(&self, world: &World) -> Self {
        Self {
            world: world.clone(),
            ..self.clone()
        }
    }

    /// A group of `members`, whose admin is the first of them.
    pub async fn group(&self, members: &[&str]) -> String {
        let body = json!({ "type": "group", "members": members });
        let made = self.user(members[0]).post("/rooms", &body).await;
        assert_eq!(made.status, 201, "{}", made.body);
        made.text("room_id")
    }
}
