//! A runner from its start to its end.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use parlance::app::{App, Keep, Means, ProviderKeys, Settings, Webhooks};
use parlance::domain::{address::Targets, secret::SecretHash};
use parlance::http::{counts, telemetry::outages};
use parlance::providers::{
    models::Models, outbound::Fetcher, sealing::Sealing, vault::Vault, webhook::Sender,
};
use parlance::queue::{Jobs, PoisonQueue};
use parlance::store::usage::metered;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::aws_port;
use crate::clients::embedded_sockets;
use crate::clock::every;
use crate::data::{DataFolder, MasterKey};
use crate::descriptors;
use crate::error::StartError;
use crate::first_start::{FirstTenant, first_tenant};
use crate::functions;
use crate::gateway::{self, Caps, Connections, Timeouts};
use crate::housekeeping::Housekeeping;
use crate::options::Options;
use crate::provision::{Provisioned, provision};
use crate::proxy::Proxies;
use crate::queues::Queue;
use crate::sockets::Sockets;
use crate::stores::Stores;
use crate::streams::{Poison, Retention, Source};
use crate::template::Stack;
use crate::welcome;

/// How long requests in flight and hand-overs may take to end. Longer than any request lives.
const FAREWELL: Duration = Duration::from_secs(30);
/// What was counted is written so often, where no batch does it.
const KEEP_COUNTS: Duration = Duration::from_secs(5);
/// How often it is looked for failed requests that no line has counted.
const TELL_OUTAGES: Duration = Duration::from_secs(10);
/// The queue of records that no function can take.
const POISON: &str = "Poison";

/// A runner that serves.
#[derive(Debug)]
pub struct Running {
    /// Where a client on this machine finds the API.
    pub base_url: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where the embedded stores are served, if they are.
    pub aws_url: Option<String>,
    /// The client that the functions use.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// The client of the queues.
    pub sqs: aws_sdk_sqs::Client,
    /// The tables' streams and the queues' URLs.
    pub provisioned: Provisioned,
    /// The operator's key.
    pub master_key: MasterKey,
    api: Router,
    app: App,
    /// The connections that clients have to this process.
    pub sockets: Sockets,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    keeping: JoinSet<()>,
    stores: Stores,
    /// The last to go: its lock says that the stores are free.
    _data: DataFolder,
}

/// Starts everything. When it returns, the API answers.
pub async fn start(options: Options) -> Result<Running, StartError> {
    let listener = listen(&options.host, options.port).await?;
    let aws_listener = match options.aws_port {
        Some(port) => Some(listen("127.0.0.1", port).await?),
        None => None,
    };
    let data = if options.memory {
        DataFolder::temporary()
    } else {
        DataFolder::open(&options.data)
    }?;
    let master_key = data.master_key(options.master_key.clone())?;
    let sealing_key = data.sealing_key(options.sealing_key.clone())?;
    let stores = Stores::open(&options, &data).await?;
    let stack = Stack::compiled_in()?;
    let provisioned = provision(&stack, &stores.dynamodb, &stores.sqs).await?;

    let settings = settings(
        &stack,
        &provisioned,
        &stores,
        &master_key,
        aws_listener.is_some(),
    )?;
    let sockets = Sockets::default();
    // Calls are counted where lines of requests are wanted. Units are not: answers that tell them take longer.
    let sealing_key = SecretHash::of(sealing_key.as_bytes());
    let sealing = Sealing::Given(sealing_key);
    let model_targets = options.model_targets.into();
    let sender = Sender::new(options.webhook_targets.into());
    let means = Means {
        jobs: Jobs::new(stores.sqs.clone(), settings.queues.clone()),
        sockets: Some(parlance::providers::sockets::Sockets::new(
            embedded_sockets(sockets.http_client()),
        )),
        webhooks: Some(Webhooks::new(sealing, sender)),
        models: Some(Models::new(model_targets, options.default_model.clone())),
        provider_keys: Some(ProviderKeys::new(Vault::Given(sealing_key), model_targets)),
        // What people say makes agents read: never what only this machine can reach.
        fetcher: Some(Fetcher::new(Targets::Public)),
        store_faults: stores.faults(),
        ..Means::default()
    };
    let app = App::with(&settings, &metered(&stores.dynamodb, false), means);
    let api = functions::router(&app);

    let proxies = Proxies::new(&options.trusted_proxies);
    let connections = connections(&options, &proxies);

    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut keeping = JoinSet::new();
    let pollers = Pollers {
        app: &app,
        stack: &stack,
        stores: &stores,
        provisioned: &provisioned,
        stop: &stopping,
    };
    pollers.of_streams(&mut tasks, &data)?;
    pollers.of_queues(&mut tasks).await?;
    pollers.of_the_clock(&mut tasks)?;
    tell_counts(&mut tasks, &app, &stopping);
    let (dynamodb, sqs) = (
        stores.embedded_dynamodb.clone(),
        stores.embedded_sqs.clone(),
    );
    keeping.spawn(Housekeeping::new(&stack, dynamodb.clone(), sqs.clone()).run());
    let aws_url = match aws_listener {
        Some(listener) => {
            let url = url(&listener)?;
            let router = aws_port::router(aws_port::Stores { dynamodb, sqs });
            let served = gateway::serve(listener, router, connections.clone(), stopping.clone());
            tasks.spawn(served);
            Some(url)
        }
        None => None,
    };
    let (base_url, address) = (url(&listener)?, bound(&listener)?);
    let served = sockets.router(functions::socket_handler(&app), api.clone());
    let served = proxies.around(welcome::around(served, &app));
    tasks.spawn(gateway::serve(listener, served, connections, stopping));
    Ok(Running {
        base_url,
        address,
        aws_url,
        dynamodb: stores.dynamodb.clone(),
        sqs: stores.sqs.clone(),
        provisioned,
        master_key,
        api,
        app,
        sockets,
        stop,
        tasks,
        keeping,
        stores,
        _data: data,
    })
}

/// Writes what was counted, where no batch does it, and says how many requests failed that no line has counted.
fn tell_counts(tasks: &mut JoinSet<()>, app: &App, stop: &watch::Receiver<bool>) {
    let counting = app.clone();
    tasks.spawn(every(KEEP_COUNTS, stop.clone(), move || {
        let app = counting.clone();
        async move { counts::keep(&app, Keep::WhenDue).await }
    }));
    tasks.spawn(every(TELL_OUTAGES, stop.clone(), || async {
        outages::tell();
    }));
}

fn connections(options: &Options, proxies: &Proxies) -> Connections {
    let caps = Caps {
        total: options.max_connections,
        per_address: options.max_connections_per_address,
    };
    let allowed = caps.within(descriptors::for_connections());
    if allowed.total < caps.total {
        let (asked, allowed) = (caps.total, allowed.total);
        tracing::warn!(
            asked,
            allowed,
            "the limit of file descriptors (ulimit -Hn) allows fewer connections than asked for"
        );
    }
    let caps = allowed;
    Connections::new(caps, Timeouts::default(), proxies.clone())
}

/// What feeds the functions that nobody calls.
struct Pollers<'a> {
    app: &'a App,
    stack: &'a Stack,
    stores: &'a Stores,
    provisioned: &'a Provisioned,
    stop: &'a watch::Receiver<bool>,
}

impl Pollers<'_> {
    /// Has every stream read by the functions that consume it.
    fn of_streams(&self, tasks: &mut JoinSet<()>, data: &DataFolder) -> Result<(), StartError> {
        let embedded = self.stores.embedded_dynamodb.clone();
        let retention = embedded.map(|dynamodb| Retention::new(dynamodb, &self.stack.streams));
        for mapping in &self.stack.streams {
            let arn = self.provisioned.stream_arns.get(&mapping.table);
            let source = Source {
                client: self.stores.streams.clone(),
                stream_arn: arn.cloned().unwrap_or_default(),
                wake: self.stores.wake(),
                poison: Poison::new(self.stores.sqs.clone(), self.url(POISON)),
                retention: retention.clone(),
                stop: self.stop.clone(),
            };
            let consumer = functions::consumer(
                self.app,
                source,
                self.poison(),
                mapping.clone(),
                data.streams(),
            );
            let unknown = || StartError::UnknownFunction(mapping.function.clone());
            tasks.spawn(consumer.ok_or_else(unknown)?);
        }
        Ok(())
    }

    /// Has every queue read by the function that consumes it.
    async fn of_queues(&self, tasks: &mut JoinSet<()>) -> Result<(), StartError> {
        if let Some(sqs) = &self.stores.embedded_sqs {
            sqs.resume_moves().await.map_err(StartError::Store)?;
        }
        for mapping in &self.stack.consumers {
            if let Some(sqs) = &self.stores.embedded_sqs {
                let released = sqs.release(&mapping.queue).await;
                released.map_err(StartError::Store)?;
            }
            let queue = Queue {
                client: self.stores.sqs.clone(),
                url: self.url(&mapping.queue),
                stop: self.stop.clone(),
            };
            let consumer =
                functions::queue_consumer(self.app, queue, self.poison(), mapping.clone());
            let unknown = || StartError::UnknownFunction(mapping.function.clone());
            tasks.spawn(consumer.ok_or_else(unknown)?);
        }
        Ok(())
    }

    /// Runs what runs by the clock.
    fn of_the_clock(&self, tasks: &mut JoinSet<()>) -> Result<(), StartError> {
        for schedule in &self.stack.schedules {
            let scheduled = functions::scheduled(self.app, schedule, self.stop.clone());
            let unknown = || StartError::UnknownFunction(schedule.function.clone());
            tasks.spawn(scheduled.ok_or_else(unknown)?);
        }
        Ok(())
    }

    fn poison(&self) -> PoisonQueue {
        PoisonQueue::new(self.stores.sqs.clone(), self.url(POISON))
    }

    fn url(&self, queue: &str) -> String {
        let url = self.provisioned.queue_urls.get(queue);
        url.cloned().unwrap_or_default()
    }
}

impl Running {
    /// Creates the tenant `demo` if there is none at all, that is, on a first start.
    pub async fn first_tenant(&self) -> Result<Option<FirstTenant>, StartError> {
        first_tenant(&self.api, &self.master_key)
            .await
            .map_err(StartError::FirstTenant)
    }

    /// Answers what is in flight, ends the pollers, and closes the stores.
    pub async fn stop(mut self) {
        // While their ends can still be noted.
        self.sockets.shut_down().await;
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(FAREWELL, ended).await.is_err() {
            tracing::warn!("some requests were still running and are cut off");
        }
        self.tasks.shutdown().await;
        counts::keep(&self.app, Keep::Now).await;
        self.keeping.shutdown().await;
        self.stores.close().await;
    }
}

async fn listen(host: &str, port: u16) -> Result<TcpListener, StartError> {
    TcpListener::bind((host, port))
        .await
        .map_err(|source| StartError::Port {
            address: format!("{host}:{port}"),
            source,
        })
}

/// Where `listener` listens.
fn bound(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Port {
        address: "the port".to_owned(),
        source,
    })
}

/// Where a client on this machine finds `listener`.
fn url(listener: &TcpListener) -> Result<String, StartError> {
    let mut address = bound(listener)?;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(format!("http://{address}"))
}

/// What the template gives the functions, and what only the runner knows.
fn settings(
    stack: &Stack,
    provisioned: &Provisioned,
    stores: &Stores,
    master_key: &MasterKey,
    serves_stores: bool,
) -> Result<Settings, StartError> {
    // The lock on the data folder keeps others out of the embedded store, but not out of its port.
    let is_single_writer = stores.embedded_dynamodb.is_some() && !serves_stores;
    let get = |name: &str| match name {
        "MASTER_API_KEY" => Some(master_key.secret.clone()),
        "SINGLE_WRITER" => is_single_writer.then(|| "1".to_owned()),
        name => stack.environment.get(name).map(|value| {
            // A reference to a queue is its URL.
            provisioned.queue_urls.get(value).unwrap_or(value).clone()
        }),
    };
    Settings::from_env(get).map_err(|error| StartError::Settings(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn in_folder(data: &Path) -> Options {
        let data = data.to_owned();
        Options {
            data,
            memory: false,
            ..Options::ephemeral()
        }
    }

    #[tokio::test]
    async fn only_the_first_start_makes_a_tenant() {
        let folder = tempfile::tempdir().unwrap();
        let running = start(in_folder(folder.path())).await.unwrap();
        let tenant = running.first_tenant().await.unwrap().unwrap();
        assert!(!tenant.tenant_id.is_empty() && !tenant.api_key.is_empty());
        let master_key = running.master_key.clone();
        running.stop().await;

        let running = start(in_folder(folder.path())).await.unwrap();
        assert_eq!(running.first_tenant().await.unwrap(), None);
        assert_eq!(running.master_key, master_key);
        running.stop().await;
    }

    #[tokio::test]
    async fn every_start_in_memory_is_a_first_start_and_leaves_nothing() {
        for _ in 0..2 {
            let running = start(Options::ephemeral()).await.unwrap();
            assert!(running.first_tenant().await.unwrap().is_some());
            let folder = running.master_key.file.clone().unwrap();
            running.stop().await;
            assert!(!folder.parent().unwrap().exists());
        }
    }

    #[tokio::test]
    async fn a_busy_port_is_named() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let options = Options {
            port,
            ..Options::ephemeral()
        };
        let error = start(options).await.unwrap_err().to_string();
        let said = format!("127.0.0.1:{port} is in use by another process; choose another port");
        assert_eq!(error, said);
    }

    #[tokio::test]
    async fn a_folder_in_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let running = start(in_folder(folder.path())).await.unwrap();
        let error = start(in_folder(folder.path())).await.unwrap_err();
        assert!(matches!(error, StartError::Data(_)), "{error}");
        running.stop().await;
    }

    #[tokio::test]
    async fn a_runner_uses_the_stores_of_another_through_their_port() {
        let one = start(Options {
            aws_port: Some(0),
            ..Options::ephemeral()
        })
        .await
        .unwrap();
        let endpoint: axum::http::Uri = one.aws_url.as_deref().unwrap().parse().unwrap();
        let options = Options {
            dynamodb_endpoint: Some(endpoint.clone()),
            sqs_endpoint: Some(endpoint),
            master_key: Some(one.master_key.secret.clone()),
            ..Options::ephemeral()
        };
        let other = start(options).await.unwrap();
        // By the port a stream is in the region of the queues.
        let mut own = one.provisioned.clone();
        for arn in own.stream_arns.values_mut() {
            *arn = arn.replace(":dynoxide:", ":us-east-1:");
        }
        assert_eq!(other.provisioned, own);
        assert!(other.first_tenant().await.unwrap().is_some());
        assert_eq!(one.first_tenant().await.unwrap(), None);
        other.stop().await;
        one.stop().await;
    }
}
