//! A team's keys: their making, rotation and end, by the operator or by the tenant's server.

use super::App;
use crate::{
    domain::{
        ApiKeyId, Error, Moment, Observer, Once, Page, TenantId,
        api_key::{Key, KeyText, NewKey},
        page::Slice,
    },
    store::{
        Backoff,
        api_keys::{Making, TextRotation},
        guards::Claim,
    },
};

const NO_KEY: Error = Error::NotFound("API key");
const TOO_MANY: Error = Error::Conflict("A tenant has at most 100 API keys. Revoke one first");
const EXPIRED: Error = Error::Conflict("The key has expired. Create another one");

impl App {
    /// Makes the key `new` of `tenant`, whose text is `text`. It holds at once.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a tenant that is not the keeper's; [`Error::Conflict`] if the tenant has as many as it may
    /// have, or for a repeated request.
    pub async fn create_api_key(
        &self,
        keeper: &Observer,
        tenant: TenantId,
        new: NewKey,
        text: &KeyText,
        once: Option<&Once>,
        moment: &Moment,
    ) -> Result<Key, Error> {
        keeper.may_keep_keys_of(tenant)?;
        let key = Key::new(ApiKeyId::at(moment), tenant, new, text, moment.now);
        let claim = self.key_claim(keeper, tenant, "create_api_key", once, moment);
        let stores = self.stores();
        let mut race = Backoff::until(moment.deadline, moment.seed);
        loop {
            let made = stores
                .api_keys
                .create(&stores.keys, &key, claim.as_ref(), &mut race)
                .await?;
            match made {
                Making::Made => return Ok(key),
                Making::Full => self.make_room(tenant, moment, &mut race).await?,
            }
        }
    }

    /// Removes the keys of `tenant` that have expired.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if there is none: each takes part in the limit until then.
    async fn make_room(
        &self,
        tenant: TenantId,
        moment: &Moment,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let stores = self.stores();
        let mut expired = stores.api_keys.all(tenant).await?;
        expired.retain(|key| key.is_expired(moment.now));
        if expired.is_empty() {
            return Err(TOO_MANY);
        }
        for key in &expired {
            // One that somebody else has removed meanwhile makes room too.
            stores
                .api_keys
                .delete_as_read(&stores.keys, key, race)
                .await?;
        }
        Ok(())
    }

    /// The tenant's keys, oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a tenant that is not the keeper's.
    pub async fn api_keys(
        &self,
        keeper: &Observer,
        tenant: TenantId,
        slice: &Slice,
    ) -> Result<Page<Key>, Error> {
        keeper.may_keep_keys_of(tenant)?;
        match keeper {
            Observer::Operator(operator) => {
                self.tenant(operator, tenant).await?;
            }
            // Its key would not have let it in.
            Observer::Tenant(_) => {}
        }
        self.stores().api_keys.list(tenant, slice).await
    }

    /// Gives a key a new text, made of `entropy`. The one before it holds for `overlap` seconds more: none, if it leaked. One
    /// from before that, which a rotation shortly before has left to hold, ends. Warm functions follow within a minute,
    /// this process at once.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such key; [`Error::Conflict`] if it has expired, was rotated or revoked
    /// meanwhile, or for a repeated request.
    pub async fn rotate_api_key(
        &self,
        keeper: &Observer,
        (tenant, id): (TenantId, ApiKeyId),
        entropy: [u8; 32],
        overlap: u32,
        once: Option<&Once>,
        moment: &Moment,
    ) -> Result<(Key, KeyText), Error> {
        keeper.may_keep_keys_of(tenant)?;
        let key = self.stores().api_keys.get(tenant, id).await?;
        let key = key.ok_or(NO_KEY)?;
        if key.is_expired(moment.now) {
            return Err(EXPIRED);
        }
        let end = moment.now.plus_seconds(overlap.into());
        let end = key.expires_at.map_or(end, |expires_at| end.min(expires_at));
        let text = KeyText::from_entropy(key.opens.kind(), entropy);
        let rotation = TextRotation {
            text: &text,
            at: moment.now,
            overlap_ends: (overlap > 0).then_some(end),
        };
        let claim = self.key_claim(keeper, tenant, "rotate_api_key", once, moment);
        let stores = self.stores();
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let rotated = stores
            .api_keys
            .rotate(&stores.keys, &key, &rotation, claim.as_ref(), &mut race)
            .await;
        self.0.team_sessions.forget(tenant);
        Ok((rotated?, text))
    }

    /// Ends a key with all its texts. Warm functions follow within a minute, this process at once.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such key, or no such tenant for the keeper.
    pub async fn revoke_api_key(
        &self,
        keeper: &Observer,
        tenant: TenantId,
        id: ApiKeyId,
        moment: &Moment,
    ) -> Result<(), Error> {
        keeper.may_keep_keys_of(tenant)?;
        let stores = self.stores();
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let removed = stores
            .api_keys
            .delete(&stores.keys, tenant, id, &mut race)
            .await;
        self.0.team_sessions.forget(tenant);
        if removed? { Ok(()) } else { Err(NO_KEY) }
    }

    /// Notes that a key is used, about once an hour. A request never fails by it.
    pub(super) async fn note_use(&self, tenant: TenantId, key: ApiKeyId, moment: &Moment) {
        let store = &self.stores().api_keys;
        let write = async |race: &mut Backoff| store.note_use(tenant, key, moment.now, race).await;
        self.0.uses.note((tenant, key), moment, write).await;
    }

    /// The claim of `once` for `operation`: the operator and the tenant do not take each other's keys.
    fn key_claim(
        &self,
        keeper: &Observer,
        tenant: TenantId,
        operation: &'static str,
        once: Option<&Once>,
        moment: &Moment,
    ) -> Option<Claim> {
        let guards = &self.stores().guards;
        once.map(|once| match keeper {
            Observer::Operator(_) => guards.operator_claim(operation, once, moment.now),
            Observer::Tenant(_) => guards.tenant_claim(tenant, operation, once, moment.now),
        })
    }
}
