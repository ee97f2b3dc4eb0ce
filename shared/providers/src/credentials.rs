//! Credentials that AWS does not accept are read anew, once, and the call is tried again.
//!
//! The SDK keeps credentials until the end they were given with, and takes its time over those without one. A
//! token that was revoked, or replaced before that end, would fail every call until then. (A clock that is
//! wrong needs nothing of ours: the SDK signs with the time it sees in the answer, and tries again.)

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_config::identity::IdentityCache;
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        identity::{
            IdentityFuture, ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver,
        },
        interceptors::{
            Intercept,
            context::{
                BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
                InterceptorContext,
            },
        },
        retries::classifiers::{ClassifyRetry, RetryAction, RetryClassifierPriority},
        runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
    },
};
use aws_smithy_types::{
    config_bag::{ConfigBag, Storable, StoreReplace},
    retry::ErrorKind,
};
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
    generation: Generation,
    renewed: Option<Instant>,
}

/// How often credentials were read anew before those that a try was signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Generation(u64);

impl Storable for Generation {
    type Storer = StoreReplace<Self>;
}

impl Renewal {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            cache: fresh(),
            generation: Generation(0),
            renewed: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the credentials of `refused`. Whether there are others to try: not if these were read just now.
    fn renew(&self, refused: Generation) -> bool {
        let mut state = self.state();
        if state.generation != refused {
            return true;
        }
        if state.renewed.is_some_and(|at| at.elapsed() < PAUSE) {
            return false;
        }
        state.cache = fresh();
        state.generation = Generation(refused.0 + 1);
        state.renewed = Some(Instant::now());
        true
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
        let cache = self.state().cache.clone();
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
        let cache = self.state().cache.clone();
        ResolveCachedIdentity::validate_base_client_config(&cache, components, config)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        let cache = self.state().cache.clone();
        ResolveCachedIdentity::validate_final_config(&cache, components, config)
    }
}

/// Tells the classifier what a try was signed with.
impl Intercept for Renewal {
    fn name(&self) -> &'static str {
        "Renewal"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let generation = self.state().generation;
        config.interceptor_state().store_put(generation);
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(generation) = config.load::<Generation>() {
            context.response_mut().add_extension(*generation);
        }
        Ok(())
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

    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match refused(context) {
            // Waiting would mend nothing.
            Some(generation) if self.renew(generation) => {
                RetryAction::retryable_error_with_explicit_delay(
                    ErrorKind::ServerError,
                    Duration::ZERO,
                )
            }
            Some(_) | None => RetryAction::NoActionIndicated,
        }
    }
}

/// The body of an error, as AWS's JSON protocols write it.
#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(rename = "__type")]
    kind: &'a str,
}

/// The credentials that AWS refused, if that is what it did.
fn refused(context: &InterceptorContext) -> Option<Generation> {
    let answer = context.response()?;
    if !answer.status().is_client_error() {
        return None;
    }
    let Refusal { kind } = serde_json::from_slice(answer.body().bytes()?).ok()?;
    let code = kind.rsplit('#').next()?;
    REFUSALS
        .contains(&code)
        .then(|| answer.extension::<Generation>().copied())?
}
