//! What models were used for, and how much of it a tenant may use.

use super::App;
use crate::domain::{
    Cursor, Error, Moment, Observer, Page, TenantId,
    model_usage::{Day, Month, UsageLine},
};

const NO_TENANT: Error = Error::NotFound("Tenant");

impl App {
    /// Refuses a tenant that has used the tokens of `cap` in this month. What is being answered meanwhile may pass
    /// over the cap by its own tokens. One query, none without a cap.
    ///
    /// # Errors
    ///
    /// [`Error::TokensUsedUp`] until the next month begins.
    pub async fn check_token_cap(
        &self,
        tenant: TenantId,
        cap: Option<u64>,
        moment: &Moment,
    ) -> Result<(), Error> {
        let Some(cap) = cap else {
            return Ok(());
        };
        let usage = &self.stores().model_usage;
        let used = usage.tokens_in_month(tenant, moment.now).await?;
        if used < cap {
            return Ok(());
        }
        let resets_at = Month::of(moment.now).end();
        let wait = resets_at.seconds() - moment.now.seconds();
        Err(Error::TokensUsedUp {
            cap,
            resets_at,
            retry_after: u64::try_from(wait).unwrap_or_default().max(1),
        })
    }

    /// What `tenant` used from the first to the last of `days`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a tenant that is not there, or not the caller's own.
    pub async fn model_usage(
        &self,
        observer: &Observer,
        tenant: TenantId,
        days: (Day, Day),
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page<UsageLine>, Error> {
        match observer {
            Observer::Operator(operator) => drop(self.tenant(operator, tenant).await?),
            Observer::Tenant(key) if key.tenant() == tenant => {}
            Observer::Tenant(_) => return Err(NO_TENANT),
        }
        let usage = &self.stores().model_usage;
        usage.lines(tenant, days, limit, after).await
    }
}
