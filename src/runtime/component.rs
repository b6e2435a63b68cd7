//! From an uploaded component to a rewritten one, and from the name of a rewritten one to one that is compiled and linked.
//!
//! A rewritten component is looked for in memory, then in the cache folder, and only then compiled again from its bytes, which
//! whoever asks for it must have kept: rewriting the original again would give other bytes, and with another version of the
//! rewriter ones that no earlier snapshot fits. What is in the folder is believed only if its name and checksum say that this program, on this kind of machine, wrote it;
//! anything else is thrown away and made again, so the folder can be deleted at any time. Two that want the same
//! component wait for one compilation.
#![allow(unsafe_code, reason = "wasmtime trusts the artifacts that it is given; what it is given is checked here")]

use std::{
    borrow::Cow,
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::Context as _;
use bytes::Bytes;
use tokio::{
    sync::{OnceCell, Semaphore},
    task::spawn_blocking,
};
use wasmtime::{
    Engine,
    component::{Component, ComponentExportIndex, InstancePre, Linker},
};

use super::{
    Rewritten, RuntimeConfig,
    checkpoint::{self, Image, format::Identity, packs::Packs},
    engine,
    execution::RunFault,
    host_fault,
    instance::Live,
};
use crate::{
    host::{self, HostState},
    model::{id::RunId, rewriting::Rewriting},
    rewrite,
};

const MAGIC: &[u8; 4] = b"DRMC";
const CHECKSUM: usize = 32;
/// Bytes that the cache folder may hold; beyond it, what was written longest ago is removed.
const MAX_FOLDER_BYTES: u64 = 16 << 30;
/// Components that are compiled at a time: each compilation uses all cores by itself, and much memory.
const COMPILATIONS: usize = 1;

/// Why a component cannot be run. Cloned to everyone who waited for the same component.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PrepareError {
    /// The bytes are not a component.
    #[error("not a component: {0}")]
    Malformed(String),
    /// It does what cannot be supported; every reason found.
    #[error("the component is refused")]
    Refused(Vec<rewrite::Refusal>),
    /// It cannot say what it declares, or what it declares breaks a rule; every reason found.
    #[error("the bundle cannot be described: {}", .0.join("; "))]
    Undescribed(Vec<String>),
    /// A fault of the host.
    #[error("{0:#}")]
    Host(Arc<anyhow::Error>),
}

impl From<anyhow::Error> for PrepareError {
    fn from(error: anyhow::Error) -> Self {
        PrepareError::Host(Arc::new(error))
    }
}

impl From<rewrite::Error> for PrepareError {
    fn from(error: rewrite::Error) -> Self {
        match error {
            rewrite::Error::Malformed(reason) => PrepareError::Malformed(reason),
            rewrite::Error::Refused(reasons) => PrepareError::Refused(reasons),
        }
    }
}

/// How much of a rewritten component is compiled. A snapshot of the one is one of the other too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// All that a run needs until it is suspended: compiled quickly, when the component is deployed. See [`rewrite::beginning`].
    Beginning,
    /// What a suspended run needs to go on: about twice as much.
    Whole,
}

/// The name of a component: blake3 in lower-case hex.
fn digest(component: &[u8]) -> String {
    blake3::hash(component).to_hex().to_string()
}

/// A component that is ready to be instantiated.
pub struct LoadedComponent {
    pub(super) pre: InstancePre<HostState>,
    pub(super) exports: Exports,
    rewriting: Rewriting,
    part: Part,
    /// The digests of the component as uploaded and as rewritten.
    digests: [[u8; 32]; 2],
    artifact_bytes: usize,
    packs: Arc<Packs>,
    /// What its memories hold before it runs.
    image: OnceCell<Arc<Image>>,
}

/// Where the functions are that the rewriter added.
#[derive(Clone, Copy)]
pub(super) struct Exports {
    pub(super) run: ComponentExportIndex,
    pub(super) resume: ComponentExportIndex,
    pub(super) take: ComponentExportIndex,
    pub(super) save: ComponentExportIndex,
    pub(super) load: ComponentExportIndex,
}

impl LoadedComponent {
    /// Which rewritten component it is.
    pub fn rewriting(&self) -> &Rewriting {
        &self.rewriting
    }

    /// How much of it there is.
    pub fn part(&self) -> Part {
        self.part
    }

    /// What a snapshot of this run of it must belong to.
    pub(super) fn identity(&self, run: RunId) -> Identity {
        let [component, rewritten] = self.digests;
        Identity { component, rewriter: self.rewriting.rewriter, rewritten, run }
    }

    /// What its memories hold before anything is run. Found out when it is asked for first; if it cannot be, snapshots are larger.
    pub(super) async fn image(&self) -> Option<Arc<Image>> {
        // Once in the component's life, and large: no room for it in the future of every run.
        let find_out = || {
            Box::pin(async {
                let live = Live::still(self).await?;
                checkpoint::image(live, self.exports.save).await.map(Arc::new)
            })
        };
        let component = &self.rewriting.component;
        let found = self.image.get_or_try_init(find_out).await;
        found.inspect_err(|error: &RunFault| tracing::warn!(component, %error, "snapshots are larger: no image")).ok().cloned()
    }

    /// Where pages of its runs are.
    pub(super) fn packs(&self) -> &Arc<Packs> {
        &self.packs
    }

    pub(super) fn engine(&self) -> &Engine {
        self.pre.engine()
    }

    /// Links a compiled component.
    fn link(
        component: &Component,
        name: &Name,
        artifact_bytes: usize,
        packs: Arc<Packs>,
    ) -> Result<LoadedComponent, PrepareError> {
        let Name { rewriting, part } = name.clone();
        let refused = |error: wasmtime::Error| PrepareError::Refused(vec![rewrite::Refusal::of_component(format!("{error:#}"))]);
        let mut linker = Linker::new(component.engine());
        host::link(&mut linker, component).map_err(refused)?;
        checkpoint::link(&mut linker).map_err(refused)?;
        let exports = Exports::of(component)
            .ok_or_else(|| refused(wasmtime::format_err!("a function that every rewritten component exports is missing")))?;
        let pre = linker.instantiate_pre(component).map_err(refused)?;
        let digests = [bytes_of(&rewriting.component)?, bytes_of(&rewriting.digest)?];
        Ok(LoadedComponent { pre, exports, rewriting, part, digests, artifact_bytes, packs, image: OnceCell::new() })
    }
}

fn bytes_of(digest: &str) -> Result<[u8; 32], PrepareError> {
    let bytes = hex::decode(digest).ok().and_then(|bytes| bytes.try_into().ok());
    Ok(bytes.ok_or_else(|| anyhow::anyhow!("{digest:?} is not a digest"))?)
}

impl Exports {
    fn of(component: &Component) -> Option<Exports> {
        let added = |name: &str| component.get_export_index(None, name);
        Some(Exports {
            run: added("ckpt-run")?,
            resume: added("ckpt-resume")?,
            take: added("ckpt-take")?,
            save: added("ckpt-save")?,
            load: added("ckpt-load")?,
        })
    }
}

/// All components of this process.
pub struct Components {
    loaded: moka::future::Cache<Name, Arc<LoadedComponent>>,
    maker: Maker,
    limits: rewrite::Limits,
    rewriter: u32,
    compilations: Semaphore,
}

/// What is compiled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    rewriting: Rewriting,
    part: Part,
}

/// What is needed to compile one.
#[derive(Clone)]
struct Maker {
    engine: Engine,
    fingerprint: String,
    folder: Arc<Path>,
    packs: Arc<Packs>,
}

impl Components {
    /// No components yet.
    ///
    /// # Errors
    /// If the cache folder cannot be made or belongs to somebody else.
    pub fn new(engine: Engine, config: RuntimeConfig) -> anyhow::Result<Components> {
        let folder = own_folder(config.cache)?;
        let fingerprint = engine::fingerprint(&engine);
        // Weights are 32 bits wide, so they count KiB.
        let loaded = moka::future::Cache::builder()
            .max_capacity(config.cached_bytes >> 10)
            .weigher(|_, component: &Arc<LoadedComponent>| u32::try_from(component.artifact_bytes >> 10).unwrap_or(u32::MAX))
            .build();
        let packs = Packs::new(config.pages, config.packs).context("cannot make the folder for pages")?;
        let maker = Maker { engine, fingerprint, folder: folder.into(), packs: Arc::new(packs) };
        let (limits, rewriter) = (config.limits, config.rewriter);
        Ok(Components { loaded, maker, limits, rewriter, compilations: Semaphore::new(COMPILATIONS) })
    }

    /// See [`super::Runtime::fingerprint`].
    pub fn fingerprint(&self) -> &str {
        &self.maker.fingerprint
    }

    /// See [`super::Runtime::rewriter`].
    pub(super) fn rewriter(&self) -> u32 {
        self.rewriter
    }

    /// See [`super::Runtime::rewrite`].
    pub(super) async fn rewrite(&self, original: Bytes) -> Result<Rewritten, PrepareError> {
        let (limits, rewriter) = (self.limits.clone(), self.rewriter);
        blocking(move || {
            let rewrite::Rewritten { mut bytes, report } = rewrite::rewrite(&original, &limits)?;
            let original = blake3::hash(&original);
            rewrite::stamp(&mut bytes, rewriter, original.as_bytes(), rand::random());
            let rewriting = Rewriting { component: original.to_hex().to_string(), rewriter, digest: digest(&bytes) };
            Ok(Rewritten { rewriting, bytes: bytes.into(), report })
        })
        .await
    }

    /// See [`super::Runtime::forget_pack`].
    pub(super) fn forget_pack(&self, digest: &[u8; 32]) {
        self.maker.packs.forget(digest);
    }

    /// See [`super::Runtime::is_loaded`].
    pub(super) fn is_loaded(&self, rewriting: &Rewriting, part: Part) -> bool {
        self.loaded.contains_key(&Name { rewriting: rewriting.clone(), part })
    }

    /// See [`super::Runtime::load`].
    pub(super) async fn load(
        &self,
        rewriting: &Rewriting,
        part: Part,
        fetch: impl AsyncFnOnce() -> anyhow::Result<Bytes>,
    ) -> Result<Arc<LoadedComponent>, PrepareError> {
        let wanted = Name { rewriting: rewriting.clone(), part };
        let make = async {
            let (maker, name) = (self.maker.clone(), wanted.clone());
            if let Some(loaded) = blocking(move || maker.find(&name)).await? {
                return Ok(Arc::new(loaded));
            }
            let bytes = fetch().await?;
            let _permit = self.compilations.acquire().await.expect("the semaphore is never closed");
            let (maker, name) = (self.maker.clone(), wanted.clone());
            blocking(move || maker.compile(&name, &bytes)).await.map(Arc::new)
        };
        let made = self.loaded.try_get_with_by_ref(&wanted, make).await;
        made.map_err(|error: Arc<PrepareError>| (*error).clone())
    }
}

impl Maker {
    /// The component from the cache folder; none if it is not there or must not be used.
    fn find(&self, name: &Name) -> Result<Option<LoadedComponent>, PrepareError> {
        let path = self.path(name);
        let artifact = match fs::read(&path) {
            Ok(file) => unseal(&file).map(<[u8]>::to_vec),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(anyhow::Error::from(error).context("cannot read the component cache").into()),
        };
        let loaded = artifact.and_then(|artifact| self.deserialize(name, &artifact).ok());
        if loaded.is_none() {
            tracing::warn!(component = name.rewriting.component, "threw away a damaged file of the component cache");
            let _ = fs::remove_file(path);
        }
        Ok(loaded)
    }

    fn compile(&self, name: &Name, rewritten: &[u8]) -> Result<LoadedComponent, PrepareError> {
        let started = std::time::Instant::now();
        let Rewriting { component, rewriter, digest } = &name.rewriting;
        if self::digest(rewritten) != *digest {
            return Err(anyhow::anyhow!("the stored rewritten component {digest} is damaged: it has another digest").into());
        }
        let bytes = match name.part {
            Part::Beginning => rewrite::beginning(rewritten).map_err(anyhow::Error::from)?.into(),
            Part::Whole => Cow::Borrowed(rewritten),
        };
        let artifact = self.engine.precompile_component(&bytes).map_err(|error| {
            PrepareError::Refused(vec![rewrite::Refusal::of_component(format!("it cannot be compiled: {error:#}"))])
        })?;
        let loaded = self.deserialize(name, &artifact)?;
        // Only what could be linked is kept. A cache that cannot be written costs time, not correctness.
        if let Err(error) = self.keep(name, &artifact) {
            tracing::warn!(component, %error, "cannot write to the component cache");
        }
        let duration_ms = started.elapsed().as_millis() as u64;
        tracing::info!(component, rewriter, part = ?name.part, size_bytes = artifact.len(), duration_ms, "compiled a component");
        Ok(loaded)
    }

    fn deserialize(&self, name: &Name, artifact: &[u8]) -> Result<LoadedComponent, PrepareError> {
        // SAFETY: the artifact was made by `precompile_component` of an engine with our configuration: either just now, or
        // by a process of this user, since it comes from a folder that only this user can write to (`own_folder`) and its
        // checksum holds (`unseal`), so it is what `keep` wrote.
        let component = unsafe { Component::deserialize(&self.engine, artifact) }.map_err(host_fault)?;
        LoadedComponent::link(&component, name, artifact.len(), self.packs.clone())
    }

    /// Writes an artifact so that the file is there as a whole or not at all.
    fn keep(&self, name: &Name, artifact: &[u8]) -> io::Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let temporary = self.folder.join(format!(".{}.{}.new", std::process::id(), COUNT.fetch_add(1, Relaxed)));
        let written = (|| {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(MAGIC)?;
            file.write_all(blake3::hash(artifact).as_bytes())?;
            file.write_all(artifact)?;
            fs::rename(&temporary, self.path(name))?;
            self.make_room(MAX_FOLDER_BYTES)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes the oldest files, whoever wrote them, until the rest have at most `limit` bytes.
    fn make_room(&self, limit: u64) -> io::Result<()> {
        let files = fs::read_dir(&self.folder)?.map(|entry| {
            let entry = entry?;
            let found = entry.metadata()?;
            Ok((found.modified()?, found.len(), entry.path()))
        });
        // A file that another process is just removing is no reason to stop.
        let mut files: Vec<_> = files.filter_map(|file: io::Result<_>| file.ok()).collect();
        files.sort();
        let mut total: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in files {
            if total <= limit {
                break;
            }
            fs::remove_file(path)?;
            total -= length;
        }
        Ok(())
    }

    fn path(&self, name: &Name) -> PathBuf {
        let part = match name.part {
            Part::Beginning => "beginning",
            Part::Whole => "whole",
        };
        self.folder.join(format!("{}-{part}-{}", name.rewriting.digest, self.fingerprint))
    }
}

/// The artifact in a file of the cache, if it is whole.
fn unseal(file: &[u8]) -> Option<&[u8]> {
    let (checksum, artifact) = file.strip_prefix(MAGIC)?.split_at_checked(CHECKSUM)?;
    (blake3::hash(artifact).as_bytes() == checksum).then_some(artifact)
}

/// Makes a folder that only this user can write to, or sees to it that it is one.
fn own_folder(folder: PathBuf) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let shown = folder.display().to_string();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("cannot make the folder {shown}"))?;
    let found = fs::metadata(&folder).with_context(|| format!("cannot look at the folder {shown}"))?;
    anyhow::ensure!(found.uid() == rustix::process::geteuid().as_raw(), "the folder {shown} belongs to another user");
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot close the folder {shown}"))?;
    }
    Ok(folder)
}

/// Runs what takes long on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, PrepareError> + Send + 'static) -> Result<T, PrepareError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => Err(anyhow::Error::from(failed).context("preparing a component failed").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_files_make_room() {
        let folder = tempfile::TempDir::new().unwrap();
        let engine = engine::new().unwrap();
        let elsewhere = tempfile::TempDir::new().unwrap();
        let blobs = crate::blobs::Blobs::open(elsewhere.path().to_str().unwrap()).unwrap();
        let packs = Arc::new(Packs::new(elsewhere.path().join("packs"), Arc::new(blobs)).unwrap());
        let maker = Maker { engine, fingerprint: "f".into(), folder: folder.path().into(), packs };
        let name = |digest: &str| {
            let rewriting = Rewriting { component: String::new(), rewriter: 1, digest: digest.into() };
            Name { rewriting, part: Part::Whole }
        };
        for (digest, age) in [("new", 1), ("oldest", 3), ("old", 2)] {
            let file = fs::File::create(maker.path(&name(digest))).unwrap();
            file.set_len(100).unwrap();
            file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(age * 60)).unwrap();
        }
        maker.make_room(250).unwrap();
        assert!(!maker.path(&name("oldest")).exists() && maker.path(&name("old")).exists());
        maker.make_room(100).unwrap();
        assert!(!maker.path(&name("old")).exists() && maker.path(&name("new")).exists());
    }
}
