//! The command line.

use std::path::PathBuf;

use axum::http::Uri;
use clap::{Parser, ValueEnum};
use parlance::{domain::address::Targets, providers::models::DefaultModel};

use crate::dynamodb::Sync;
use crate::proxy::Network;

/// The end of `--help`.
const ENVIRONMENT: &str = "\
Environment:
  MASTER_API_KEY  The operator's key, of at least 24 characters; without it, the one in <DIR>/master.key, which is made
                  on the first start
  SEALING_KEY     The key that seals tenants' secrets, of at least 24 characters; without it, the one in <DIR>/sealing.key
  RUST_LOG        What is logged. With --log text: levels of targets, as in `warn` or `info,parlance::request=debug`. With
                  --log json: a level. Below `info`, only Parlance's own crates are heard: what libraries say there
                  holds contents and keys";

/// Parlance on one machine: the API, its functions, and an embedded DynamoDB and SQS.
#[derive(Debug, Clone, Parser)]
#[command(name = "parlance-local", version, after_help = ENVIRONMENT)]
pub struct Options {
    /// The port of the API; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,

    /// The address the API listens on. Anything but loopback serves the whole network.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,

    /// The folder of all data. One runner uses it at a time.
    #[arg(long, value_name = "DIR", default_value = ".parlance")]
    pub data: PathBuf,

    /// Keep nothing: use a temporary folder that is removed at the end.
    #[arg(long, conflicts_with = "data")]
    pub memory: bool,

    /// What an acknowledged write survives. `normal`: the death of any process, kill -9 included.
    /// `full`: a power cut too, at several times the cost.
    #[arg(long, value_enum, default_value_t)]
    pub sync: Sync,

    /// Use this DynamoDB, an emulator or AWS itself, instead of the embedded one. Region and
    /// credentials come from the environment as for every AWS tool.
    #[arg(long, value_name = "URL")]
    pub dynamodb_endpoint: Option<Uri>,

    /// Use this SQS instead of the embedded one.
    #[arg(long, value_name = "URL")]
    pub sqs_endpoint: Option<Uri>,

    /// Serve the embedded DynamoDB and SQS on this loopback port, for
    /// `aws --endpoint-url http://127.0.0.1:PORT dynamodb|dynamodbstreams|sqs`. Nothing is
    /// authenticated there. Since others may then write too, the end of a log is read, not remembered.
    #[arg(long, value_name = "PORT")]
    pub aws_port: Option<u16>,

    /// A reverse proxy in front of this runner, by its address or network. Where a request comes from there, its client's
    /// address is what `Forwarded` or `X-Forwarded-For` says; elsewhere these headers are ignored. May be given often.
    #[arg(long = "trusted-proxy", value_name = "CIDR")]
    pub trusted_proxies: Vec<Network>,

    /// The most connections at a time, each WebSocket among them; fewer if `ulimit -Hn` does not allow so many. Beyond it, those
    /// that wait longest for a request are closed for new ones.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = at_least_one)]
    pub max_connections: usize,

    /// The most connections of one address (IPv6: of one /64), and half of all at most. Loopback and trusted proxies have
    /// no limit of their own.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = at_least_one)]
    pub max_connections_per_address: usize,

    /// How to log. `text`: for people; requests only where `RUST_LOG` asks for them. `json`: one line
    /// for each request and batch too, as on AWS; `RUST_LOG` is a level then.
    #[arg(long, value_enum, default_value_t)]
    pub log: Log,

    /// Where webhooks may go. `public`: over https to addresses of the public Internet. `any`: to this machine and private
    /// networks too, and over http.
    #[arg(long, value_enum, default_value_t)]
    pub webhook_targets: Addresses,

    /// Where providers of models may be, as for webhooks. `any` reaches one on this machine.
    #[arg(long, value_enum, default_value_t)]
    pub model_targets: Addresses,

    /// The model of agents that have not chosen one, as in `openai/gpt-5`. `echo/echo-1` repeats what it is told.
    #[arg(long, value_name = "PROVIDER/MODEL", default_value = "echo/echo-1", value_parser = model)]
    pub default_model: DefaultModel,

    /// The key that seals tenants' secrets: `main` takes it from `SEALING_KEY`.
    #[arg(skip)]
    pub sealing_key: Option<String>,

    /// The operator's key. Not an argument, which every user of the machine could read: `main`
    /// takes it from `MASTER_API_KEY`.
    #[arg(skip)]
    pub master_key: Option<String>,
}

/// How to log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the option says what they are")]
pub enum Log {
    #[default]
    Text,
    Json,
}

/// Which addresses may be connected to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the option says what they are")]
pub enum Addresses {
    #[default]
    Public,
    Any,
}

impl From<Addresses> for Targets {
    fn from(targets: Addresses) -> Self {
        match targets {
            Addresses::Public => Self::Public,
            Addresses::Any => Self::Any,
        }
    }
}

/// A limit of connections. With 0 nobody could connect: whoever gives it means no limit, or a mistake.
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("0 lets nobody connect: it must be at least 1".to_owned()),
        Ok(limit) => Ok(limit),
        Err(_) => Err("it must be a whole number of at least 1".to_owned()),
    }
}

fn model(text: &str) -> Result<DefaultModel, String> {
    text.parse()
        .map_err(|error: parlance::domain::Error| error.to_string())
}

impl Options {
    /// Free ports, no data kept: what a test wants.
    pub fn ephemeral() -> Self {
        Self {
            port: 0,
            host: "127.0.0.1".to_owned(),
            data: PathBuf::new(),
            memory: true,
            sync: Sync::Normal,
            dynamodb_endpoint: None,
            sqs_endpoint: None,
            aws_port: None,
            trusted_proxies: Vec::new(),
            max_connections: 10_000,
            max_connections_per_address: 1_000,
            log: Log::Text,
            webhook_targets: Addresses::Public,
            model_targets: Addresses::Public,
            default_model: DefaultModel::default(),
            sealing_key: None,
            master_key: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound_and_has_the_documented_defaults() {
        Options::command().debug_assert();
        let options = Options::parse_from(["parlance-local"]);
        assert_eq!((options.host.as_str(), options.port), ("127.0.0.1", 8080));
        assert_eq!(options.data, PathBuf::from(".parlance"));
        assert_eq!(options.sync, Sync::Normal);
        assert_eq!(options.trusted_proxies, []);
    }

    #[test]
    fn a_limit_of_no_connections_is_refused() {
        for option in ["--max-connections", "--max-connections-per-address"] {
            let line = |limit| Options::try_parse_from(["parlance-local", option, limit]);
            let refused = line("0").unwrap_err().to_string();
            assert!(
                refused.contains(option) && refused.contains("0 lets nobody connect"),
                "{refused}"
            );
            line("-1").unwrap_err();
            line("many").unwrap_err();
            line("1").unwrap();
        }
    }

    #[test]
    fn several_proxies_may_be_trusted() {
        let proxies = ["10.0.0.0/8", "::1"];
        let line = [
            "parlance-local",
            "--trusted-proxy",
            proxies[0],
            "--trusted-proxy",
            proxies[1],
        ];
        let options = Options::parse_from(line);
        assert_eq!(
            options.trusted_proxies,
            proxies.map(|it| it.parse().unwrap())
        );
        let wrong = Options::try_parse_from(["parlance-local", "--trusted-proxy", "10.0.0.0/33"]);
        let wrong = wrong.unwrap_err().to_string();
        assert!(wrong.contains("\"10.0.0.0/33\" is no network"), "{wrong}");
    }
}
