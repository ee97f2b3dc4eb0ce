//! The operator's key, in `X-Master-Key`; alone, or where a tenant's key may do the same for its own tenant.

use axum::http::HeaderMap;

use super::{Credential, TenantServer, TenantUser};
use crate::{
    app::App,
    domain::{Auditor, Error, Observer, Operator, rate::Charge},
    request::{Request, single},
};

/// The operator.
#[derive(Debug)]
pub struct MasterKey;

/// The operator, or a tenant's server looking at its own failures.
#[derive(Debug)]
pub struct MasterKeyOrUser;

/// The operator, or a tenant's server looking at how its own things stand: no user is named.
#[derive(Debug)]
pub struct MasterKeyOrServer;

const HEADER: &str = "x-master-key";
const TWO_MASTER_KEYS: &str = "Send X-Master-Key once";

impl Credential for MasterKey {
    type Proof = Operator;

    /// The key is compared before anything is charged: whatever others send from the same address, the right one opens. A
    /// wrong one is charged to the address as any request that proves invalid.
    async fn authenticate(
        app: &App,
        headers: &HeaderMap,
        request: &Request,
    ) -> Result<Operator, Error> {
        let key = single(headers, HEADER, TWO_MASTER_KEYS)?;
        let operator = app.operator(key, &request.moment).await?;
        let (quota, verdict) =
            app.charge_address(Charge::Operator, request.address, &request.moment);
        request.pays(quota);
        verdict?;
        Ok(operator)
    }
}

impl Credential for MasterKeyOrUser {
    type Proof = Auditor;

    async fn authenticate(
        app: &App,
        headers: &HeaderMap,
        request: &Request,
    ) -> Result<Auditor, Error> {
        if headers.contains_key(HEADER) {
            let operator = MasterKey::authenticate(app, headers, request).await?;
            Ok(Auditor::Operator(operator))
        } else {
            let actor = TenantUser::authenticate(app, headers, request).await?;
            Ok(Auditor::Tenant(actor))
        }
    }
}

impl Credential for MasterKeyOrServer {
    type Proof = Observer;

    async fn authenticate(
        app: &App,
        headers: &HeaderMap,
        request: &Request,
    ) -> Result<Observer, Error> {
        if headers.contains_key(HEADER) {
            let operator = MasterKey::authenticate(app, headers, request).await?;
            Ok(Observer::Operator(operator))
        } else {
            let key = TenantServer::authenticate(app, headers, request).await?;
            Ok(Observer::Tenant(key))
        }
    }
}
