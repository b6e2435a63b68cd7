//! Keys: what they open, for how long, and who may not have them.

use secrecy::ExposeSecret;

use super::*;
use crate::{
    auth,
    engine::api_keys::{create, revoke, rotate},
    store::{api_keys as rows, environments},
};

impl Scene {
    /// The environment that a key opens.
    async fn opened_by(&self, secret: &SecretString) -> Option<EnvironmentId> {
        rows::by_fingerprint(&self.store, &rows::fingerprint(secret.expose_secret()))
            .await
            .unwrap()
            .map(|(environment, _)| environment)
    }

    fn root_key(&self) -> SecretString {
        SecretString::from("tr_dev_proj_tests")
    }

    async fn rotate(&self, grace: Duration) -> SecretString {
        let secret = auth::new_secret_key(EnvironmentKind::Development);
        rotate(&self.store, self.environment, "root".into(), secret.clone(), grace).await.unwrap();
        secret
    }

    /// The root keys that are good, the current one first.
    async fn root_keys(&self) -> Vec<String> {
        let environment = environments::get(&self.store, self.environment).await.unwrap().unwrap();
        environment.root_keys().map(|key| key.expose_secret().to_owned()).collect()
    }
}

fn additional() -> SecretString {
    auth::new_additional_key(EnvironmentKind::Development)
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_key_opens_its_environment_and_no_other_until_it_expires(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    assert_eq!(scene.opened_by(&scene.root_key()).await, Some(scene.environment));
    assert_eq!(environment(&scene.store, "proj_tests").await, scene.environment, "made once");
    assert_eq!(scene.opened_by(&"tr_dev_wrong".into()).await, None);
    let (secret, end) = (additional(), scene.now().await + secs(60));
    let made = create(&scene.store, scene.environment, "ci".into(), secret.clone(), Some(end)).await.unwrap();
    assert_eq!((made.name.as_str(), made.kind, made.expires_at), ("ci", ApiKeyKind::Additional, Some(end)));
    assert!(secret.expose_secret().ends_with(&made.hint) && made.hint.len() == 4);
    assert_eq!(scene.opened_by(&secret).await, Some(scene.environment));
    let row: String =
        sqlx::query_scalar("select to_json(k)::text from api_keys k where name = 'ci'").fetch_one(&scene.pool).await.unwrap();
    assert!(!row.contains(&secret.expose_secret()[..20]), "only its hash is kept: {row}");
    scene.advance(secs(60)).await;
    assert_eq!(scene.opened_by(&secret).await, None);
    let other = environment(&scene.store, "proj_other").await;
    let stolen = create(&scene.store, other, "ci".into(), scene.root_key(), None).await;
    assert!(matches!(stolen, Err(Error::Conflict(_))));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_rotated_key_is_good_until_its_grace_is_over_and_never_again(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let first = scene.root_key();
    let second = scene.rotate(secs(3600)).await;
    assert_eq!(scene.root_keys().await, [second.expose_secret(), first.expose_secret()]);
    assert_eq!(scene.opened_by(&first).await, Some(scene.environment));
    // A later rotation with a longer grace does not give the first more time than it was told.
    let third = scene.rotate(secs(7200)).await;
    assert_eq!(scene.root_keys().await[0], third.expose_secret());
    scene.advance(secs(3600)).await;
    assert_eq!(scene.opened_by(&first).await, None);
    assert_eq!(scene.root_keys().await, [third.expose_secret(), second.expose_secret()]);
    // A server that still has it in its settings.
    assert_eq!(environment(&scene.store, "proj_tests").await, scene.environment);
    assert_eq!(scene.opened_by(&first).await, None);

    let fourth = scene.rotate(Duration::ZERO).await;
    assert_eq!(scene.root_keys().await, [fourth.expose_secret()], "without a grace there is one at once");
    assert_eq!(scene.opened_by(&third).await, None);
    let month = secs(30 * 24 * 3600 + 1);
    let refused = rotate(&scene.store, scene.environment, "root".into(), additional(), month).await;
    assert!(matches!(refused, Err(Error::Invalid { field: "gracePeriod", .. })));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_revoked_key_opens_nothing_and_the_last_root_key_cannot_be_revoked(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let secret = additional();
    let key = create(&scene.store, scene.environment, "ci".into(), secret.clone(), None).await.unwrap();
    let other = environment(&scene.store, "proj_other").await;
    assert!(matches!(revoke(&scene.store, other, key.id).await, Err(Error::NotFound { .. })), "it is another's");
    revoke(&scene.store, scene.environment, key.id).await.unwrap();
    assert_eq!(scene.opened_by(&secret).await, None);
    assert!(matches!(revoke(&scene.store, scene.environment, key.id).await, Err(Error::NotFound { .. })));

    let new = scene.rotate(secs(3600)).await;
    let keys = rows::list(&scene.store, scene.environment).await.unwrap();
    let (current, earlier): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.expires_at.is_none());
    assert_eq!((current.len(), earlier.len()), (1, 1), "what is over is not listed");
    revoke(&scene.store, scene.environment, earlier[0].id).await.unwrap();
    assert_eq!(scene.opened_by(&scene.root_key()).await, None);
    assert!(matches!(revoke(&scene.store, scene.environment, current[0].id).await, Err(Error::Conflict(_))));
    assert_eq!(scene.opened_by(&new).await, Some(scene.environment));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn there_are_only_so_many_keys_and_their_names_are_short(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let make = |name: String| create(&scene.store, scene.environment, name, additional(), None);
    for wrong in [String::new(), "  ".into(), "x".repeat(129), "a\0b".into()] {
        assert!(matches!(make(wrong).await, Err(Error::Invalid { field: "name", .. })));
    }
    let now = scene.now().await;
    let past = create(&scene.store, scene.environment, "past".into(), additional(), Some(now)).await;
    assert!(matches!(past, Err(Error::Invalid { field: "expiresAt", .. })));
    let made = futures_util::future::join_all((0..105).map(|n| make(n.to_string()))).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 100, "also when all are asked for at the same time");
    for n in 0..12 {
        let rotated =
            rotate(&scene.store, scene.environment, "root".into(), auth::new_secret_key(EnvironmentKind::Development), secs(60));
        assert_eq!(rotated.await.is_ok(), n < 9, "rotation {n}");
    }
    assert_eq!(scene.root_keys().await.len(), 10);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_key_that_is_made_up_at_each_start_is_kept_once(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let project = || NewProject { project_ref: "proj_new".into(), name: "New".into() };
    let key = || NewApiKey {
        name: "root".into(),
        secret: auth::new_secret_key(EnvironmentKind::Production),
        kind: ApiKeyKind::Root,
        expires_at: None,
    };
    let first = project::ensure_some_key(&scene.store, project(), EnvironmentKind::Production, key()).await.unwrap();
    let again = project::ensure_some_key(&scene.store, project(), EnvironmentKind::Production, key()).await.unwrap();
    assert_eq!((again.id, again.root_keys().count()), (first.id, 1));
    assert_eq!(again.root_key.expose_secret(), first.root_key.expose_secret());
}
