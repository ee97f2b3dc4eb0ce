//! Secrets that we must be able to read again, sealed with a key that the store does not hold.
//!
//! AES-256-GCM. The sealed text is `s1.` and the base64 of nonce, ciphertext and tag; what it belongs to is
//! authenticated with it, so a sealed secret that was moved to another endpoint does not open.
//!
//! **Invariant:** what was sealed with the current key or the one before it opens. Where the key is kept in Secrets
//! Manager, a rotation is noticed within five minutes, or by the first text that no known key opens.

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    error::Unspecified,
    hkdf::{HKDF_SHA256, Salt},
};
use sha2::{Digest, Sha256};
use tokio::{sync::Mutex, time::Instant};

use super::secret::{Secret as Kept, Stage};
use crate::domain::{
    Error, Moment,
    secret::SecretHash,
    webhook::{Sealed, Secret},
};

/// What begins a sealed text: how it was sealed.
const VERSION: &str = "s1.";
/// What the key is for: another use would derive another key.
const USE: &[u8] = b"parlance webhook secrets 1";
/// For how long what was read is taken as it is.
const TRUSTED: Duration = Duration::from_mins(5);
/// The least time between two readings.
const PAUSE: Duration = Duration::from_secs(5);

/// Seals and opens.
#[derive(Debug)]
pub enum Sealing {
    /// With a key that was given at the start. The hash of its secret.
    Given(SecretHash),
    /// With a key that Secrets Manager keeps, and may rotate.
    Kept(KeptKey),
}

/// A key that Secrets Manager keeps.
#[derive(Debug)]
pub struct KeptKey {
    secret: Kept,
    /// One reads, the others wait for what it finds.
    known: Mutex<Known>,
}

/// What was read, and when.
#[derive(Debug, Default)]
struct Known {
    keys: Vec<SecretHash>,
    read_at: Option<Instant>,
    tried_at: Option<Instant>,
    /// Why the last reading failed, if it did.
    failure: Option<String>,
}

/// A secret that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The secret.
    pub secret: Secret,
    /// Whether it was sealed with the key before the current one: it should be sealed anew before that one is gone.
    pub is_stale: bool,
}

/// No key that is known opens a sealed text.
#[derive(Debug)]
struct Unopened;

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no sealing key opens a stored secret")
    }
}

impl std::error::Error for Unopened {}

impl Sealing {
    /// Seals `secret` for `owner`, of whose secrets one is sealed in one moment.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the key cannot be read.
    pub async fn seal(
        &self,
        secret: &Secret,
        owner: &str,
        moment: &Moment,
    ) -> Result<Sealed, Error> {
        let key = match self {
            Self::Given(key) => *key,
            Self::Kept(kept) => kept.current().await?,
        };
        seal_text(key, USE, secret.expose(), owner, moment)
    }

    /// The secret that was sealed for `owner`.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the key cannot be read, [`Error::Internal`] if it is another one.
    pub async fn open(&self, sealed: &Sealed, owner: &str) -> Result<Opened, Error> {
        match self {
            Self::Given(key) => opened(&[*key], sealed, owner)?.ok_or_else(unopened),
            Self::Kept(kept) => kept.open(sealed, owner).await,
        }
    }
}

/// Whether `error` is that no known key opens a sealed text.
pub fn is_unopened(error: &Error) -> bool {
    matches!(error, Error::Internal(source) if source.is::<Unopened>())
}

fn unopened() -> Error {
    Error::internal(Unopened)
}

impl KeptKey {
    pub(super) fn new(secret: Kept) -> Self {
        Self {
            secret,
            known: Mutex::default(),
        }
    }

    async fn current(&self) -> Result<SecretHash, Error> {
        let mut known = self.known.lock().await;
        self.refresh(&mut known).await;
        known.keys.first().copied().ok_or_else(|| known.failed())
    }

    async fn open(&self, sealed: &Sealed, owner: &str) -> Result<Opened, Error> {
        let mut known = self.known.lock().await;
        self.refresh(&mut known).await;
        if let Some(secret) = opened(&known.keys, sealed, owner)? {
            return Ok(secret);
        }
        // It may be sealed with a key that is newer than what we know.
        if known.may_try() {
            self.read(&mut known).await;
            if let Some(secret) = opened(&known.keys, sealed, owner)? {
                return Ok(secret);
            }
        }
        if known.failure.is_some() {
            return Err(known.failed());
        }
        Err(unopened())
    }

    async fn refresh(&self, known: &mut Known) {
        let is_old = known.read_at.is_none_or(|at| at.elapsed() >= TRUSTED);
        if is_old && known.may_try() {
            self.read(known).await;
        }
    }

    /// Reads the secret. What was known stays if that fails: an old key opens what it always opened.
    async fn read(&self, known: &mut Known) {
        known.tried_at = Some(Instant::now());
        match self.keys().await {
            Ok(keys) => {
                known.keys = keys;
                known.read_at = known.tried_at;
                known.failure = None;
            }
            Err(error) => {
                let cause = error.why().unwrap_or_default();
                tracing::warn!(cause, "the sealing key could not be read");
                known.failure = Some(cause);
            }
        }
    }

    /// The current key, and the one before it.
    async fn keys(&self) -> Result<Vec<SecretHash>, Error> {
        let current = self.secret.version(Stage::Current).await?;
        let current = current.ok_or_else(|| Error::internal("a secret without a version"))?;
        let previous = self.secret.version(Stage::Previous).await?;
        let versions = std::iter::once(current).chain(previous);
        Ok(versions.map(|version| version.hash).collect())
    }
}

impl Known {
    fn may_try(&self) -> bool {
        self.tried_at.is_none_or(|at| at.elapsed() >= PAUSE)
    }

    fn failed(&self) -> Error {
        Error::Unavailable(self.failure.clone().unwrap_or_default().into())
    }
}

/// The secret, if one of `keys` opens it, of which the first is the current one.
fn opened(keys: &[SecretHash], sealed: &Sealed, owner: &str) -> Result<Option<Opened>, Error> {
    let mut texts = keys
        .iter()
        .enumerate()
        .filter_map(|(age, key)| Some((age, open_text(*key, USE, sealed, owner)?)));
    let Some((age, text)) = texts.next() else {
        return Ok(None);
    };
    Ok(Some(Opened {
        secret: Secret::parse(text)?,
        is_stale: age > 0,
    }))
}

/// 96 bits that no other owner and no other moment have.
fn nonce(owner: &str, moment: &Moment) -> [u8; NONCE_LEN] {
    let mut hash = Sha256::new();
    hash.update(moment.seed.to_be_bytes());
    hash.update(owner);
    let mut nonce = [0; NONCE_LEN];
    nonce.copy_from_slice(&hash.finalize()[..NONCE_LEN]);
    nonce
}

/// Seals `text` for `owner`, of whose texts one is sealed in one moment, with what `key` is for `usage`.
pub(super) fn seal_text(
    key: SecretHash,
    usage: &[u8],
    text: &str,
    owner: &str,
    moment: &Moment,
) -> Result<Sealed, Error> {
    seal(key, usage, text, owner, nonce(owner, moment))
        .map(Sealed)
        .map_err(|Unspecified| Error::internal("a secret could not be sealed"))
}

/// The text that was sealed for `owner` so; `None` if it was not.
pub(super) fn open_text(
    key: SecretHash,
    usage: &[u8],
    sealed: &Sealed,
    owner: &str,
) -> Option<String> {
    open(key, usage, &sealed.0, owner).ok()
}

fn cipher(key: SecretHash, usage: &[u8]) -> Result<LessSafeKey, Unspecified> {
    let secret = Salt::new(HKDF_SHA256, &[]).extract(key.as_bytes());
    let usage = [usage];
    let derived = secret.expand(&usage, &AES_256_GCM)?;
    Ok(LessSafeKey::new(UnboundKey::from(derived)))
}

fn seal(
    key: SecretHash,
    usage: &[u8],
    text: &str,
    owner: &str,
    nonce: [u8; NONCE_LEN],
) -> Result<String, Unspecified> {
    let mut hidden = text.as_bytes().to_vec();
    let unique = Nonce::assume_unique_for_key(nonce);
    cipher(key, usage)?.seal_in_place_append_tag(unique, Aad::from(owner), &mut hidden)?;
    let whole = [&nonce[..], &hidden].concat();
    Ok(format!("{VERSION}{}", URL_SAFE_NO_PAD.encode(whole)))
}

fn open(key: SecretHash, usage: &[u8], sealed: &str, owner: &str) -> Result<String, Unspecified> {
    let whole = sealed.strip_prefix(VERSION).ok_or(Unspecified)?;
    let mut whole = URL_SAFE_NO_PAD.decode(whole).map_err(|_| Unspecified)?;
    let (nonce, hidden) = whole.split_at_mut_checked(NONCE_LEN).ok_or(Unspecified)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce)?;
    let text = cipher(key, usage)?.open_in_place(nonce, Aad::from(owner), hidden)?;
    String::from_utf8(text.to_vec()).map_err(|_| Unspecified)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn moment(seed: u128) -> Moment {
        Moment::new(
            Timestamp::from_micros(0),
            Instant::now(),
            Duration::ZERO,
            seed,
        )
    }

    fn sealing(key: &str) -> Sealing {
        Sealing::Given(SecretHash::of(key.as_bytes()))
    }

    #[tokio::test]
    async fn what_was_sealed_opens_for_its_owner_alone() {
        let secret = Secret::from_entropy([7; 32]);
        let sealing = sealing("key");
        let sealed = sealing
            .seal(&secret, "tenant#ep_1", &moment(1))
            .await
            .unwrap();
        let opened = sealing.open(&sealed, "tenant#ep_1").await.unwrap();
        assert!(opened.secret == secret && !opened.is_stale);
        for (sealing, owner) in [
            (&sealing, "tenant#ep_2"),
            (&super::tests::sealing("other"), "tenant#ep_1"),
        ] {
            let error = sealing.open(&sealed, owner).await.unwrap_err();
            assert_eq!(error.why().unwrap(), Unopened.to_string());
        }
    }

    #[tokio::test]
    async fn a_sealed_text_holds_nothing_of_the_secret_and_is_never_the_same() {
        let secret = Secret::from_entropy([7; 32]);
        let sealing = sealing("key");
        let one = sealing.seal(&secret, "a", &moment(1)).await.unwrap();
        let two = sealing.seal(&secret, "a", &moment(2)).await.unwrap();
        let other = sealing.seal(&secret, "b", &moment(1)).await.unwrap();
        let nonces = [&one, &two, &other].map(|Sealed(text)| text[3..19].to_owned());
        assert_eq!(std::collections::BTreeSet::from(nonces).len(), 3);
        assert!(one.0.starts_with("s1."));
        let whole = URL_SAFE_NO_PAD.decode(&one.0[3..]).unwrap();
        // Nonce, text and tag.
        assert_eq!(whole.len(), 12 + secret.expose().len() + 16);
        assert_eq!(format!("{one:?}"), "Sealed(…)");
    }

    #[tokio::test]
    async fn a_text_that_was_changed_does_not_open() {
        let secret = Secret::from_entropy([7; 32]);
        let sealing = sealing("key");
        let Sealed(text) = sealing.seal(&secret, "a", &moment(1)).await.unwrap();
        let changed = [
            text.replace("s1.", "s2."),
            text[..20].to_owned(),
            "s1.".to_owned(),
            String::new(),
        ];
        for text in changed {
            assert!(
                sealing.open(&Sealed(text.clone()), "a").await.is_err(),
                "{text}"
            );
        }
    }
}
