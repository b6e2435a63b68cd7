//! Branches: environments of their own that share the keys and variables of the preview environment.

use secrecy::ExposeSecret;

use super::*;
use crate::{
    engine::{branch, variables},
    model::environment::{Environment, NewVariable},
    store::environments,
};

async fn preview(scene: &Scene) -> Environment {
    let project = NewProject { project_ref: "proj_tests".into(), name: "Tests".into() };
    let secret = SecretString::from("tr_preview_proj_tests");
    let key = NewApiKey { name: "root".into(), secret, kind: ApiKeyKind::Root, expires_at: None };
    project::ensure(&scene.store, project, EnvironmentKind::Preview, key).await.unwrap()
}

async fn set(scene: &Scene, environment: &Environment, name: &str, value: &str, is_secret: Option<bool>) {
    let variable = NewVariable { name: name.into(), value: value.to_owned().into(), is_secret };
    variables::set(&scene.store, environment.id, variable).await.unwrap();
}

/// What a run of the environment sees.
async fn seen(scene: &Scene, environment: &Environment) -> Vec<(String, String)> {
    engine::trigger::trigger(&scene.store, environment.id, hello()).await.unwrap();
    scene.claim_one().await.variables
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_branch_is_made_once_and_only_of_the_preview_environment(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let preview = preview(&scene).await;
    let made = futures_util::future::join_all((0..4).map(|_| branch::ensure(&scene.store, &preview, "refs/heads/fix/a"))).await;
    let made: Vec<Environment> = made.into_iter().map(Result::unwrap).collect();
    assert_eq!(made.iter().map(|made| made.id).collect::<std::collections::HashSet<_>>().len(), 1);
    let first = &made[0];
    assert_eq!(first.branch.as_ref().map(|branch| (branch.name.as_str(), branch.parent)), Some(("fix/a", preview.id)));
    assert_eq!((first.kind, first.key_holder()), (EnvironmentKind::Preview, preview.id));
    assert_eq!(first.root_key.expose_secret(), preview.root_key.expose_secret());
    assert_ne!(branch::ensure(&scene.store, &preview, "fix/b").await.unwrap().id, first.id);
    assert_eq!(super::environment(&scene.store, "proj_tests").await, scene.environment, "the others are left alone");

    let development = environments::get(&scene.store, scene.environment).await.unwrap().unwrap();
    for (of, name) in [(&preview, "a b"), (&development, "fix/a"), (first, "fix/c")] {
        let refused = branch::ensure(&scene.store, of, name).await;
        assert!(matches!(refused, Err(Error::Invalid { field: "branch", .. })), "{name}");
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_environment_begins_with_the_servers_limit_and_keeps_the_one_that_it_is_given(pool: PgPool) {
    let mut scene = Scene::new(pool).await;
    scene.store = scene.store.with_environment_limit(Some(7));
    let preview = preview(&scene).await;
    let branch = branch::ensure(&scene.store, &preview, "a").await.unwrap();
    let limit = async |id| {
        let standing = environments::standing(&mut scene.store.read().await.unwrap(), id).await.unwrap();
        standing.unwrap().concurrency_limit
    };
    assert_eq!((limit(preview.id).await, limit(branch.id).await), (Some(7), Some(7)));
    assert_eq!(limit(scene.environment).await, None, "it was there before");
    engine::environment::set(&scene.store, branch.id, Some(None), None).await.unwrap();
    self::preview(&scene).await;
    branch::ensure(&scene.store, &preview, "a").await.unwrap();
    assert_eq!((limit(preview.id).await, limit(branch.id).await), (Some(7), None));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_branch_has_deployments_runs_and_idempotency_keys_of_its_own(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let preview = preview(&scene).await;
    let branches =
        [branch::ensure(&scene.store, &preview, "a").await.unwrap(), branch::ensure(&scene.store, &preview, "b").await.unwrap()];
    engine::deploy::deploy(&scene.store, branches[0].id, bundle(vec![task("hello")], vec![])).await.unwrap();
    let keyed = || NewRun {
        idempotency: Some(crate::model::trigger::RunIdempotency { key: "k".into(), ..Default::default() }),
        ..hello()
    };
    let mut runs = Vec::new();
    for branch in &branches {
        runs.push(engine::trigger::trigger(&scene.store, branch.id, keyed()).await.unwrap());
    }
    assert!(!runs[1].is_cached && runs[0].id != runs[1].id);
    let status = async |branch: usize| runs_of(&scene, &branches[branch], runs[branch].id).await;
    assert_eq!((status(0).await, status(1).await), (RunStatus::Queued, RunStatus::PendingVersion));
    assert!(runs::get(&scene.store, branches[1].id, runs[0].id).await.unwrap().is_none());
}

async fn runs_of(scene: &Scene, environment: &Environment, run: RunId) -> RunStatus {
    runs::get(&scene.store, environment.id, run).await.unwrap().unwrap().status
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_branch_sees_its_own_variables_before_those_of_its_parent(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let preview = preview(&scene).await;
    let branch = branch::ensure(&scene.store, &preview, "a").await.unwrap();
    for environment in [&preview, &branch] {
        engine::deploy::deploy(&scene.store, environment.id, bundle(vec![task("hello")], vec![])).await.unwrap();
    }
    set(&scene, &preview, "BOTH", "parent", Some(true)).await;
    set(&scene, &preview, "PARENT", "parent", None).await;
    set(&scene, &branch, "BOTH", "branch", None).await;
    set(&scene, &branch, "OWN", "branch", None).await;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(seen(&scene, &branch).await, [pair("BOTH", "branch"), pair("OWN", "branch"), pair("PARENT", "parent")]);
    assert_eq!(seen(&scene, &preview).await, [pair("BOTH", "parent"), pair("PARENT", "parent")]);
    let shown = crate::store::variables::list(&scene.store, branch.id).await.unwrap();
    let shown: Vec<_> = shown.iter().map(|shown| (shown.name.as_str(), shown.is_secret, shown.is_inherited)).collect();
    assert_eq!(shown, [("BOTH", true, false), ("OWN", false, false), ("PARENT", false, true)], "a secret stays one in a branch");

    variables::delete(&scene.store, branch.id, "BOTH".into()).await.unwrap();
    let inherited = variables::delete(&scene.store, branch.id, "PARENT".into()).await;
    assert!(matches!(inherited, Err(Error::NotFound { .. })), "a branch deletes nothing of its parent");
    assert_eq!(seen(&scene, &branch).await, [pair("BOTH", "parent"), pair("OWN", "branch"), pair("PARENT", "parent")]);
    let value = |value: &str| NewVariable { name: "PARENT".into(), value: value.to_owned().into(), is_secret: None };
    variables::update(&scene.store, branch.id, value("of the branch")).await.unwrap();
    assert_eq!(seen(&scene, &branch).await[2], pair("PARENT", "of the branch"));
    assert_eq!(seen(&scene, &preview).await[1], pair("PARENT", "parent"));
    let import = variables::Import { own: vec![value("1")], parent: vec![value("2")], existing: variables::Existing::Replace };
    variables::import(&scene.store, branch.id, import).await.unwrap();
    assert_eq!((seen(&scene, &branch).await[2].1.as_str(), seen(&scene, &preview).await[1].1.as_str()), ("1", "2"));
}
