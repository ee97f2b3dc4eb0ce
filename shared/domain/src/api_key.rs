//! A team's keys: publishable ones for browsers, secret ones for servers.

use std::fmt;

use url::Url;

use super::{
    ApiKeyId, Error, TenantId, Timestamp, UserId, rate::Rate, secret::SecretHash, text::Name,
};

/// How many keys a tenant may have that hold.
pub const MAX_KEYS: u32 = 100;
/// How long the key before a rotation holds too, in seconds, where nobody says: a day to roll it out.
pub const OVERLAP_SECONDS: u32 = 24 * 3_600;

/// The digits of a key.
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// How many digits of a key are random: 142 bits.
const RANDOM: usize = 24;
/// How many digits more are the CRC-32 of what stands before them.
const CHECKSUM: usize = 6;
/// How many characters of a key a list shows.
const SHOWN: usize = 4;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// For browsers: everybody may know it, and it opens little.
    Publishable,
    /// For servers: it opens all that is the team's.
    Secret,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Publishable, Self::Secret];

    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publishable => "publishable",
            Self::Secret => "secret",
        }
    }

    /// What its keys begin with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Publishable => "pk_live_",
            Self::Secret => "sk_live_",
        }
    }

    /// How often one of its keys may ask, as the dialect's documentation says.
    pub const fn rate(self) -> Rate {
        let requests = match self {
            Self::Publishable => 100,
            Self::Secret => 1_000,
        };
        Rate {
            requests,
            seconds: 60,
        }
    }

    /// Reads field `kind`.
    pub fn parse(name: &str) -> Result<Self, Error> {
        Self::stored(name).ok_or_else(|| {
            Error::invalid("kind", "Invalid kind. Must be one of: publishable, secret")
        })
    }

    /// The kind that the store calls `name`.
    pub fn stored(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A key in the clear: exists only between its making and the one answer that shows it.
#[derive(Clone)]
pub struct KeyText(String);

impl KeyText {
    /// A key of `kind` out of 256 random bits: 24 random digits and 6 of a checksum.
    pub fn from_entropy(kind: Kind, entropy: [u8; 32]) -> Self {
        let mut text = kind.prefix().to_owned();
        let (left, right) = entropy.split_at(16);
        for half in [left, right] {
            let bits = half
                .iter()
                .fold(0, |bits, byte| bits << 8 | u128::from(*byte));
            // 128 bits for 71: no digit is noticeably likelier than another.
            push(&mut text, bits, RANDOM / 2);
        }
        let sum = crc32fast::hash(text.as_bytes());
        push(&mut text, sum.into(), CHECKSUM);
        Self(text)
    }

    /// What kind of key `text` would be. `None` if it cannot be one: it was mistyped, or made up.
    pub fn kind_of(text: &[u8]) -> Option<Kind> {
        let text = std::str::from_utf8(text).ok()?;
        let prefixed = |kind: &Kind| text.starts_with(kind.prefix());
        let kind = Kind::ALL.into_iter().find(prefixed)?;
        let digits = &text[kind.prefix().len()..];
        let is_whole = digits.len() == RANDOM + CHECKSUM
            && digits.bytes().all(|digit| digit.is_ascii_alphanumeric());
        if !is_whole {
            return None;
        }
        let (body, sum) = text.split_at(text.len() - CHECKSUM);
        let mut expected = String::new();
        push(
            &mut expected,
            crc32fast::hash(body.as_bytes()).into(),
            CHECKSUM,
        );
        (sum == expected).then_some(kind)
    }

    /// Whether `text` begins as a key of a team does, whether it can be one or not.
    pub fn is_meant_by(text: &[u8]) -> bool {
        Kind::ALL
            .iter()
            .any(|kind| text.starts_with(kind.prefix().as_bytes()))
    }

    /// For the one answer that shows it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(self.0.as_bytes())
    }

    /// Its last characters, by which people know it again.
    pub fn last4(&self) -> &str {
        &self.0[self.0.len() - SHOWN..]
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(…)")
    }
}

/// Writes the last `digits` digits of `number` after `text`.
fn push(text: &mut String, mut number: u128, digits: usize) {
    for _ in 0..digits {
        let digit = usize::try_from(number % 62).unwrap_or_default();
        text.push(char::from(BASE62[digit]));
        number /= 62;
    }
}

/// Where a browser's page comes from: `https://app.example` or `https://app.example:8443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// The longest origin, in bytes: a name of 253, `https://` and a port.
    pub const MAX: usize = 267;

    /// Reads `text` from `field`. Only as browsers spell it: another spelling would never match.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for what is no origin, or not over TLS: without that, only this machine.
    pub fn parse(field: &str, text: String) -> Result<Self, Error> {
        let refuse =
            |rule: &str| Error::invalid(field.to_owned(), format!("Invalid {field}. {rule}"));
        if text.len() > Self::MAX {
            return Err(refuse(&format!("At most {} bytes", Self::MAX)));
        }
        let example = "It is an origin, such as https://app.example";
        let url = Url::parse(&text).map_err(|_| refuse(example))?;
        let is_local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        match (url.scheme(), is_local) {
            ("https", _) | ("http", true) => {}
            ("http", false) => {
                return Err(refuse("It must begin with https://, except for localhost"));
            }
            _ => return Err(refuse(example)),
        }
        if url.host_str().is_some_and(|host| host.contains('*')) {
            return Err(refuse("There are no wildcards: name each origin"));
        }
        let normal = url.origin().ascii_serialization();
        if normal != text {
            return Err(refuse(&format!("Browsers send it as {normal}")));
        }
        Ok(Self(text))
    }

    /// Trusts what our own store gives back.
    pub const fn stored(text: String) -> Self {
        Self(text)
    }

    /// As browsers spell it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a publishable key may be used from; none named means from anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Vec<Origin>);

impl Origins {
    /// The most origins a key may name.
    pub const MAX: usize = 20;

    /// Reads field `allowed_origins`. One named twice is kept once.
    pub fn parse(texts: Vec<String>) -> Result<Self, Error> {
        if texts.len() > Self::MAX {
            return Err(Error::invalid(
                "allowed_origins",
                format!("Invalid allowed_origins. At most {}", Self::MAX),
            ));
        }
        let mut origins: Vec<Origin> = Vec::new();
        for (index, text) in texts.into_iter().enumerate() {
            let origin = Origin::parse(&format!("allowed_origins[{index}]"), text)?;
            if !origins.contains(&origin) {
                origins.push(origin);
            }
        }
        Ok(Self(origins))
    }

    /// Trusts what our own store gives back.
    pub const fn stored(origins: Vec<Origin>) -> Self {
        Self(origins)
    }

    /// Those that are named.
    pub fn named(&self) -> impl Iterator<Item = &Origin> {
        self.0.iter()
    }

    /// Whether a request may come from a page of `origin`; `None` if it does not say.
    pub fn allow(&self, origin: Option<&[u8]>) -> bool {
        self.0.is_empty()
            || origin.is_some_and(|origin| self.0.iter().any(|it| it.as_str().as_bytes() == origin))
    }
}

/// Whom a key lets in, and where from: what it opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opens {
    /// What browsers may reach.
    Publishable {
        /// Where from.
        origins: Origins,
        /// The one user whose chats it shows, if it was made for one.
        user: Option<UserId>,
    },
    /// All that is the team's.
    Secret,
}

impl Opens {
    /// What kind of key opens this.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Publishable { .. } => Kind::Publishable,
            Self::Secret => Kind::Secret,
        }
    }

    /// Reads what a key of `kind` opens from fields `allowed_origins` and `user_id`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if a secret key is given either: no browser holds one, and it acts for all users.
    pub fn parse(
        kind: Kind,
        allowed_origins: Vec<String>,
        user_id: Option<&str>,
    ) -> Result<Self, Error> {
        match kind {
            Kind::Publishable => Ok(Self::Publishable {
                origins: Origins::parse(allowed_origins)?,
                user: user_id
                    .map(|user| UserId::parse("user_id", user))
                    .transpose()?,
            }),
            Kind::Secret if !allowed_origins.is_empty() => Err(Error::invalid(
                "allowed_origins",
                "Invalid allowed_origins. Only a publishable key has some",
            )),
            Kind::Secret if user_id.is_some() => Err(Error::invalid(
                "user_id",
                "Invalid user_id. Only a publishable key is made for one user",
            )),
            Kind::Secret => Ok(Self::Secret),
        }
    }
}

/// A key that does not exist yet.
#[derive(Debug)]
pub struct NewKey {
    /// What people call it.
    pub name: Name,
    /// What it opens.
    pub opens: Opens,
    /// When it stops to hold; `None` for never.
    pub expires_at: Option<Timestamp>,
}

impl NewKey {
    /// Reads field `expires_at`, to the second: a time after `now`.
    pub fn expiry(text: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let Some(text) = text else {
            return Ok(None);
        };
        let at = Timestamp::parse("expires_at", text)?;
        let at = Timestamp::from_micros(0).plus_seconds(at.seconds());
        if at <= now {
            return Err(Error::invalid(
                "expires_at",
                "Invalid expires_at. It must be a time to come",
            ));
        }
        Ok(Some(at))
    }
}

/// A secret that a rotation has replaced, and that holds for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    /// Its hash.
    pub hash: SecretHash,
    /// Until when it holds.
    pub expires_at: Timestamp,
}

/// A key as lists show it: never its text.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its id, which rotations keep.
    pub id: ApiKeyId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What people call it.
    pub name: Name,
    /// What it opens.
    pub opens: Opens,
    /// The last characters of its text.
    pub last4: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to hold; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// When it was used, to about an hour.
    pub last_used_at: Option<Timestamp>,
    /// The text before this one, while it may hold.
    pub previous: Option<Previous>,
    /// Its hash.
    pub hash: SecretHash,
}

impl Key {
    /// The key `new` of `tenant`, whose text is `text`.
    pub fn new(
        id: ApiKeyId,
        tenant: TenantId,
        new: NewKey,
        text: &KeyText,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            tenant,
            name: new.name,
            opens: new.opens,
            last4: text.last4().to_owned(),
            created_at: now,
            expires_at: new.expires_at,
            last_used_at: None,
            previous: None,
            hash: text.hash(),
        }
    }

    /// Whether it no longer holds at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Until when the text before this one holds, if it does at `now`.
    pub fn previous_expires_at(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.previous.as_ref()?.expires_at;
        (until > now).then_some(until)
    }

    /// What lists show of its text.
    pub fn masked(&self) -> String {
        format!("{}…{}", self.opens.kind().prefix(), self.last4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: Kind) -> KeyText {
        let mut entropy = [0; 32];
        for (byte, value) in entropy.iter_mut().zip(7_u8..) {
            *byte = value.wrapping_mul(31);
        }
        KeyText::from_entropy(kind, entropy)
    }

    #[test]
    fn a_key_is_its_prefix_and_thirty_digits() {
        for kind in Kind::ALL {
            let key = text(kind);
            let digits = key.expose().strip_prefix(kind.prefix()).unwrap();
            assert_eq!(digits.len(), 30);
            assert!(digits.bytes().all(|digit| digit.is_ascii_alphanumeric()));
            assert_eq!(KeyText::kind_of(key.expose().as_bytes()), Some(kind));
        }
    }

    #[test]
    fn a_key_with_one_character_changed_cannot_be_one() {
        let key = text(Kind::Secret);
        for at in 0..key.expose().len() {
            for other in [b'0', b'z', b'_', b' ', 0xff] {
                let mut bytes = key.expose().as_bytes().to_vec();
                if bytes[at] != other {
                    bytes[at] = other;
                    assert_eq!(KeyText::kind_of(&bytes), None, "{at}");
                }
            }
        }
    }

    #[test]
    fn a_key_of_one_kind_is_none_of_the_other() {
        let key = text(Kind::Publishable);
        let other = key.expose().replace("pk_", "sk_");
        assert_eq!(KeyText::kind_of(other.as_bytes()), None);
    }

    #[test]
    fn what_is_cut_or_longer_cannot_be_a_key() {
        let key = text(Kind::Secret).expose().to_owned();
        for bad in [
            "",
            "sk_live_",
            "pk_live_é",
            &key[..key.len() - 1],
            &format!("{key}0"),
            &key[1..],
            &key.to_uppercase(),
        ] {
            assert_eq!(KeyText::kind_of(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_key_is_never_shown_by_debug() {
        assert_eq!(format!("{:?}", text(Kind::Secret)), "KeyText(…)");
    }

    fn origin(text: &str) -> Result<Origin, Error> {
        Origin::parse("allowed_origins[0]", text.to_owned())
    }

    #[test]
    fn an_origin_is_spelled_as_browsers_do() {
        for good in [
            "https://app.example",
            "https://app.example:8443",
            "https://xn--bcher-kva.example",
            "https://192.0.2.1",
            "https://[2001:db8::1]:8443",
            "http://localhost:5173",
            "http://127.0.0.1",
            "http://[::1]:3000",
        ] {
            assert!(origin(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "*",
            "null",
            "app.example",
            "https://",
            "https://*.example",
            "https://app.example/",
            "https://app.example:443",
            "https://app.example:0443",
            "https://APP.example",
            "HTTPS://app.example",
            "https://bücher.example",
            "https://user@app.example",
            "https://app.example?x",
            "https://app.example#x",
            " https://app.example",
            "https://app.example\n",
            "https:\\\\app.example",
            "http://app.example",
            "http://localhost.example",
            "file:///tmp",
            "ftp://app.example",
            "https://0x7f.1",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
        assert!(origin(&format!("https://{}.example", "a".repeat(300))).is_err());
    }

    #[test]
    fn only_a_named_origin_is_allowed_and_without_any_all_are() {
        let named = Origins::parse(vec!["https://app.example".to_owned()]).unwrap();
        assert!(named.allow(Some(b"https://app.example")));
        for other in [
            None,
            Some(b"null".as_slice()),
            Some(b"https://app.example.evil"),
            Some(b"https://app.example:8443"),
            Some(b"http://app.example"),
            Some(b""),
        ] {
            assert!(!named.allow(other));
            assert!(Origins::default().allow(other));
        }
    }

    #[test]
    fn a_secret_key_has_neither_origins_nor_a_user() {
        let origins = vec!["https://app.example".to_owned()];
        assert!(Opens::parse(Kind::Secret, origins, None).is_err());
        assert!(Opens::parse(Kind::Secret, Vec::new(), Some("alice")).is_err());
        assert_eq!(
            Opens::parse(Kind::Secret, Vec::new(), None).unwrap(),
            Opens::Secret
        );
    }

    #[test]
    fn a_key_expires_in_the_future_or_never() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let read = |text| NewKey::expiry(Some(text), now);
        let half_past = read("2026-11-22T14:30:00.7+02:00").unwrap().unwrap();
        assert_eq!(half_past.to_string(), "2026-11-22T12:30:00.000000Z");
        for bad in [
            "",
            "tomorrow",
            "2026-11-22T12:00:00Z",
            "2026-11-22T12:00:00.9Z",
            "1969-12-31T23:59:59Z",
            "2026-11-22T13:30:00+02:00",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("9999-12-31T23:59:59Z").is_ok());
        assert_eq!(NewKey::expiry(None, now).unwrap(), None);
    }
}
