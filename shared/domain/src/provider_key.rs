//! Keys of model providers: whose they are, and for whom they are used.

use std::fmt;

use super::{
    Error, ProviderKeyId, TenantId, Timestamp,
    address::Targets,
    model::Provider,
    secret::SecretHash,
    text::check,
    webhook::{Description, EndpointUrl, Sealed},
};

/// How many an owner may have.
pub const MAX_PROVIDER_KEYS: u32 = 50;
/// A shorter key shows nothing of itself.
const SHOWS_END: usize = 12;
/// A shorter key does not show how it begins.
const SHOWS_BEGIN: usize = 16;
/// What is shown of a key so short that any part of it would be a large one. It tells no length either.
const TOO_SHORT: &str = "(short key, hidden)";
/// What the version before this one stored for such a key.
const TOO_SHORT_BEFORE: &str = "...";

/// What a provider knows its customer by, in the clear: exists only between its coming and its sealing, and between
/// its opening and the request that carries it.
#[derive(Clone, PartialEq, Eq)]
pub struct ModelKey(String);

impl ModelKey {
    /// The longest one, in bytes.
    pub const MAX: usize = 512;

    /// Reads field `api_key`: 1 to 512 visible ASCII characters, since it is sent as a header.
    pub fn parse(text: String) -> Result<Self, Error> {
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > Self::MAX || !is_visible {
            let reason = "Invalid api_key. It is 1 to 512 visible ASCII characters";
            return Err(Error::invalid("api_key", reason));
        }
        Ok(Self(text))
    }

    /// For the request that carries it, and for sealing.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What it is recognised by.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(self.0.as_bytes())
    }

    /// What is shown of it: how it begins and ends, unless that would be a large part of it.
    pub fn masked(&self) -> String {
        if self.0.len() < SHOWS_END {
            return TOO_SHORT.to_owned();
        }
        let begin = if self.0.len() < SHOWS_BEGIN {
            ""
        } else {
            &self.0[..3]
        };
        format!("{begin}...{}", &self.0[self.0.len() - 4..])
    }
}

impl fmt::Debug for ModelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelKey(…)")
    }
}

/// Whose a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The operator's: all tenants may be answered with it.
    Operator,
    /// A tenant's.
    Tenant(TenantId),
}

/// `operator`, or the tenant's id.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("operator"),
            Self::Tenant(tenant) => tenant.fmt(f),
        }
    }
}

/// Names a bot or a group of bots: 1 to 128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeId(String);

impl ScopeId {
    /// The longest one, in bytes.
    pub const MAX: usize = 128;

    fn parse(text: Option<String>) -> Result<Self, Error> {
        let text = text.unwrap_or_default();
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > Self::MAX || !is_visible {
            return Err(Error::invalid(
                "scope_id",
                "Invalid scope_id. It is 1 to 128 visible ASCII characters",
            ));
        }
        Ok(Self(text))
    }

    /// The text as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// For whom a key is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All tenants.
    Global,
    /// The whole tenant.
    Tenant,
    /// The bots of one group.
    BotGroup(ScopeId),
    /// One bot.
    Bot(ScopeId),
}

impl Scope {
    /// Reads the fields `scope_type` and `scope_id` of a key of `owner`.
    pub fn parse(owner: Owner, kind: Option<&str>, id: Option<String>) -> Result<Self, Error> {
        let needs_none = |scope| match id {
            None => Ok(scope),
            Some(_) => Err(Error::invalid(
                "scope_id",
                "Invalid scope_id. Only a bot and a bot_group have one",
            )),
        };
        match (owner, kind) {
            (Owner::Operator, None | Some("global")) => needs_none(Self::Global),
            (Owner::Operator, Some(_)) => Err(Error::invalid(
                "scope_type",
                "Invalid scope_type. Must be: global",
            )),
            (Owner::Tenant(_), None | Some("tenant")) => needs_none(Self::Tenant),
            (Owner::Tenant(_), Some("bot_group")) => ScopeId::parse(id).map(Self::BotGroup),
            (Owner::Tenant(_), Some("bot")) => ScopeId::parse(id).map(Self::Bot),
            (Owner::Tenant(_), Some(_)) => Err(Error::invalid(
                "scope_type",
                "Invalid scope_type. Must be one of: tenant, bot_group, bot",
            )),
        }
    }

    /// What our own store gives back; `None` if it did not write it.
    pub fn stored(kind: &str, id: Option<String>) -> Option<Self> {
        match (kind, id) {
            ("global", None) => Some(Self::Global),
            ("tenant", None) => Some(Self::Tenant),
            ("bot_group", Some(id)) => Some(Self::BotGroup(ScopeId(id))),
            ("bot", Some(id)) => Some(Self::Bot(ScopeId(id))),
            _ => None,
        }
    }

    /// Its kind's name on the wire.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Tenant => "tenant",
            Self::BotGroup(_) => "bot_group",
            Self::Bot(_) => "bot",
        }
    }

    /// Which bot or group it is.
    pub const fn id(&self) -> Option<&ScopeId> {
        match self {
            Self::Global | Self::Tenant => None,
            Self::BotGroup(id) | Self::Bot(id) => Some(id),
        }
    }

    /// How close it is to whom `scopes` name, 0 for the closest; `None` if it is not for them.
    fn distance(&self, scopes: &Scopes<'_>) -> Option<u8> {
        match self {
            Self::Bot(bot) => (scopes.bot == Some(bot.as_str())).then_some(0),
            Self::BotGroup(group) => (scopes.bot_group == Some(group.as_str())).then_some(1),
            Self::Tenant => Some(2),
            Self::Global => Some(3),
        }
    }
}

/// Who pays for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyType {
    /// The tenant, who has brought it.
    Byok,
    /// The operator, who alone may write it.
    Global,
}

impl KeyType {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Byok => "byok",
            Self::Global => "global",
        }
    }

    /// Reads field `key_type`.
    pub fn parse(name: &str) -> Result<Self, Error> {
        match name {
            "byok" => Ok(Self::Byok),
            "global" => Ok(Self::Global),
            _ => Err(Error::invalid(
                "key_type",
                "Invalid key_type. Must be one of: byok, global",
            )),
        }
    }
}

/// Whether a key is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStatus {
    /// It is.
    Active,
    /// Its provider does not take it, or somebody has said so.
    Invalid,
    /// Its time is over.
    Expired,
}

impl KeyStatus {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
        }
    }
}

/// A key that does not exist yet.
#[derive(Debug)]
pub struct NewProviderKey {
    /// For whom it is used.
    pub scope: Scope,
    /// Who pays for it.
    pub key_type: KeyType,
    /// Where it holds.
    pub provider: Provider,
    /// Where the provider is, if not where it usually is.
    pub base_url: Option<EndpointUrl>,
    /// What people call it.
    pub name: Description,
    /// When it stops to be used.
    pub expires_at: Option<Timestamp>,
    /// The key.
    pub key: ModelKey,
}

impl NewProviderKey {
    /// Reads field `provider`: one that takes keys.
    pub fn provider(name: &str) -> Result<Provider, Error> {
        let takes_keys = |provider: &Provider| provider.needs_key();
        let provider: Option<Provider> = name.parse().ok();
        provider.filter(takes_keys).ok_or_else(|| {
            Error::invalid(
                "provider",
                "Invalid provider. Must be one of: openai, anthropic, google",
            )
        })
    }

    /// Reads field `base_url`: what a provider's paths are put after, where `targets` allow it.
    pub fn base_url(text: String, targets: Targets) -> Result<EndpointUrl, Error> {
        check("base_url", &text, EndpointUrl::MAX)?;
        if text.contains(['?', '#']) {
            return Err(Error::invalid(
                "base_url",
                "Invalid base_url. It must not hold a query or a fragment",
            ));
        }
        EndpointUrl::parse_as("base_url", text, targets)
    }
}

/// A key as lists show it, and as it is stored.
#[derive(Debug, Clone)]
pub struct ProviderKey {
    /// Its id.
    pub id: ProviderKeyId,
    /// Whose it is.
    pub owner: Owner,
    /// For whom it is used.
    pub scope: Scope,
    /// Who pays for it.
    pub key_type: KeyType,
    /// Where it holds.
    pub provider: Provider,
    /// Where the provider is, if not where it usually is.
    pub base_url: Option<EndpointUrl>,
    /// What people call it.
    pub name: Description,
    /// Whether its provider takes it, as far as is known.
    pub is_valid: bool,
    /// When it stops to be used.
    pub expires_at: Option<Timestamp>,
    /// What is shown of it.
    pub masked: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When a provider last took it, to about an hour.
    pub last_used_at: Option<Timestamp>,
    /// What it is recognised by.
    pub hash: SecretHash,
    /// What its scope has once: [`ProviderKey::fingerprint_of`].
    pub fingerprint: SecretHash,
    /// The key.
    pub sealed: Sealed,
}

impl ProviderKey {
    /// What is shown of a key of which `masked` was stored.
    pub fn masked_as_stored(masked: &str) -> String {
        match masked {
            TOO_SHORT_BEFORE => TOO_SHORT.to_owned(),
            masked => masked.to_owned(),
        }
    }

    /// The same for keys with this `hash` that hold at the same place: one text may open several doors.
    pub fn fingerprint_of(
        provider: Provider,
        base_url: Option<&EndpointUrl>,
        hash: SecretHash,
    ) -> SecretHash {
        let base_url = base_url.map_or("", EndpointUrl::as_str);
        // None of the three holds a line's end.
        let place = format!("{provider}\n{base_url}\n{}", hash.to_hex());
        SecretHash::of(place.as_bytes())
    }

    /// Whether it is used as of `now`.
    pub fn status(&self, now: Timestamp) -> KeyStatus {
        if self.expires_at.is_some_and(|at| at <= now) {
            KeyStatus::Expired
        } else if self.is_valid {
            KeyStatus::Active
        } else {
            KeyStatus::Invalid
        }
    }
}

/// What is changed of a key.
#[derive(Debug, Default)]
pub struct ProviderKeyPatch {
    /// Another key, which counts as valid.
    pub key: Option<ModelKey>,
    /// Where the provider of that key is, or where it usually is.
    pub base_url: Option<Option<EndpointUrl>>,
    /// Other words.
    pub name: Option<Description>,
    /// Another end, or none.
    pub expires_at: Option<Option<Timestamp>>,
    /// Whether it is to be used.
    pub is_valid: Option<bool>,
}

impl ProviderKeyPatch {
    /// Refuses to send a stored key where it was not stored to go: who cannot read it could have it sent to themselves.
    pub fn check(&self) -> Result<(), Error> {
        match (&self.key, &self.base_url) {
            (None, Some(_)) => Err(Error::invalid(
                "base_url",
                "Invalid base_url. It changes only together with api_key",
            )),
            (Some(_), _) | (None, None) => Ok(()),
        }
    }
}

/// For whom a model is asked: the keys of a bot come before those of its group, these before the tenant's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes<'a> {
    /// The bot, if it is one that asks.
    pub bot: Option<&'a str>,
    /// Its group.
    pub bot_group: Option<&'a str>,
}

impl Scopes<'_> {
    /// Those of `keys` that `provider` can be asked with at `now`, in the order in which they are tried: the closest
    /// first, of those as close what the tenant brought before what the operator pays for, and then the oldest.
    pub fn order<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k ProviderKey>,
        provider: Provider,
        now: Timestamp,
    ) -> Vec<&'k ProviderKey> {
        let usable =
            |key: &&ProviderKey| key.provider == provider && key.status(now) == KeyStatus::Active;
        let ranked = keys.into_iter().filter(usable).filter_map(|key| {
            let distance = key.scope.distance(self)?;
            Some(((distance, key.key_type, key.id), key))
        });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_unstable_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, key)| key).collect()
    }
}

/// A key that can be used.
#[derive(Debug, Clone)]
pub struct OpenedKey {
    /// Its id.
    pub id: ProviderKeyId,
    /// Whose it is.
    pub owner: Owner,
    /// Where it holds.
    pub provider: Provider,
    /// Where the provider is, if not where it usually is.
    pub base_url: Option<EndpointUrl>,
    /// The key.
    pub key: ModelKey,
    /// What it is at that place: [`ProviderKey::fingerprint_of`].
    pub fingerprint: SecretHash,
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::Moment;

    fn key(text: &str) -> ModelKey {
        ModelKey::parse(text.to_owned()).unwrap()
    }

    #[test]
    fn of_a_key_so_much_is_shown_that_its_owner_knows_it() {
        assert_eq!(key("sk-proj-0123456789abcd").masked(), "sk-...abcd");
        assert_eq!(key("0123456789abcde").masked(), "...bcde");
    }

    #[test]
    fn of_a_short_key_neither_a_part_nor_the_length_is_shown_and_yet_something() {
        for short in ["x", "sk-1", "ollama", "01234567890"] {
            assert_eq!(key(short).masked(), "(short key, hidden)");
        }
    }

    #[test]
    fn a_short_key_that_the_version_before_stored_is_shown_in_the_same_way() {
        let shown = ProviderKey::masked_as_stored;
        assert_eq!(shown("..."), "(short key, hidden)");
        assert_eq!(shown("...bcde"), "...bcde");
    }

    #[test]
    fn a_model_key_is_never_shown_by_debug() {
        assert_eq!(format!("{:?}", key("sk-secret")), "ModelKey(…)");
    }

    #[test]
    fn a_key_can_be_a_header() {
        for bad in ["", "a b", "a\n", "ü", &"x".repeat(513)] {
            assert!(ModelKey::parse(bad.to_owned()).is_err(), "{bad}");
        }
        assert!(ModelKey::parse("x".repeat(512)).is_ok());
    }

    fn stored(n: u128, scope: Scope, key_type: KeyType) -> ProviderKey {
        let moment = Moment::new(
            Timestamp::from_micros(0),
            Instant::now(),
            std::time::Duration::ZERO,
            // The first bits are what tells ids apart.
            n << 100,
        );
        ProviderKey {
            id: ProviderKeyId::at(&moment),
            owner: Owner::Operator,
            scope,
            key_type,
            provider: Provider::OpenAi,
            base_url: None,
            name: Description::default(),
            is_valid: true,
            expires_at: None,
            masked: n.to_string(),
            created_at: moment.now,
            updated_at: moment.now,
            last_used_at: None,
            hash: SecretHash::of(b""),
            fingerprint: SecretHash::of(b""),
            sealed: Sealed(String::new()),
        }
    }

    fn order(keys: &[ProviderKey], scopes: &Scopes<'_>) -> String {
        let now = Timestamp::from_micros(10);
        let keys = scopes.order(keys, Provider::OpenAi, now);
        let names: Vec<_> = keys.into_iter().map(|key| key.masked.clone()).collect();
        names.join(" ")
    }

    #[test]
    fn the_closest_key_is_first_and_what_the_tenant_brought_before_what_the_operator_pays() {
        let id = |text: &str| ScopeId(text.to_owned());
        let keys = [
            stored(1, Scope::Global, KeyType::Global),
            stored(2, Scope::Tenant, KeyType::Global),
            stored(3, Scope::Tenant, KeyType::Byok),
            stored(4, Scope::BotGroup(id("g")), KeyType::Global),
            stored(5, Scope::BotGroup(id("g")), KeyType::Byok),
            stored(6, Scope::Bot(id("b")), KeyType::Global),
            stored(7, Scope::Bot(id("b")), KeyType::Byok),
            stored(8, Scope::Bot(id("other")), KeyType::Byok),
            stored(9, Scope::Tenant, KeyType::Byok),
        ];
        let bot = Scopes {
            bot: Some("b"),
            bot_group: Some("g"),
        };
        assert_eq!(order(&keys, &bot), "7 6 5 4 3 9 2 1");
        assert_eq!(order(&keys, &Scopes::default()), "3 9 2 1");
    }

    #[test]
    fn a_key_that_does_not_hold_is_not_tried() {
        let at = |micros| Some(Timestamp::from_micros(micros));
        let mut keys = [1, 2, 3, 4].map(|n| stored(n, Scope::Tenant, KeyType::Byok));
        keys[0].is_valid = false;
        keys[1].expires_at = at(10);
        keys[2].expires_at = at(11);
        keys[3].provider = Provider::Google;
        assert_eq!(order(&keys, &Scopes::default()), "3");
    }

    #[test]
    fn a_scope_is_one_of_its_owner() {
        let moment = Moment::new(
            Timestamp::from_micros(0),
            Instant::now(),
            std::time::Duration::ZERO,
            1,
        );
        let tenant = Owner::Tenant(TenantId::at(&moment));
        let parse = |owner, kind, id: Option<&str>| {
            let scope = Scope::parse(owner, kind, id.map(ToOwned::to_owned));
            scope.map(|scope| scope.kind()).ok()
        };
        assert_eq!(parse(Owner::Operator, None, None), Some("global"));
        assert_eq!(parse(Owner::Operator, Some("tenant"), None), None);
        assert_eq!(parse(tenant, None, None), Some("tenant"));
        assert_eq!(parse(tenant, Some("global"), None), None);
        assert_eq!(parse(tenant, Some("tenant"), Some("x")), None);
        assert_eq!(parse(tenant, Some("bot"), None), None);
        assert_eq!(parse(tenant, Some("bot"), Some("b")), Some("bot"));
        assert_eq!(
            parse(tenant, Some("bot_group"), Some("g")),
            Some("bot_group")
        );
    }
}
