//! Keys and environments that requests have named just now, so that not every request asks the database who asks.
//!
//! What is known is forgotten after a second, and when this process revokes or rotates a key: so long a key may go on to open its
//! environment. What opens nothing by what is known is looked up anew, so a new key is good at once, and so is what it signs.

use std::time::Duration;

use moka::sync::Cache;

use super::{Error, auth::KeyHolder};
use crate::{
    model::{environment::Environment, id::EnvironmentId},
    store::{
        Store,
        api_keys::{self, Fingerprint},
        environments,
    },
};

/// Keys and environments that are remembered.
const MOST: u64 = 10_000;

/// What is known. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Known {
    holders: Cache<Fingerprint, KeyHolder>,
    environments: Cache<EnvironmentId, Environment>,
}

impl Known {
    /// Remembers for so long.
    pub(super) fn new(span: Duration) -> Known {
        Known {
            holders: Cache::builder().max_capacity(MOST).time_to_live(span).build(),
            environments: Cache::builder().max_capacity(MOST).time_to_live(span).build(),
        }
    }

    /// Who holds this key; none if it opens nothing, which is not remembered.
    pub(super) async fn holder(&self, store: &Store, secret: &str) -> Result<Option<KeyHolder>, Error> {
        let fingerprint = api_keys::fingerprint(secret);
        if let Some(holder) = self.holders.get(&fingerprint) {
            return Ok(Some(holder));
        }
        let Some((environment, key)) = api_keys::by_fingerprint(store, &fingerprint).await? else { return Ok(None) };
        // Not what is known of it: that may be from before this key.
        let Some(environment) = self.look_up(store, environment).await? else { return Ok(None) };
        let holder = KeyHolder { environment, key };
        self.holders.insert(fingerprint, holder.clone());
        Ok(Some(holder))
    }

    /// The environment with this id, if it is known.
    pub(super) fn environment(&self, id: EnvironmentId) -> Option<Environment> {
        self.environments.get(&id)
    }

    /// The environment with this id, as it is now.
    pub(super) async fn look_up(&self, store: &Store, id: EnvironmentId) -> Result<Option<Environment>, Error> {
        let found = environments::get(store, id).await?;
        if let Some(environment) = &found {
            self.environments.insert(id, environment.clone());
        }
        Ok(found)
    }

    /// Forgets everything: a key means something else now.
    pub(super) fn forget(&self) {
        self.holders.invalidate_all();
        self.environments.invalidate_all();
    }
}
