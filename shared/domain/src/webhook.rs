//! Webhook endpoints: where a tenant wants to be told what happens, and with which secret it can tell that it
//! was us.

use std::{collections::BTreeSet, fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use url::{Host, Url};

pub use super::address::Targets;
use super::{EndpointId, Error, TenantId, Timestamp, text};

/// How many endpoints a tenant may have. Everything that is told is told to each of them.
pub const MAX_ENDPOINTS: u32 = 10;
/// For how long the secret before a rotation may hold beside the new one, in seconds: at most a week.
pub const MAX_OVERLAP_SECONDS: u32 = 7 * 24 * 3_600;
/// For how long it holds if nobody says: a day to roll the new one out.
pub const OVERLAP_SECONDS: u32 = 24 * 3_600;
/// After how long without one success an endpoint is paused, in seconds: five days.
pub const PATIENCE_SECONDS: i64 = 5 * 24 * 3_600;
/// For how long an endpoint must fail after that until it is paused, in seconds: where a clock was set forward, the five
/// days were none.
pub const CERTAIN_SECONDS: i64 = 3_600;
/// What is said of an endpoint that was paused after [`PATIENCE_SECONDS`].
pub const FAILED_TOO_LONG: &str = "failing for 5 days";
/// What is said of an endpoint that was paused because it answered 410 (Standard Webhooks).
pub const GONE: &str = "HTTP 410 Gone";
/// What is said of an endpoint that its tenant has paused.
pub const BY_REQUEST: &str = "by request";

/// What an endpoint can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the name on the wire says it")]
pub enum EventType {
    MessageCreated,
    MessageEdited,
    MessageDeleted,
    RoomCreated,
    MemberJoined,
    MemberLeft,
    Notification,
    /// Another endpoint of the tenant was paused: it failed for too long, or said that it is gone.
    WebhookPaused,
}

impl EventType {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::MessageCreated,
        Self::MessageEdited,
        Self::MessageDeleted,
        Self::RoomCreated,
        Self::MemberJoined,
        Self::MemberLeft,
        Self::Notification,
        Self::WebhookPaused,
    ];

    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MessageCreated => "message.created",
            Self::MessageEdited => "message.edited",
            Self::MessageDeleted => "message.deleted",
            Self::RoomCreated => "room.created",
            Self::MemberJoined => "member.joined",
            Self::MemberLeft => "member.left",
            Self::Notification => "notification",
            Self::WebhookPaused => "webhook.paused",
        }
    }

    /// Reads its name from `field`.
    pub fn parse(field: &'static str, name: &str) -> Result<Self, Error> {
        name.parse().map_err(|UnknownEventType| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::invalid(field, format!("Invalid {field}. Must be of: {names}"))
        })
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names nothing that an endpoint can be told of.
#[derive(Debug, Clone, Copy)]
pub struct UnknownEventType;

impl FromStr for EventType {
    type Err = UnknownEventType;

    fn from_str(name: &str) -> Result<Self, UnknownEventType> {
        let mut all = Self::ALL.into_iter();
        all.find(|it| it.name() == name).ok_or(UnknownEventType)
    }
}

/// What an endpoint wants to be told of. None named means all there is, and all there will be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventTypes {
    known: BTreeSet<EventType>,
    /// Whether others are named that a later version knows. Those alone are not none.
    has_later: bool,
}

impl EventTypes {
    /// Those that field `events` names.
    pub fn parse(names: &[String]) -> Result<Self, Error> {
        let types = names.iter().map(|name| EventType::parse("events", name));
        let known = types.collect::<Result<_, _>>()?;
        Ok(Self {
            known,
            has_later: false,
        })
    }

    /// Trusts what our own store gives back. A type that a later version has stored is none that this one tells of.
    pub fn stored(names: &[&str]) -> Self {
        let known: BTreeSet<_> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let has_later = names.iter().any(|name| name.parse::<EventType>().is_err());
        Self { known, has_later }
    }

    /// Whether `event` is one of them.
    pub fn contain(&self, event: EventType) -> bool {
        let is_all = self.known.is_empty() && !self.has_later;
        is_all || self.known.contains(&event)
    }

    /// Those that are named, and that this version knows.
    pub fn named(&self) -> impl Iterator<Item = EventType> {
        self.known.iter().copied()
    }
}

/// Where webhooks are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointUrl {
    /// As the tenant wrote it.
    text: String,
    url: Url,
}

impl EndpointUrl {
    /// The longest URL, in bytes.
    pub const MAX: usize = 2_048;

    /// Reads field `url`. What a name resolves to is not known here: it is checked when we connect.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for what is no URL, or one that `targets` does not allow.
    pub fn parse(text: String, targets: Targets) -> Result<Self, Error> {
        Self::parse_as("url", text, targets)
    }

    /// The same for another field.
    pub fn parse_as(field: &'static str, text: String, targets: Targets) -> Result<Self, Error> {
        text::check(field, &text, Self::MAX)?;
        let refuse = |rule: &str| Error::invalid(field, format!("Invalid {field}. {rule}"));
        // A parser of URLs would pass over these.
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(refuse("It must not hold spaces or control characters"));
        }
        let url = Url::parse(&text).map_err(|_| refuse("It is not an absolute URL"))?;
        match (url.scheme(), targets) {
            ("https", _) | ("http", Targets::Any) => {}
            (_, Targets::Public) => {
                return Err(refuse(&format!(
                    "It must begin with https://. {}",
                    others_allowed(field)
                )));
            }
            (_, Targets::Any) => return Err(refuse("It must begin with https:// or http://")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("It must not hold a user name or a password"));
        }
        let address = match url.host() {
            Some(Host::Ipv4(v4)) => Some(v4.into()),
            Some(Host::Ipv6(v6)) => Some(v6.into()),
            Some(Host::Domain(_)) | None => None,
        };
        if address.is_some_and(|address| !targets.allow(address)) {
            return Err(refuse(&format!(
                "Its address is not one of the public Internet. {}",
                others_allowed(field)
            )));
        }
        Ok(Self { text, url })
    }

    /// Trusts what our own store gives back; `None` if it did not write it.
    pub fn stored(text: String) -> Option<Self> {
        Self::parse(text, Targets::Any).ok()
    }

    /// The URL as the tenant wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its one spelling, for the network.
    pub fn normal(&self) -> &str {
        self.url.as_str()
    }
}

/// How an operator allows other addresses than public ones, for the field of a URL.
fn others_allowed(field: &str) -> &'static str {
    if field == "url" {
        "On one machine, the option --webhook-targets any allows others"
    } else {
        "On one machine, the option --model-targets any allows others"
    }
}

/// What people call an endpoint: at most 256 bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description(String);

impl Description {
    /// The longest one, in bytes of UTF-8.
    pub const MAX: usize = 256;

    /// Reads field `description`.
    pub fn parse(text: String) -> Result<Self, Error> {
        Self::parse_as("description", text)
    }

    /// The same for another field.
    pub fn parse_as(field: &'static str, text: String) -> Result<Self, Error> {
        text::check_line(field, &text, Self::MAX)?;
        Ok(Self(text))
    }

    /// Trusts what our own store gives back.
    pub const fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What begins a secret, as in Standard Webhooks.
const PREFIX: &str = "whsec_";

/// What webhooks are signed with, in the clear: exists only where it is made, shown once, or signs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// `whsec_` and the key in base64.
    text: String,
    key: Vec<u8>,
}

impl Secret {
    /// How short a key may be, in bytes (Standard Webhooks).
    pub const MIN: usize = 24;
    /// How long a key may be, in bytes (Standard Webhooks).
    pub const MAX: usize = 64;

    /// A secret of 256 random bits.
    pub fn from_entropy(entropy: [u8; 32]) -> Self {
        Self {
            text: format!("{PREFIX}{}", STANDARD.encode(entropy)),
            key: entropy.to_vec(),
        }
    }

    /// Reads field `secret`: one that a tenant brings.
    pub fn parse(text: String) -> Result<Self, Error> {
        let key = text.strip_prefix(PREFIX);
        let key = key.and_then(|key| STANDARD.decode(key).ok());
        match key {
            Some(key) if (Self::MIN..=Self::MAX).contains(&key.len()) => Ok(Self { text, key }),
            Some(_) | None => Err(Error::invalid(
                "secret",
                "Invalid secret. It is whsec_ and 24 to 64 bytes in base64",
            )),
        }
    }

    /// The text, for the one answer that shows it, for sealing, and for `X-ChatAPI-Signature`, which is keyed with it.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The key of `webhook-signature`.
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A secret as it is stored: only the one who holds the sealing key can read it.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub String);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}

/// Whether an endpoint is told anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It is.
    Active,
    /// It is not.
    Paused {
        /// Why.
        reason: String,
        /// Since when.
        at: Timestamp,
    },
}

/// An endpoint of a tenant.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where it is.
    pub url: EndpointUrl,
    /// What people call it.
    pub description: Description,
    /// What it wants to be told of.
    pub events: EventTypes,
    /// Whether it is told.
    pub status: Status,
    /// The time of the first failure after the last success; `None` while it works.
    pub failing_since: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// What its webhooks are signed with.
    pub secret: Sealed,
    /// What they are signed with too, until that time.
    pub previous: Option<(Sealed, Timestamp)>,
}

impl Endpoint {
    /// Whether it is told what happens now.
    pub const fn is_active(&self) -> bool {
        match self.status {
            Status::Active => true,
            Status::Paused { .. } => false,
        }
    }

    /// Its secrets that are live at `now`, the newest first.
    pub fn live(&self, now: Timestamp) -> impl Iterator<Item = &Sealed> {
        let previous = self.previous_at(now).map(|(sealed, _)| sealed);
        std::iter::once(&self.secret).chain(previous)
    }

    /// Until when the secret before the newest is live, if it is at `now`.
    pub fn previous_expires_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.previous_at(now).map(|(_, until)| *until)
    }

    fn previous_at(&self, now: Timestamp) -> Option<&(Sealed, Timestamp)> {
        let previous = self.previous.as_ref();
        previous.filter(|(_, until)| until.is_awaited(now, MAX_OVERLAP_SECONDS.into()))
    }
}

/// What a tenant changes of an endpoint.
#[derive(Debug, Default)]
pub struct EndpointPatch {
    /// Another address. Its health begins anew.
    pub url: Option<EndpointUrl>,
    /// Other wishes.
    pub events: Option<EventTypes>,
    /// Other words.
    pub description: Option<Description>,
    /// Whether it is told, from now on. Its health begins anew with `true`.
    pub active: Option<bool>,
}

/// A webhook to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// `webhook-id`: the same however often it is sent, so that a receiver can tell.
    pub id: &'a str,
    /// When this attempt is made.
    pub at: Timestamp,
    /// What it tells of.
    pub event: EventType,
    /// The body as it is signed and sent: JSON.
    pub body: &'a str,
}

/// Why an attempt to send a webhook failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// In few words that are always the same: `connection timeout`, `HTTP 500`. Never a word of the receiver's.
    pub reason: String,
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// How many seconds the receiver asks to be left alone, at most a day.
    pub retry_after: Option<u64>,
    /// Whether the receiver says that there is nobody any more (410).
    pub gone: bool,
}

impl Refused {
    /// Because of `reason`, without an answer.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            status: None,
            retry_after: None,
            gone: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_types_of_a_later_version_alone_are_not_all_there_are() {
        let later = EventTypes::stored(&["chat.created"]);
        assert!(EventType::ALL.iter().all(|it| !later.contain(*it)));
        let both = EventTypes::stored(&["chat.created", "member.left"]);
        assert!(both.contain(EventType::MemberLeft) && !both.contain(EventType::MemberJoined));
        let none = EventTypes::stored(&[]);
        assert!(EventType::ALL.iter().all(|it| none.contain(*it)));
    }

    #[test]
    fn a_replaced_secret_is_live_for_the_longest_overlap_at_most_whatever_clock_set_its_end() {
        let now = Timestamp::from_micros(0);
        let id = "0193c1a27b0c7f3e8a6d5c4b3a291807";
        let is_live = |seconds: i64| {
            let endpoint = Endpoint {
                id: format!("ep_{id}").parse().unwrap(),
                tenant: format!("tenant_{id}").parse().unwrap(),
                url: EndpointUrl::stored("https://example.com".to_owned()).unwrap(),
                description: Description::default(),
                events: EventTypes::default(),
                status: Status::Active,
                failing_since: None,
                created_at: now,
                secret: Sealed(String::new()),
                previous: Some((Sealed(String::new()), now.plus_seconds(seconds))),
            };
            endpoint.previous_expires_at(now).is_some()
        };
        let longest = i64::from(MAX_OVERLAP_SECONDS);
        assert!(is_live(1) && is_live(longest));
        assert!(!is_live(0) && !is_live(longest + 60));
    }

    fn refused(url: &str, targets: Targets) -> bool {
        match EndpointUrl::parse(url.to_owned(), targets) {
            Ok(_) => false,
            Err(Error::Invalid { field, .. }) => field == "url",
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_url_is_https_to_a_name_or_a_public_address() {
        for good in [
            "https://example.com",
            "https://example.com:8443/hooks?a=b#c",
            "https://EXAMPLE.com/%20",
            "https://münchen.example/ü",
            "https://8.8.8.8/",
            "https://[2606:4700::1111]/",
        ] {
            assert!(!refused(good, Targets::Public), "{good}");
        }
        for bad in [
            "http://example.com",
            "ftp://example.com",
            "https://",
            "https:///",
            "example.com",
            "//example.com",
            "",
            "https://user@example.com",
            "https://:pass@example.com",
            "https://exa mple.com",
            " https://example.com",
            "https://example.com\n",
            "https://exam\tple.com",
            "javascript:alert(1)",
            "https://example.com:99999",
        ] {
            assert!(refused(bad, Targets::Public), "{bad}");
        }
        let long = format!("https://example.com/{}", "a".repeat(2_028));
        assert!(!refused(&long, Targets::Public) && refused(&(long + "a"), Targets::Public));
    }

    #[test]
    fn an_address_that_is_not_public_is_refused_however_it_is_spelled() {
        for bad in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://017700000001/",
            "https://127.0.0.1./",
            "https://１２７.0.0.1/",
            "https://10.0.0.1:8443/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://[::]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://[0:0:0:0:0:0:0:1]/",
            "https://[fd00:ec2::254]/",
            "https://[fe80::1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://%31%32%37.0.0.1/",
        ] {
            assert!(refused(bad, Targets::Public), "{bad}");
        }
    }

    #[test]
    fn an_operator_who_allows_any_target_allows_this_machine_and_http() {
        for good in [
            "http://127.0.0.1:8080/",
            "http://localhost",
            "https://[::1]/",
        ] {
            assert!(!refused(good, Targets::Any), "{good}");
        }
        assert!(refused("ftp://127.0.0.1/", Targets::Any) && refused("http://a@b/", Targets::Any));
    }

    #[test]
    fn a_secret_is_24_to_64_bytes_in_base64_after_its_prefix() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for bytes in [24, 32, 64] {
            let secret = Secret::parse(of(bytes)).unwrap();
            assert_eq!(
                (secret.key().len(), secret.expose()),
                (bytes, of(bytes).as_str())
            );
        }
        let bare = of(32).replace("whsec_", "");
        for bad in [
            of(23),
            of(65),
            bare,
            "whsec_".to_owned(),
            "whsec_????".to_owned(),
        ] {
            assert!(Secret::parse(bad.clone()).is_err(), "{bad}");
        }
        let made = Secret::from_entropy([7; 32]);
        assert_eq!(made.expose(), of(32));
        assert_eq!(format!("{made:?}"), "Secret(…)");
    }

    #[test]
    fn no_type_named_means_all() {
        let none = EventTypes::parse(&[]).unwrap();
        assert!(EventType::ALL.into_iter().all(|event| none.contain(event)));
        let names = ["member.left".to_owned(), "member.left".to_owned()];
        let one = EventTypes::parse(&names).unwrap();
        assert!(one.named().eq([EventType::MemberLeft]));
        assert!(!one.contain(EventType::MemberJoined));
        assert!(EventTypes::parse(&["member.gone".to_owned()]).is_err());
    }

    #[test]
    fn every_type_has_one_name() {
        for event in EventType::ALL {
            assert_eq!(event.name().parse::<EventType>().unwrap(), event);
        }
    }
}
