//! The embedded store that the functions use.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use axum::Router;
use parlance_lambda::{Definition, definitions, names, with_keys, with_secrets};
use parlance_local::aws_port::{self, Stores};
use parlance_local::clients::{embedded_dynamodb, embedded_sqs};
use parlance_local::dynamodb::{DynamoDb, Sync};
use parlance_local::provision::{Provisioned, provision};
use parlance_local::sqs::{self, Sqs};
use parlance_local::template::Stack;
use tempfile::TempDir;

use crate::Outcome;

/// The operator's key.
pub(crate) const MASTER_KEY: &str = "mk_the_operators_key_of_the_figures";
/// The secret that holds it.
const MASTER_KEY_SECRET: &str = "master-key";
/// What seals tenants' secrets.
const SEALING_KEY: &str = "the_sealing_key_of_the_figures";
/// The secret that holds it.
const SEALING_KEY_SECRET: &str = "sealing-key";
/// The key of KMS that seals provider keys.
const PROVIDER_KEYS: &str = "arn:aws:kms:eu-west-1:123456789012:key/provider-keys";
const TEMPLATE: &str = include_str!("../../../../../template.yaml");

/// The stack's tables and queues, in a temporary folder.
pub(crate) struct Store {
    folder: TempDir,
    dynamodb: DynamoDb,
    sqs: Sqs,
    stack: Stack,
    provisioned: Provisioned,
}

impl Store {
    pub(crate) async fn open() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let dynamodb = DynamoDb::open(&folder.path().join("dynamodb.sqlite"), Sync::Normal)?;
        let sqs = Sqs::open(None, sqs::Sync::Normal)?;
        let stack = Stack::compiled_in()?;
        let client = embedded_dynamodb(dynamodb.http_client());
        let provisioned = provision(&stack, &client, &embedded_sqs(sqs.http_client())).await?;
        Ok(Self {
            folder,
            dynamodb,
            sqs,
            stack,
            provisioned,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn router(&self) -> Router {
        let stores = aws_port::router(Stores {
            dynamodb: Some(self.dynamodb.clone()),
            sqs: Some(self.sqs.clone()),
        });
        let keys = [
            (MASTER_KEY_SECRET, MASTER_KEY),
            (SEALING_KEY_SECRET, SEALING_KEY),
        ];
        let keys = keys.map(|(name, key)| (name.to_owned(), key.to_owned()));
        let stores = with_secrets(stores, BTreeMap::from(keys));
        with_keys(stores, BTreeSet::from([PROVIDER_KEYS.to_owned()]))
    }

    /// The functions of the template over this store.
    pub(crate) fn definitions(&self) -> Outcome<Vec<Definition>> {
        let mut names = names(&self.stack, &self.provisioned);
        names.insert("MasterApiKey".to_owned(), MASTER_KEY.to_owned());
        names.insert("MasterKey".to_owned(), MASTER_KEY_SECRET.to_owned());
        names.insert("SealingKey".to_owned(), SEALING_KEY_SECRET.to_owned());
        names.insert("ProviderKeys.Arn".to_owned(), PROVIDER_KEYS.to_owned());
        Ok(definitions(TEMPLATE, &names)?)
    }
}
