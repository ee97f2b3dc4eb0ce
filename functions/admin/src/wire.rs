//! What goes over the wire.

use std::str::FromStr;

use parlance::{
    app::{Filter, IssuedKey, NewTenant, Selected, Swept},
    domain::{
        Error, Log, TenantId, Timestamp,
        delivery::{Delivery, Reason, Subject},
        subscription::Topic,
        tenant::{
            CapChange, ListScope, RateLimit, RetryPatch, RetrySchedule, Tenant, TenantPatch,
            TokenCap,
        },
        tenant_key::ListedKey,
        text::Name,
    },
    http::{
        Object, Params, not_null,
        reply::{cursor, shown},
    },
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// A tenant to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantIn {
    /// 1 to 256 bytes.
    #[schema(example = "Acme", max_length = 256)]
    name: String,
}

impl TenantIn {
    /// The same in domain words.
    pub(crate) fn parse(self) -> Result<Name, Error> {
        Name::parse(self.name)
    }
}

/// A tenant, and the one sight of its key.
#[derive(Serialize, ToSchema)]
pub(crate) struct TenantCreated {
    #[schema(example = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    tenant_id: String,
    /// Shown once.
    #[schema(example = "sk_…")]
    api_key: String,
    #[schema(example = "Acme")]
    name: String,
    /// Requests per second.
    #[schema(example = 100)]
    rate_limit: u32,
    retry: RetryOut,
    /// Whose chats its publishable keys show: `user`, or `team` for all.
    #[schema(example = "user")]
    publishable_list_scope: &'static str,
    /// How many tokens of language models it may use in a month (UTC); `null` for as many as it likes.
    #[schema(example = json!(null))]
    monthly_token_cap: Option<u64>,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    created_at: String,
}

impl From<&NewTenant> for TenantCreated {
    fn from(new: &NewTenant) -> Self {
        Self {
            tenant_id: new.tenant.id.to_string(),
            api_key: new.key.expose().to_owned(),
            name: new.tenant.name.as_str().to_owned(),
            rate_limit: new.tenant.rate_limit.per_second(),
            retry: RetryOut::from(new.tenant.retry),
            publishable_list_scope: new.tenant.list_scope.name(),
            monthly_token_cap: new.tenant.token_cap.map(TokenCap::tokens),
            created_at: new.tenant.created_at.to_string(),
        }
    }
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantOut {
    #[schema(example = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    tenant_id: String,
    #[schema(example = "Acme")]
    name: String,
    /// Requests per second.
    #[schema(example = 100)]
    rate_limit: u32,
    retry: RetryOut,
    /// Whose chats its publishable keys show: `user`, or `team` for all.
    #[schema(example = "user")]
    publishable_list_scope: &'static str,
    /// How many tokens of language models it may use in a month (UTC); `null` for as many as it likes.
    #[schema(example = json!(null))]
    monthly_token_cap: Option<u64>,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    created_at: String,
}

/// How deliveries that failed are tried again.
#[derive(Debug, Serialize, ToSchema)]
struct RetryOut {
    /// How often a delivery is tried before it is a dead letter.
    #[schema(example = 5)]
    attempts: u32,
    /// Seconds between the first two attempts.
    #[schema(example = 30)]
    interval_seconds: u32,
    /// `fixed`: all waits are alike. `exponential`: each is twice the one before, 12 hours at most.
    #[schema(example = "fixed")]
    backoff: &'static str,
}

impl From<RetrySchedule> for RetryOut {
    fn from(schedule: RetrySchedule) -> Self {
        Self {
            attempts: schedule.attempts(),
            interval_seconds: schedule.interval_seconds(),
            backoff: schedule.backoff().name(),
        }
    }
}

impl From<&Tenant> for TenantOut {
    fn from(tenant: &Tenant) -> Self {
        Self {
            tenant_id: tenant.id.to_string(),
            name: tenant.name.as_str().to_owned(),
            rate_limit: tenant.rate_limit.per_second(),
            retry: RetryOut::from(tenant.retry),
            publishable_list_scope: tenant.list_scope.name(),
            monthly_token_cap: tenant.token_cap.map(TokenCap::tokens),
            created_at: tenant.created_at.to_string(),
        }
    }
}

/// What to change of a tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantPatchIn {
    /// 1 to 256 bytes.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "Acme", max_length = 256)]
    name: Option<String>,
    /// Requests per second, 1 to 1,000,000.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = 100, minimum = 1, maximum = 1_000_000)]
    rate_limit: Option<i64>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = Option<RetryIn>)]
    retry: Option<Object<RetryIn>>,
    /// Whose chats its publishable keys show, unless they are made for one user: `user` for those of the user who is named, and
    /// chats whose id is known; `team` for all.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "user")]
    publishable_list_scope: Option<String>,
    /// How many tokens of language models it may use in a month (UTC), 1 to 1,000,000,000,000; `null` for as many as it likes.
    #[serde(default)]
    #[schema(value_type = Option<i64>, example = 1_000_000, minimum = 1, maximum = 1_000_000_000_000_i64)]
    monthly_token_cap: CapIn,
}

/// A cap that may be left out, which is not `null`.
#[derive(Debug, Default)]
enum CapIn {
    #[default]
    LeftOut,
    Given(Option<i64>),
}

impl<'de> Deserialize<'de> for CapIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(Self::Given)
    }
}

impl CapIn {
    fn parse(&self) -> Result<CapChange, Error> {
        match self {
            Self::LeftOut => Ok(CapChange::Keep),
            Self::Given(None) => Ok(CapChange::Lift),
            Self::Given(Some(tokens)) => TokenCap::parse(*tokens).map(CapChange::To),
        }
    }
}

/// What to change of how deliveries that failed are tried again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RetryIn {
    /// How often a delivery is tried before it is a dead letter, 1 to 10.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = 5, minimum = 1, maximum = 10)]
    attempts: Option<i64>,
    /// Seconds between the first two attempts, 1 to 43200.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = 30, minimum = 1, maximum = 43_200)]
    interval_seconds: Option<i64>,
    /// `fixed` or `exponential`.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "exponential")]
    backoff: Option<String>,
}

impl RetryIn {
    fn parse(&self) -> Result<RetryPatch, Error> {
        RetryPatch::parse(
            self.attempts,
            self.interval_seconds,
            self.backoff.as_deref(),
        )
    }
}

impl TenantPatchIn {
    /// The same in domain words.
    pub(crate) fn parse(self) -> Result<TenantPatch, Error> {
        let scope = self.publishable_list_scope.as_deref();
        let scope = scope.map(ListScope::parse);
        Ok(TenantPatch {
            name: self.name.map(Name::parse).transpose()?,
            rate_limit: self.rate_limit.map(RateLimit::parse).transpose()?,
            retry: match self.retry {
                Some(Object(retry)) => retry.parse()?,
                None => RetryPatch::default(),
            },
            list_scope: scope.transpose()?,
            token_cap: self.monthly_token_cap.parse()?,
        })
    }
}

/// The one sight of a tenant's next key.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyIssued {
    #[schema(example = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    tenant_id: String,
    /// Shown once.
    #[schema(example = "sk_…")]
    api_key: String,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    created_at: String,
    /// Until when the key before it holds.
    #[schema(example = "2025-12-14T12:00:00.000000Z", format = "date-time")]
    previous_key_expires_at: String,
}

impl From<&IssuedKey> for KeyIssued {
    fn from(issued: &IssuedKey) -> Self {
        Self {
            tenant_id: issued.tenant.to_string(),
            api_key: issued.key.expose().to_owned(),
            created_at: issued.created_at.to_string(),
            previous_key_expires_at: issued.previous_expires_at.to_string(),
        }
    }
}

/// A tenant's key.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantKeyOut {
    #[schema(example = "tkey_5f1c7c3e9a0b8d2f8e6d5c4b3a291807")]
    key_id: String,
    /// How its text begins, and its last 4 characters, which were not kept of keys of an earlier version.
    #[schema(example = "sk_…4af9")]
    masked_key: String,
    /// `current`, or `previous` for the one that the last rotation has replaced.
    #[schema(example = "previous")]
    status: &'static str,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    created_at: String,
    /// When it stops to hold. The current one has no end.
    #[schema(example = "2025-12-15T12:00:00.000000Z", format = "date-time")]
    expires_at: Option<String>,
    /// When it was last used, to about an hour.
    #[schema(example = "2025-12-14T12:00:00.000000Z", format = "date-time")]
    last_used_at: Option<String>,
}

impl From<&ListedKey> for TenantKeyOut {
    fn from(key: &ListedKey) -> Self {
        let shown = |at: Option<Timestamp>| at.map(|at| at.to_string());
        Self {
            key_id: key.id.to_string(),
            masked_key: key.masked(),
            status: key.standing.name(),
            created_at: key.created_at.to_string(),
            expires_at: shown(key.expires_at),
            last_used_at: shown(key.last_used_at),
        }
    }
}

/// What could not be delivered.
#[derive(Debug, Default, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the seed names them")]
pub(crate) struct DeadLetters {
    failed_messages: Vec<FailedMessage>,
    failed_notifications: Vec<FailedNotification>,
    failed_events: Vec<FailedEvent>,
}

/// A message that did not reach a member.
#[derive(Debug, Serialize, ToSchema)]
struct FailedMessage {
    #[schema(example = "dlv_5f1c7c3e9a0b8d2f8e6d5c4b3a291807")]
    delivery_id: String,
    #[schema(example = "msg_00000000002b8d1f9c3e5a7b9d1f3c5e")]
    message_id: String,
    #[schema(example = "user1")]
    user_id: String,
    #[schema(example = "room_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    room_id: String,
    /// How often it was tried, redrives included.
    #[schema(example = 5)]
    attempts: u32,
    #[schema(example = "2025-12-13T12:20:00.000000Z", format = "date-time")]
    last_attempt_at: String,
    #[schema(example = "connection timeout")]
    error: String,
    /// The webhook endpoint that the error is about.
    #[schema(example = "ep_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<String>,
}

/// A notification that did not reach someone.
#[derive(Debug, Serialize, ToSchema)]
struct FailedNotification {
    #[schema(example = "dlv_5f1c7c3e9a0b8d2f8e6d5c4b3a291807")]
    delivery_id: String,
    #[schema(example = "notif_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    notification_id: String,
    /// Whom it did not reach.
    #[schema(example = "user1")]
    user_id: Option<String>,
    #[schema(example = "order.shipped")]
    topic: String,
    /// How often it was tried, redrives included.
    #[schema(example = 3)]
    attempts: u32,
    #[schema(example = "2025-12-13T12:25:00.000000Z", format = "date-time")]
    last_attempt_at: String,
    #[schema(example = "user offline")]
    error: String,
    /// The webhook endpoint that the error is about.
    #[schema(example = "ep_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<String>,
}

/// Something else that happened and that an endpoint did not take.
#[derive(Debug, Serialize, ToSchema)]
struct FailedEvent {
    #[schema(example = "dlv_5f1c7c3e9a0b8d2f8e6d5c4b3a291807")]
    delivery_id: String,
    #[schema(example = "message.edited")]
    event: String,
    #[schema(example = "room_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    room_id: Option<String>,
    /// The message that was edited or deleted.
    #[schema(example = "msg_00000000002b8d1f9c3e5a7b9d1f3c5e")]
    message_id: Option<String>,
    /// How often it was tried, redrives included.
    #[schema(example = 5)]
    attempts: u32,
    #[schema(example = "2025-12-13T12:20:00.000000Z", format = "date-time")]
    last_attempt_at: String,
    #[schema(example = "HTTP 500")]
    error: String,
    /// The webhook endpoint that the error is about.
    #[schema(example = "ep_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<String>,
}

impl From<Vec<Delivery>> for DeadLetters {
    fn from(letters: Vec<Delivery>) -> Self {
        let mut shown = Self::default();
        for letter in letters {
            shown.add(letter);
        }
        shown
    }
}

impl DeadLetters {
    fn add(&mut self, letter: Delivery) {
        let delivery_id = letter.id.to_string();
        let last_attempt_at = letter.last_attempt_at.unwrap_or(letter.created_at);
        let last_attempt_at = last_attempt_at.to_string();
        let (attempts, error) = (letter.attempts, letter.error.unwrap_or_default());
        let endpoint_id = letter.error_endpoint;
        let message_id = match (letter.subject, letter.user) {
            (
                Subject::MessageCreated {
                    log: Log::Room(room),
                    id,
                },
                Some(user),
            ) => {
                self.failed_messages.push(FailedMessage {
                    delivery_id,
                    message_id: id.to_string(),
                    user_id: user.to_string(),
                    room_id: room.to_string(),
                    attempts,
                    last_attempt_at,
                    error,
                    endpoint_id,
                });
                return;
            }
            (Subject::Notification(id), user) => {
                let topic = letter.about.topic.as_ref().map(Topic::as_str);
                self.failed_notifications.push(FailedNotification {
                    delivery_id,
                    notification_id: id.to_string(),
                    user_id: user.map(|user| user.to_string()),
                    topic: topic.unwrap_or_default().to_owned(),
                    attempts,
                    last_attempt_at,
                    error,
                    endpoint_id,
                });
                return;
            }
            (
                Subject::MessageCreated { id, .. }
                | Subject::MessageEdited { id, .. }
                | Subject::MessageDeleted { id, .. },
                _,
            ) => Some(id),
            (Subject::Event(_), _) => None,
        };
        self.failed_events.push(FailedEvent {
            delivery_id,
            event: letter.about.event,
            room_id: letter.about.room.map(|room| room.to_string()),
            message_id: message_id.map(|id| id.to_string()),
            attempts,
            last_attempt_at,
            error,
            endpoint_id,
        });
    }
}

/// Which dead letters of a tenant are to be tried again: one, those to which all filters apply, or all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedriveIn {
    #[schema(example = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    tenant_id: String,
    /// This one; nothing else may be named then.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "dlv_5f1c7c3e9a0b8d2f8e6d5c4b3a291807")]
    delivery_id: Option<String>,
    /// Notifications about this topic.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "order.shipped")]
    topic: Option<String>,
    /// What happened in this room.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "room_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    room_id: Option<String>,
    /// Last tried before this time.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "2025-12-13T12:00:00Z", format = "date-time")]
    older_than: Option<String>,
    /// Last tried after this time.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "2025-12-12T12:00:00Z", format = "date-time")]
    newer_than: Option<String>,
    /// `true` for all dead letters of the tenant; nothing else may be named then.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = false)]
    all: Option<bool>,
    /// `true` to count them and change nothing.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = false)]
    dry_run: Option<bool>,
    /// `next_cursor` of the answer before, to go on from there with all else as it was.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(max_length = 512)]
    cursor: Option<String>,
}

/// The parsed request to redrive or discard dead letters.
#[derive(Debug)]
pub(crate) struct Meant {
    /// The tenant whose dead letters are meant.
    pub(crate) tenant: TenantId,
    /// The letters that are meant.
    pub(crate) selected: Selected,
    /// Whether they are only counted.
    pub(crate) dry_run: bool,
}

impl RedriveIn {
    /// The same in domain words.
    pub(crate) fn parse(self) -> Result<Meant, Error> {
        let tenant = id("tenant_id", &self.tenant_id)?;
        let filter = filter(
            self.topic,
            self.room_id.as_deref(),
            self.older_than.as_deref(),
            self.newer_than.as_deref(),
        )?;
        let from = self.cursor.as_deref().map(cursor).transpose()?;
        let delivery = self.delivery_id.as_deref();
        let delivery = delivery.map(|delivery| id("delivery_id", delivery));
        let is_narrowed = filter != Filter::default();
        let all = self.all.unwrap_or_default();
        let selected = match delivery.transpose()? {
            Some(_) if from.is_some() || is_narrowed || all => {
                return Err(Error::invalid(
                    "delivery_id",
                    "Invalid delivery_id. Name nothing else beside it",
                ));
            }
            Some(delivery) => Selected::One(delivery),
            None if all && is_narrowed => {
                return Err(Error::invalid(
                    "all",
                    "Invalid all. Name no filter beside it",
                ));
            }
            None if !all && !is_narrowed => {
                return Err(Error::invalid(
                    "all",
                    "Missing all. Name a delivery_id or a filter, or send \"all\": true for all dead letters of the tenant",
                ));
            }
            None => Selected::All { filter, from },
        };
        Ok(Meant {
            tenant,
            selected,
            dry_run: self.dry_run.unwrap_or_default(),
        })
    }
}

/// The dead letters to list: those to which all parameters apply.
#[derive(Debug)]
pub(crate) struct Listed {
    /// The tenant whose dead letters are meant.
    pub(crate) tenant: TenantId,
    /// The letters that are meant.
    pub(crate) selected: Selected,
    /// Most of one page.
    pub(crate) limit: usize,
    /// The parameters of the next page.
    pub(crate) link: Vec<(&'static str, String)>,
}

impl Listed {
    /// Most dead letters of one page.
    const MAX: usize = 1_000;

    /// Reads the parameters.
    pub(crate) fn read(params: &Params) -> Result<Self, Error> {
        let tenant = params
            .get("tenant_id")?
            .ok_or(Error::invalid("tenant_id", "Missing tenant_id"))?;
        let tenant: TenantId = id("tenant_id", tenant)?;
        let limit = params.limit(Self::MAX)?;
        let from = params.cursor()?;
        let filter = filter(
            params.get("topic")?.map(str::to_owned),
            params.get("room_id")?,
            params.get("older_than")?,
            params.get("newer_than")?,
        )?;
        let delivery = params.get("delivery_id")?.map(|it| id("delivery_id", it));
        let mut link = vec![
            ("tenant_id", tenant.to_string()),
            ("limit", limit.to_string()),
        ];
        for name in ["topic", "room_id", "older_than", "newer_than"] {
            let value = params.get(name)?;
            link.extend(value.map(|value| (name, escaped(value))));
        }
        let selected = match delivery.transpose()? {
            Some(_) if from.is_some() || filter != Filter::default() => {
                return Err(Error::invalid(
                    "delivery_id",
                    "Invalid delivery_id. Name nothing else beside it",
                ));
            }
            Some(delivery) => Selected::One(delivery),
            None => Selected::All { filter, from },
        };
        Ok(Self {
            tenant,
            selected,
            limit,
            link,
        })
    }
}

/// A value for a link's query.
fn escaped(value: &str) -> String {
    utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
}

fn filter(
    topic: Option<String>,
    room: Option<&str>,
    older_than: Option<&str>,
    newer_than: Option<&str>,
) -> Result<Filter, Error> {
    Ok(Filter {
        topic: topic.map(Topic::parse).transpose()?,
        room: room.map(|room| id("room_id", room)).transpose()?,
        older_than: time("older_than", older_than)?,
        newer_than: time("newer_than", newer_than)?,
    })
}

fn id<T: FromStr>(field: &'static str, text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|_| Error::invalid(field, format!("Invalid {field}")))
}

fn time(field: &'static str, text: Option<&str>) -> Result<Option<Timestamp>, Error> {
    text.map(|text| Timestamp::parse(field, text)).transpose()
}

/// What became of dead letters that were to be tried again.
#[derive(Debug, Serialize, ToSchema)]
#[expect(
    clippy::struct_field_names,
    reason = "the fields are named by the contract"
)]
pub(crate) struct Redriven {
    /// How many are queued, or would be without `dry_run`.
    #[schema(example = 12)]
    redriven: usize,
    /// Whether there may be more: the same request with `cursor` goes on.
    #[schema(example = false)]
    more: bool,
    /// The `cursor` of that request.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl From<Swept> for Redriven {
    fn from(swept: Swept) -> Self {
        Self {
            redriven: swept.count,
            more: swept.next.is_some(),
            next_cursor: swept.next.as_ref().map(shown),
        }
    }
}

/// Which dead letters of a tenant are given up, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiscardIn {
    /// 1 to 256 bytes.
    #[schema(example = "The customer left", max_length = 256)]
    reason: String,
    #[schema(example = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    tenant_id: String,
    /// This one; nothing else may be named then.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "dlv_5f1c7c3e9a0b8d2f8e6d5c4b3a291807")]
    delivery_id: Option<String>,
    /// Notifications about this topic.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "order.shipped")]
    topic: Option<String>,
    /// What happened in this room.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "room_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    room_id: Option<String>,
    /// Last tried before this time.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "2025-12-13T12:00:00Z", format = "date-time")]
    older_than: Option<String>,
    /// Last tried after this time.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "2025-12-12T12:00:00Z", format = "date-time")]
    newer_than: Option<String>,
    /// `true` for all dead letters of the tenant; nothing else may be named then.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = false)]
    all: Option<bool>,
    /// `true` to count them and change nothing.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = false)]
    dry_run: Option<bool>,
    /// `next_cursor` of the answer before, to go on from there with all else as it was.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(max_length = 512)]
    cursor: Option<String>,
}

impl DiscardIn {
    /// The same in domain words.
    pub(crate) fn parse(self) -> Result<(Meant, Reason), Error> {
        let reason = Reason::parse(self.reason)?;
        // Not flattened: serde would not say which field it could not read.
        let which = RedriveIn {
            tenant_id: self.tenant_id,
            delivery_id: self.delivery_id,
            topic: self.topic,
            room_id: self.room_id,
            older_than: self.older_than,
            newer_than: self.newer_than,
            all: self.all,
            dry_run: self.dry_run,
            cursor: self.cursor,
        };
        Ok((which.parse()?, reason))
    }
}

/// What became of dead letters that were to be given up.
#[derive(Debug, Serialize, ToSchema)]
#[expect(
    clippy::struct_field_names,
    reason = "the fields are named by the contract"
)]
pub(crate) struct Discarded {
    /// How many are given up, or would be without `dry_run`.
    #[schema(example = 12)]
    discarded: usize,
    /// Whether there may be more: the same request with `cursor` goes on.
    #[schema(example = false)]
    more: bool,
    /// The `cursor` of that request.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl From<Swept> for Discarded {
    fn from(swept: Swept) -> Self {
        Self {
            discarded: swept.count,
            more: swept.next.is_some(),
            next_cursor: swept.next.as_ref().map(shown),
        }
    }
}
