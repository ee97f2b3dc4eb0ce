//! Deliveries that failed for good.

use super::App;
use crate::domain::{Auditor, Cursor, Error, Page, TenantId, delivery::Delivery};

impl App {
    /// A tenant's dead letters, newest first.
    pub async fn dead_letters(
        &self,
        auditor: &Auditor,
        tenant: TenantId,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page<Delivery>, Error> {
        auditor.may_read(tenant)?;
        self.stores().deliveries.dead(tenant, limit, after).await
    }
}
