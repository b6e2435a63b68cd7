//! Pages of large memories among the blobs.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    blobs::{Area, Blobs, Error},
    runtime::{PackError, PackStore},
};

#[async_trait]
impl PackStore for Blobs {
    async fn put(&self, pack: Bytes) -> anyhow::Result<[u8; 32]> {
        let name = self.put(Area::Pages, pack).await?;
        Ok(hex::FromHex::from_hex(name)?)
    }

    async fn get(&self, digest: [u8; 32]) -> Result<Bytes, PackError> {
        match self.get(Area::Pages, &hex::encode(digest)).await {
            Ok(pack) => Ok(pack),
            Err(error @ Error::Unavailable(_)) => Err(PackError::Unavailable(error.into())),
            Err(error) => Err(PackError::Lost(error.to_string())),
        }
    }
}
