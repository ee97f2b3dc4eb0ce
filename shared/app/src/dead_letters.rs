//! Deliveries that failed for good.

use super::{App, Selected};
use crate::domain::{
    Auditor, Error, Page, TenantId,
    delivery::{Delivery, State},
};

impl App {
    /// Those of a tenant's dead letters that are `selected`, newest first. A page may hold fewer than `limit`, or none,
    /// and still lead on.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such tenant.
    pub async fn dead_letters(
        &self,
        auditor: &Auditor,
        tenant: TenantId,
        selected: &Selected,
        limit: usize,
    ) -> Result<Page<Delivery>, Error> {
        self.audits(auditor, tenant).await?;
        let deliveries = &self.stores().deliveries;
        match selected {
            Selected::One(id) => {
                let row = deliveries.get(tenant, *id).await?;
                let letter = row.map(|row| row.delivery);
                let letter = letter.filter(|letter| matches!(letter.state, State::Dead { .. }));
                Ok(Page {
                    items: letter.into_iter().collect(),
                    next: None,
                })
            }
            Selected::All { filter, from } => {
                deliveries.dead(tenant, filter, limit, from.as_ref()).await
            }
        }
    }

    /// Refuses `tenant` unless there is one, and `auditor` may see its failures.
    pub(super) async fn audits(&self, auditor: &Auditor, tenant: TenantId) -> Result<(), Error> {
        auditor.may_read(tenant)?;
        match auditor {
            // Its key was found, and so was the tenant.
            Auditor::Tenant(_) => Ok(()),
            Auditor::Operator(operator) => self.tenant(operator, tenant).await.map(drop),
        }
    }
}
