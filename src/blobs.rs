//! Bytes too large for a row: components, as uploaded and as rewritten, large checkpoints and large payloads, each named by the blake3 digest of its content.
//!
//! A blob is written before the row that names it, and it is durable when [`Blobs::put`] returns (files are synced), so a row
//! never points at nothing. A crash between the two leaves an orphan, which the sweep in `reconcile` deletes. The same bytes
//! twice are one blob. What is read is checked against its name, so a damaged file is an error and never a wrong value.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, aws::AmazonS3Builder, local::LocalFileSystem, path::Path as Key};

/// Bytes that are hashed where they are: a fraction of a millisecond.
const HASHED_AT_ONCE: usize = 1 << 20;

/// What a blob holds; each area is a folder of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// Components as they were uploaded.
    Components,
    /// Components as they were made suspendable.
    Rewritten,
    /// Snapshots of suspended runs that are too large for their checkpoint's row.
    Checkpoints,
    /// Files of suspended runs.
    Files,
    /// Pages of large memories of suspended runs.
    Pages,
    /// Payloads that clients put here before they trigger.
    Packets,
}

impl Area {
    /// Every area.
    pub const ALL: [Area; 6] = [Self::Components, Self::Rewritten, Self::Checkpoints, Self::Files, Self::Pages, Self::Packets];

    const fn folder(self) -> &'static str {
        match self {
            Self::Components => "components",
            Self::Rewritten => "rewritten",
            Self::Checkpoints => "checkpoints",
            Self::Files => "files",
            Self::Pages => "pages",
            Self::Packets => "packets",
        }
    }
}

/// Why a blob could not be stored or had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is stored under that digest.
    #[error("there is no blob {0}")]
    NotFound(String),
    /// The bytes under that digest are not the ones that were stored.
    #[error("blob {0} is damaged: its content does not match its name")]
    Damaged(String),
    /// The store is full, away or misconfigured; asking again later may help.
    #[error("the blob store cannot be used")]
    Unavailable(#[source] object_store::Error),
}

/// A content-addressed store: a local folder, or a bucket that speaks S3.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
}

impl Blobs {
    /// Opens `s3://bucket` (credentials from the usual `AWS_…` variables), or a local folder, which is made if need be.
    ///
    /// # Errors
    /// The folder cannot be made or written, or the bucket's configuration is incomplete.
    pub fn open(location: &str) -> anyhow::Result<Blobs> {
        use anyhow::Context as _;
        let store: Arc<dyn ObjectStore> = if location.starts_with("s3://") {
            let bucket = AmazonS3Builder::from_env().with_url(location).build();
            Arc::new(bucket.with_context(|| format!("configuring the blob store {location}"))?)
        } else {
            let folder = Path::new(location.strip_prefix("file://").unwrap_or(location));
            std::fs::create_dir_all(folder).with_context(|| format!("making the blob folder {}", folder.display()))?;
            make_folders(folder).with_context(|| format!("making folders in {}", folder.display()))?;
            let local = LocalFileSystem::new_with_prefix(folder)
                .with_context(|| format!("opening the blob folder {}", folder.display()))?;
            Arc::new(local.with_fsync(true))
        };
        Ok(Blobs { store })
    }

    /// The name that these bytes have or would have: lower-case hex of their blake3 digest.
    pub fn digest(bytes: &[u8]) -> String {
        blake3::hash(bytes).to_hex().to_string()
    }

    /// Stores the bytes and returns their digest once they are durable.
    ///
    /// # Errors
    /// [`Error::Unavailable`], a full disk among the reasons.
    pub async fn put(&self, area: Area, bytes: Bytes) -> Result<String, Error> {
        let digest = digest_of(bytes.clone()).await;
        let key = key(area, &digest);
        self.store.put(&key, PutPayload::from_bytes(bytes)).await.map_err(Error::Unavailable)?;
        Ok(digest)
    }

    /// The bytes with this digest.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`] or [`Error::Unavailable`].
    pub async fn get(&self, area: Area, digest: &str) -> Result<Bytes, Error> {
        let found = match self.store.get(&key(area, digest)).await {
            Ok(found) => found.bytes().await.map_err(Error::Unavailable)?,
            Err(object_store::Error::NotFound { .. }) => return Err(Error::NotFound(digest.into())),
            Err(error) => return Err(Error::Unavailable(error)),
        };
        if digest_of(found.clone()).await != digest {
            return Err(Error::Damaged(digest.into()));
        }
        Ok(found)
    }

    /// Digests of the blobs of an area that were stored before `before`.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn stored_before(&self, area: Area, before: DateTime<Utc>) -> Result<Vec<String>, Error> {
        let all = self.store.list(Some(&Key::from(area.folder())));
        let old = all.try_filter(|blob| std::future::ready(blob.last_modified < before));
        old.map_ok(|blob| blob.location.filename().unwrap_or_default().to_owned()).try_collect().await.map_err(Error::Unavailable)
    }

    /// Forgets the bytes with this digest; none there is no error.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn delete(&self, area: Area, digest: &str) -> Result<(), Error> {
        match self.store.delete(&key(area, digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::Unavailable(error)),
        }
    }
}

/// The digest of what may be large enough to keep other tasks waiting meanwhile.
async fn digest_of(bytes: Bytes) -> String {
    if bytes.len() <= HASHED_AT_ONCE {
        return Blobs::digest(&bytes);
    }
    tokio::task::spawn_blocking(move || Blobs::digest(&bytes)).await.expect("hashing does not panic")
}

/// Makes every folder that a blob can be in. Storing one then syncs its bytes and the folder that names it, which is what
/// durability takes; the folders' own names are synced here, once.
fn make_folders(root: &Path) -> io::Result<()> {
    for area in Area::ALL {
        let area = root.join(area.folder());
        let made = (0..=u8::MAX).map(|letters| make_folder(&area.join(format!("{letters:02x}"))));
        if make_folder(&area)? | made.collect::<io::Result<Vec<bool>>>()?.contains(&true) {
            File::open(&area)?.sync_all()?;
            File::open(root)?.sync_all()?;
        }
    }
    Ok(())
}

/// False: it was there.
fn make_folder(path: &Path) -> io::Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Two letters of the digest make a folder, so that no folder grows beyond what a file system likes.
fn key(area: Area, digest: &str) -> Key {
    Key::from_iter([area.folder(), &digest[..digest.len().min(2)], digest])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Blobs) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().to_str().unwrap()).unwrap();
        (folder, blobs)
    }

    #[tokio::test]
    async fn what_was_put_is_got_and_the_same_bytes_are_one_blob() {
        let (_folder, blobs) = folder();
        let first = blobs.put(Area::Checkpoints, Bytes::from_static(b"stack")).await.unwrap();
        let second = blobs.put(Area::Checkpoints, Bytes::from_static(b"stack")).await.unwrap();
        assert_eq!(first, second);
        assert_eq!(blobs.get(Area::Checkpoints, &first).await.unwrap(), Bytes::from_static(b"stack"));
        assert!(matches!(blobs.get(Area::Components, &first).await, Err(Error::NotFound(_))));
    }

    #[tokio::test]
    async fn a_damaged_blob_is_an_error_and_not_a_value() {
        let (folder, blobs) = folder();
        let digest = blobs.put(Area::Checkpoints, Bytes::from_static(b"stack")).await.unwrap();
        std::fs::write(folder.path().join("checkpoints").join(&digest[..2]).join(&digest), b"stuck").unwrap();
        assert!(matches!(blobs.get(Area::Checkpoints, &digest).await, Err(Error::Damaged(_))));
    }

    #[tokio::test]
    async fn a_deleted_blob_is_gone_and_may_be_deleted_again() {
        let (_folder, blobs) = folder();
        let digest = blobs.put(Area::Components, Bytes::from_static(b"wasm")).await.unwrap();
        for _ in 0..2 {
            blobs.delete(Area::Components, &digest).await.unwrap();
        }
        assert!(matches!(blobs.get(Area::Components, &digest).await, Err(Error::NotFound(_))));
    }
}
