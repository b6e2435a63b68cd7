//! Packs of pages, stored for good and kept at hand.

use std::{io, ops::Range, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::spawn_blocking;

use super::{
    format::{self, Identity, PAGE},
    layers::{Layers, Named},
    pack::Pack,
};

/// Bytes of packs to keep at hand, in files that have no name; and no more than a tenth of their file system. What is beyond is read from
/// the store again when it is needed.
const MAX_BYTES: u64 = 16 << 30;
/// Packs to keep at hand: each is an open file and a mapping.
const MAX_PACKS: u64 = 512;
/// A pack that no run has needed for so long makes room.
const KEEP_FOR: std::time::Duration = std::time::Duration::from_secs(3600);
/// Packs that are read at a time.
const AT_ONCE: usize = 2;

/// Where packs are stored, under the blake3 digest of their bytes.
#[async_trait]
pub trait PackStore: Send + Sync {
    /// Stores a pack, and returns its digest when it is durable.
    ///
    /// # Errors
    /// If it cannot be stored now.
    async fn put(&self, pack: Bytes) -> anyhow::Result<[u8; 32]>;

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
        let found = rustix::fs::statvfs(&folder)?;
        let most_pages = MAX_BYTES.min(found.f_blocks.saturating_mul(found.f_frsize) / 10) / PAGE as u64;
        let least = u32::try_from(most_pages / MAX_PACKS).unwrap_or(u32::MAX);
        let weigh = move |_: &[u8; 32], pack: &Arc<Named>| pack.pack.pages().max(least);
        let at_hand = moka::sync::Cache::builder().max_capacity(most_pages).weigher(weigh).time_to_idle(KEEP_FOR).build();
        Ok(Packs { folder, store, at_hand })
    }

    /// A pack of these pages of a memory, in a file, and not yet stored.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, memory: u32, bytes: &[u8], ranges: Vec<Range<u32>>) -> io::Result<Pack> {
        self.with_room(|| Pack::write(&self.folder, memory, bytes, ranges.clone()))
    }

    /// Forgets a pack that nobody needs any more.
    pub fn forget(&self, digest: &[u8; 32]) {
        self.at_hand.invalidate(digest);
    }

    /// On a full disk, what is only at hand makes room.
    fn with_room<T>(&self, write: impl Fn() -> io::Result<T>) -> io::Result<T> {
        write().or_else(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.at_hand.invalidate_all();
                self.at_hand.run_pending_tasks();
                write()
            }
            _ => Err(error),
        })
    }

    /// The packs of a run, the lowest first.
    ///
    /// # Errors
    /// If one of them cannot be had.
    pub async fn load(self: &Arc<Self>, digests: &[[u8; 32]], identity: Identity) -> Result<Layers, PackError> {
        let load = |digest: [u8; 32]| self.one(digest, identity);
        let packs: Vec<Arc<Named>> = stream::iter(digests.iter().copied()).map(load).buffered(AT_ONCE).try_collect().await?;
        let mut layers = Layers::default();
        packs.into_iter().for_each(|pack| layers.add(pack));
        Ok(layers)
    }

    async fn one(self: &Arc<Self>, digest: [u8; 32], identity: Identity) -> Result<Arc<Named>, PackError> {
        if let Some(found) = self.at_hand.get(&digest) {
            return Ok(found);
        }
        let stored = self.store.get(digest).await?;
        let packs = self.clone();
        let opened = spawn_blocking(move || packs.with_room(|| Pack::open(&packs.folder, &stored, identity))).await;
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
            let (pack, bytes) = spawn_blocking(move || pack.seal(identity).map(|bytes| (pack, bytes))).await??;
            let digest = self.store.put(bytes.into()).await?;
            layers.add(self.keep(digest, pack));
        }
        anyhow::ensure!(layers.packs().len() <= format::MAX_PACKS, "the run's memory lies in too many packs");
        Ok(())
    }

    fn keep(&self, digest: [u8; 32], pack: Pack) -> Arc<Named> {
        let pack = Arc::new(Named { digest, pack });
        self.at_hand.insert(digest, pack.clone());
        pack
    }
}
