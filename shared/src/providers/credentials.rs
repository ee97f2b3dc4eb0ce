//! Credentials that AWS does not accept are read anew, once, and the call is tried again.
//!
//! The SDK keeps credentials until the end they were given with, and takes its time over those without one. A
//! token that was revoked, or replaced before that end, would fail every call until then. (A clock that is
//! wrong needs nothing of ours: the SDK signs with the time it sees in the answer, and tries again.)

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_config::identity::IdentityCache;
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        identity::{
            IdentityFuture, ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver,
        },
        interceptors::context::InterceptorContext,
        retries::classifiers::{ClassifyRetry, RetryAction, RetryClassifierPriority},
        runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
    },
};
use aws_smithy_types::{config_bag::ConfigBag, retry::ErrorKind};
use serde::Deserialize;

/// For how long credentials are not read anew again. An instance's role, a container's and a file give the
/// new ones at once or not for a while.
const PAUSE: Duration = Duration::from_secs(5);

/// What AWS says of credentials that it does not, or no longer, accept.
const REFUSALS: [&str; 4] = [
    "ExpiredTokenException",
    "ExpiredToken",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
];

/// The credentials that clients share.
#[derive(Debug, Clone)]
pub(super) struct Renewal(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    cache: SharedIdentityCache,
    renewed: Option<Instant>,
}

impl Renewal {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            cache: fresh(),
            renewed: None,
        })))
    }

    fn cache(&self) -> SharedIdentityCache {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.cache.clone()
    }

    /// Forgets the credentials, unless that was done just now.
    fn renew(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.renewed.is_none_or(|at| at.elapsed() >= PAUSE) {
            state.cache = fresh();
            state.renewed = Some(Instant::now());
        }
    }
}

fn fresh() -> SharedIdentityCache {
    IdentityCache::lazy().build()
}

impl ResolveCachedIdentity for Renewal {
    fn resolve_cached_identity<'a>(
        &'a self,
        resolver: SharedIdentityResolver,
        components: &'a RuntimeComponents,
        config: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        let cache = self.cache();
        IdentityFuture::new(async move {
            cache
                .resolve_cached_identity(resolver, components, config)
                .await
        })
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        ResolveCachedIdentity::validate_base_client_config(&self.cache(), components, config)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        ResolveCachedIdentity::validate_final_config(&self.cache(), components, config)
    }
}

impl ClassifyRetry for Renewal {
    fn name(&self) -> &'static str {
        "Renewal"
    }

    fn priority(&self) -> RetryClassifierPriority {
        // Nobody else has an opinion on these.
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }

    /// The tries of one call are few: the SDK's own bound.
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        if !is_refused(context) {
            return RetryAction::NoActionIndicated;
        }
        self.renew();
        // Waiting would mend nothing.
        RetryAction::retryable_error_with_explicit_delay(ErrorKind::ServerError, Duration::ZERO)
    }
}

/// The body of an error, as AWS's JSON protocols write it.
#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(rename = "__type")]
    kind: &'a str,
}

fn is_refused(context: &InterceptorContext) -> bool {
    let Some(answer) = context.response() else {
        return false;
    };
    if !answer.status().is_client_error() {
        return false;
    }
    let body = answer.body().bytes().unwrap_or_default();
    serde_json::from_slice(body).is_ok_and(|Refusal { kind }| {
        let code = kind.rsplit('#').next().unwrap_or_default();
        REFUSALS.contains(&code)
    })
}
