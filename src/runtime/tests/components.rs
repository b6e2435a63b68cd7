//! Components prepared and loaded, the cache, and what is refused.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use super::*;
use crate::runtime::Rewritten;

#[tokio::test]
async fn a_bundle_says_what_it_declares_and_the_rewriter_what_it_did() {
    let bench = Bench::new();
    let Rewritten { rewriting, bytes, report } = bench.runtime.rewrite(guest().into()).await.unwrap();
    assert_eq!(rewriting.component, blake3::hash(&guest()).to_hex().as_str());
    assert_eq!((rewriting.rewriter, rewriting.digest.as_str()), (rewrite::VERSION, blake3::hash(&bytes).to_hex().as_str()));
    assert!(report.suspends);
    assert_eq!(report.memories, 2);
    let component = bench.runtime.load(&rewriting, Part::Whole, async || Ok(bytes)).await.unwrap();
    let described = bench.runtime.describe(&component).await.unwrap();
    assert_eq!((described.definition.sdk.as_str(), described.definition.tasks[0].id.as_str()), ("test/1", "waits"));
    assert_eq!(described.warnings, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_not_a_bundle_is_refused_with_the_reason() {
    let bench = Bench::new();
    let refused = async |bytes: Vec<u8>| match bench.prepare(bytes).await {
        Ok(component) => bench.runtime.describe(&component).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(refused(b"not wasm".to_vec()).await, PrepareError::Malformed(_)));
    assert!(matches!(refused(wat::parse_str("(component)").unwrap()).await, PrepareError::Refused(_)));
    let trapping = include_str!("guest.wat").replace("(func (export \"describe\") (result i32)", "$0 (unreachable)");
    let trapping = trapping.replace("$0", "(func (export \"describe\") (result i32)");
    let PrepareError::Undescribed(reasons) = refused(wat::parse_str(trapping).unwrap()).await else { panic!("it traps") };
    assert!(reasons[0].starts_with("it stopped: the task aborted"), "{reasons:?}");
    let unknown = include_str!("guest.wat").replacen("(component", "(component (import \"unknown:thing/it\" (func))", 1);
    let PrepareError::Refused(reasons) = refused(wat::parse_str(unknown).unwrap()).await else { panic!("it is unknown") };
    assert!(reasons[0].reason.contains("unknown:thing/it"), "{reasons:?}");
}

#[tokio::test]
async fn a_bundle_that_describes_itself_for_ever_is_stopped() {
    let bench = Bench::new();
    let endless = include_str!("guest.wat").replace("(i32.store (i32.const 512) (i32.const 0))", "(loop (br 0))");
    let component = bench.prepare(wat::parse_str(endless).unwrap()).await.unwrap();
    let PrepareError::Undescribed(reasons) = bench.runtime.describe(&component).await.unwrap_err() else {
        panic!("it never ends")
    };
    assert!(reasons[0].contains("maximum compute time"), "{reasons:?}");
}

#[tokio::test]
async fn another_process_finds_the_component_in_the_folder() {
    let bench = Bench::new();
    let rewriting = bench.load().await.rewriting().clone();
    let other = runtime(bench.folder.path().join("cache"));
    assert_eq!(other.fingerprint(), bench.runtime.fingerprint());
    other.load(&rewriting, Part::Whole, async || panic!("it is in the cache")).await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_of_the_cache_is_thrown_away_and_made_again() {
    let bench = Bench::new();
    let Rewritten { rewriting, bytes, .. } = bench.runtime.rewrite(guest().into()).await.unwrap();
    bench.runtime.load(&rewriting, Part::Whole, async || Ok(bytes.clone())).await.unwrap();
    let file = bench.folder.path().join("cache").join(format!("{}-whole-{}", rewriting.digest, bench.runtime.fingerprint()));
    let good = fs::read(&file).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for damaged in [flipped, good[..good.len() - 1].to_vec(), b"DRMC".to_vec(), Vec::new()] {
        fs::write(&file, damaged).unwrap();
        let fetched = AtomicU32::new(0);
        let fetch = async || {
            fetched.fetch_add(1, Relaxed);
            Ok(bytes.clone())
        };
        let cache = || bench.folder.path().join("cache");
        runtime(cache()).load(&rewriting, Part::Whole, fetch).await.unwrap();
        assert_eq!(fetched.load(Relaxed), 1);
        runtime(cache()).load(&rewriting, Part::Whole, async || panic!("it is in the cache again")).await.unwrap();
    }
}

#[tokio::test]
async fn many_that_want_the_same_component_wait_for_one_compilation() {
    let bench = Bench::new();
    let Rewritten { rewriting, bytes, .. } = bench.runtime.rewrite(guest().into()).await.unwrap();
    let fetched = AtomicU32::new(0);
    let fetch = async || {
        fetched.fetch_add(1, Relaxed);
        Ok(bytes.clone())
    };
    let loads = (0..8).map(|_| bench.runtime.load(&rewriting, Part::Whole, fetch));
    let loaded = futures_util::future::try_join_all(loads).await.unwrap();
    assert!(loaded.iter().all(|component| Arc::ptr_eq(component, &loaded[0])));
    assert_eq!(fetched.load(Relaxed), 1);
}

#[tokio::test]
async fn bytes_with_another_digest_are_not_taken() {
    let bench = Bench::new();
    let [one, other] =
        [bench.runtime.rewrite(guest().into()).await.unwrap(), bench.runtime.rewrite(guest().into()).await.unwrap()];
    assert_ne!(one.rewriting.digest, other.rewriting.digest, "no two rewritings are the same");
    let Err(PrepareError::Host(error)) = bench.runtime.load(&one.rewriting, Part::Whole, async || Ok(other.bytes)).await else {
        panic!("it is another")
    };
    let digest = one.rewriting.digest;
    assert_eq!(error.to_string(), format!("the stored rewritten component {digest} is damaged: it has another digest"));
}

#[tokio::test]
async fn the_folder_is_closed_to_others() {
    let bench = Bench::new();
    let folder = bench.folder.path().join("cache");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    drop(runtime(folder.clone()));
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
}
