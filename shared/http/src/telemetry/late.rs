//! The line of a request whose answer goes on after its head: it is written when all work on the answer is over.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::http::StatusCode;

use super::{CURRENT, Ids, request::Observed};
use crate::{
    domain::{Error, TenantId},
    store::usage::Usage,
};

/// A request whose work goes on beyond its handler: in another task, or while its answer is shown.
///
/// Whoever works on it holds a clone, and one is put into the response's extensions. The line is written when the last of
/// them is gone, and counts what all of them called.
#[derive(Debug, Clone)]
pub struct Late(Arc<Going>);

#[derive(Debug)]
struct Going {
    ids: Option<Arc<Ids>>,
    usage: Option<Arc<Usage>>,
    /// The line, once the answer's head is known.
    begun: Mutex<Option<Begun>>,
    failed: OnceLock<(StatusCode, Error)>,
}

/// What the line will show.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) observed: Observed,
    pub(crate) surface: &'static str,
    pub(crate) tenant: Option<TenantId>,
    /// The status that the client was told.
    pub(crate) status: StatusCode,
}

impl Late {
    /// The request that is served here.
    pub fn here() -> Self {
        Self(Arc::new(Going {
            ids: CURRENT.try_with(Arc::clone).ok(),
            usage: Usage::here(),
            begun: Mutex::default(),
            failed: OnceLock::new(),
        }))
    }

    /// Does `work` in the course of this request: its lines carry the request's ids, its calls are counted.
    pub async fn within<F: Future>(self, work: F) -> F::Output {
        let counted = async {
            match &self.0.usage {
                Some(usage) => usage.of(work).await,
                None => work.await,
            }
        };
        match &self.0.ids {
            Some(ids) => CURRENT.scope(Arc::clone(ids), counted).await,
            None => counted.await,
        }
    }

    /// Notes that the answer failed after it had begun, because of `error`, which would have been `status`. The first one
    /// is shown.
    pub fn fails_with(&self, status: StatusCode, error: Error) {
        let _ = self.0.failed.set((status, error));
    }

    /// Leaves the line to be written at the end.
    pub(crate) fn leave(&self, begun: Begun) {
        let mut slot = self.0.begun.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(begun);
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let begun = self.begun.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(begun) = begun.take() {
            let failed = self.failed.get();
            let failed = failed.map(|(status, error)| (*status, error));
            begun
                .observed
                .end_late(begun.surface, begun.tenant, begun.status, failed);
        }
    }
}
