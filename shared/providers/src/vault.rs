//! Keys of model providers, sealed: with AWS KMS, or with a key that was given at the start.
//!
//! A text that KMS has sealed is `k1.` and base64; the rest is as in [`super::sealing`]. Whose key it is, and which, is
//! authenticated with it, so one that was moved to another place does not open there.
//!
//! **Invariant:** a key in the clear is in this process alone. KMS is asked for each by name, and says in the operator's
//! trail who was.

use std::fmt;

use aws_sdk_kms::{Client, operation::decrypt::DecryptError, primitives::Blob};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::sealing;
use crate::domain::{
    Error, Moment, ProviderKeyId,
    provider_key::{ModelKey, Owner},
    secret::SecretHash,
    webhook::Sealed,
};

/// What begins a text that KMS has sealed.
const KMS: &str = "k1.";
/// What the given key is for here: another use derives another key.
const USE: &[u8] = b"parlance provider keys 1";

/// Seals and opens keys of model providers.
#[derive(Debug)]
pub enum Vault {
    /// With a key that was given at the start. The hash of its secret.
    Given(SecretHash),
    /// With a key that never leaves AWS KMS.
    Kms(KmsKey),
}

/// A key in AWS KMS.
#[derive(Debug)]
pub struct KmsKey {
    client: Client,
    /// Its id, ARN or alias.
    key: String,
}

/// A stored key was not sealed for where it is, or with another key.
#[derive(Debug)]
struct Unopened;

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stored provider key does not open")
    }
}

impl std::error::Error for Unopened {}

impl KmsKey {
    /// The key named `key`, reached by `client`.
    pub const fn new(client: Client, key: String) -> Self {
        Self { client, key }
    }
}

impl Vault {
    /// Seals `key`, which is `id` of `owner`. One is sealed in one moment.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if KMS does not do it.
    pub async fn seal(
        &self,
        key: &ModelKey,
        owner: Owner,
        id: ProviderKeyId,
        moment: &Moment,
    ) -> Result<Sealed, Error> {
        match self {
            Self::Given(with) => {
                sealing::seal_text(*with, USE, key.expose(), &place(owner, id), moment)
            }
            Self::Kms(kms) => kms.seal(key, owner, id).await,
        }
    }

    /// The key that was sealed as `id` of `owner`.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if KMS does not open it now, [`Error::Internal`] if it never will.
    pub async fn open(
        &self,
        sealed: &Sealed,
        owner: Owner,
        id: ProviderKeyId,
    ) -> Result<ModelKey, Error> {
        let text = match self {
            Self::Given(with) => sealing::open_text(*with, USE, sealed, &place(owner, id)),
            Self::Kms(kms) => kms.open(sealed, owner, id).await?,
        };
        let text = text.ok_or_else(|| Error::internal(Unopened))?;
        ModelKey::parse(text).map_err(|_| Error::internal(Unopened))
    }
}

fn place(owner: Owner, id: ProviderKeyId) -> String {
    format!("{owner}#{id}")
}

impl KmsKey {
    async fn seal(&self, key: &ModelKey, owner: Owner, id: ProviderKeyId) -> Result<Sealed, Error> {
        let sealed = self
            .client
            .encrypt()
            .key_id(&self.key)
            .plaintext(Blob::new(key.expose()))
            .encryption_context("tenant", owner.to_string())
            .encryption_context("key", id.to_string())
            .send()
            .await
            .map_err(|error| Error::Unavailable(error.into()))?;
        let sealed = sealed.ciphertext_blob.map(Blob::into_inner);
        let sealed = sealed.ok_or_else(|| Error::internal("KMS sealed nothing"))?;
        Ok(Sealed(format!("{KMS}{}", URL_SAFE_NO_PAD.encode(sealed))))
    }

    /// `None` for what this key has not sealed.
    async fn open(
        &self,
        sealed: &Sealed,
        owner: Owner,
        id: ProviderKeyId,
    ) -> Result<Option<String>, Error> {
        let blob = sealed.0.strip_prefix(KMS);
        let Some(Ok(blob)) = blob.map(|blob| URL_SAFE_NO_PAD.decode(blob)) else {
            return Ok(None);
        };
        let opened = self
            .client
            .decrypt()
            .key_id(&self.key)
            .ciphertext_blob(Blob::new(blob))
            .encryption_context("tenant", owner.to_string())
            .encryption_context("key", id.to_string())
            .send()
            .await;
        match opened {
            Ok(opened) => Ok(opened
                .plaintext
                .and_then(|text| String::from_utf8(text.into_inner()).ok())),
            Err(error) => match error.as_service_error() {
                Some(
                    DecryptError::InvalidCiphertextException(_)
                    | DecryptError::IncorrectKeyException(_),
                ) => Ok(None),
                Some(_) | None => Err(Error::Unavailable(error.into())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::domain::{TenantId, Timestamp};

    fn moment(seed: u128) -> Moment {
        Moment::new(
            Timestamp::from_micros(0),
            Instant::now(),
            std::time::Duration::ZERO,
            seed,
        )
    }

    #[tokio::test]
    async fn a_key_opens_where_it_was_sealed_and_nowhere_else() {
        let vault = |key: &str| Vault::Given(SecretHash::of(key.as_bytes()));
        let key = ModelKey::parse("sk-0123456789".to_owned()).unwrap();
        let (one, other) = (moment(1), moment(2 << 100));
        let tenant = Owner::Tenant(TenantId::at(&one));
        let id = ProviderKeyId::at(&one);
        let sealed = vault("given").seal(&key, tenant, id, &one).await.unwrap();
        assert!(!sealed.0.contains("0123456789"));
        let opened = vault("given").open(&sealed, tenant, id).await.unwrap();
        assert!(opened == key);
        for (vault, owner, id) in [
            (vault("other"), tenant, id),
            (vault("given"), Owner::Operator, id),
            (vault("given"), Owner::Tenant(TenantId::at(&other)), id),
            (vault("given"), tenant, ProviderKeyId::at(&other)),
        ] {
            let error = vault.open(&sealed, owner, id).await.unwrap_err();
            assert_eq!(error.why().unwrap(), Unopened.to_string());
        }
    }
}
