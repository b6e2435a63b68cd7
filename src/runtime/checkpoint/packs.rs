//! Packs of pages, stored for good and kept at hand.

use std::{io, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::spawn_blocking;

use super::{
    format::{Identity, PAGE},
    layers::{Layers, Named},
    pack::Pack,
};

/// Bytes of packs to keep at hand, in files that have no name. What is beyond is read from the store again when it is needed.
const MAX_BYTES: u64 = 16 << 30;
/// A pack that no run has needed for so long makes room.
const KEEP_FOR: std::time::Duration = std::time::Duration::from_secs(3600);
/// Packs that are read at a time.
const AT_ONCE: usize = 2;

/// Where packs are stored, under the blake3 digest of their bytes.
#[async_trait]
pub trait PackStore: Send + Sync {
    /// Stores a pack, and returns when it is durable.
    ///
    /// # Errors
    /// If it cannot be stored now.
    async fn put(&self, digest: [u8; 32], pack: Bytes) -> anyhow::Result<()>;

    /// The pack of this digest.
    ///
    /// # Errors
    /// [`PackError`].
    async fn get(&self, digest: [u8; 32]) -> Result<Bytes, PackError>;
}

/// Why a pack cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It is gone or damaged, and will be the next time.
    #[error("{0}")]
    Lost(String),
    /// Not now.
    #[error("{0:#}")]
    Unavailable(anyhow::Error),
}

/// The packs of one process.
pub struct Packs {
    folder: PathBuf,
    store: Arc<dyn PackStore>,
    at_hand: moka::sync::Cache<[u8; 32], Arc<Named>>,
}

impl Packs {
    /// None yet, and their files in this folder, which is made if it is not there.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn new(folder: PathBuf, store: Arc<dyn PackStore>) -> io::Result<Packs> {
        std::fs::create_dir_all(&folder)?;
        let weigh = |_: &[u8; 32], pack: &Arc<Named>| pack.pack.pages();
        let at_hand =
            moka::sync::Cache::builder().max_capacity(MAX_BYTES / PAGE as u64).weigher(weigh).time_to_idle(KEEP_FOR).build();
        Ok(Packs { folder, store, at_hand })
    }

    /// Where files of packs are made.
    pub fn folder(&self) -> &PathBuf {
        &self.folder
    }

    /// The packs of a run, the lowest first.
    ///
    /// # Errors
    /// If one of them cannot be had.
    pub async fn load(&self, digests: &[[u8; 32]], identity: Identity) -> Result<Layers, PackError> {
        let load = |digest: [u8; 32]| self.one(digest, identity);
        let packs: Vec<Arc<Named>> = stream::iter(digests.iter().copied()).map(load).buffered(AT_ONCE).try_collect().await?;
        let mut layers = Layers::default();
        packs.into_iter().for_each(|pack| layers.add(pack));
        Ok(layers)
    }

    async fn one(&self, digest: [u8; 32], identity: Identity) -> Result<Arc<Named>, PackError> {
        if let Some(found) = self.at_hand.get(&digest) {
            return Ok(found);
        }
        let stored = self.store.get(digest).await?;
        let folder = self.folder.clone();
        let opened = spawn_blocking(move || Pack::open(&folder, &stored, identity)).await;
        match opened.map_err(|error| PackError::Unavailable(error.into()))? {
            Ok(pack) => Ok(self.keep(digest, pack)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(PackError::Lost(error.to_string())),
            Err(error) => Err(PackError::Unavailable(error.into())),
        }
    }

    /// Stores new packs, and lays them on the others.
    ///
    /// # Errors
    /// If one of them cannot be stored.
    pub async fn store(&self, new: Vec<Pack>, layers: &mut Layers, identity: Identity) -> anyhow::Result<()> {
        for pack in new {
            let sealed = spawn_blocking(move || pack.seal(identity).map(|bytes| (pack, bytes))).await?;
            let (pack, bytes) = sealed?;
            let digest = *blake3::hash(&bytes).as_bytes();
            self.store.put(digest, bytes.into()).await?;
            layers.add(self.keep(digest, pack));
        }
        Ok(())
    }

    fn keep(&self, digest: [u8; 32], pack: Pack) -> Arc<Named> {
        let pack = Arc::new(Named { digest, pack });
        self.at_hand.insert(digest, pack.clone());
        pack
    }
}
