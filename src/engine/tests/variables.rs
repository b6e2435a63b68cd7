//! Environment variables: what is stored of them, and who gets them.

use secrecy::ExposeSecret;

use super::*;
use crate::{
    engine::variables::{self, Existing, Import, Imported},
    model::environment::NewVariable,
    store::variables as rows,
};

fn variable(name: &str, value: &str) -> NewVariable {
    NewVariable { name: name.into(), value: value.to_owned().into(), is_secret: None }
}

fn secret(name: &str, value: &str) -> NewVariable {
    NewVariable { is_secret: Some(true), ..variable(name, value) }
}

impl Scene {
    async fn set(&self, variable: NewVariable) {
        variables::set(&self.store, self.environment, variable).await.unwrap();
    }

    /// What can be read of the variables: name, value if it is none secret.
    async fn shown_variables(&self) -> Vec<(String, Option<String>)> {
        let shown = rows::list(&self.store, self.environment).await.unwrap();
        let value = |value: SecretString| value.expose_secret().to_owned();
        shown.into_iter().map(|shown| (shown.name, shown.value.map(value))).collect()
    }

    /// The same database under other keys: of these settings, the current one first.
    fn with_keys(&self, keys: &[&SecretString]) -> Store {
        Store::over(self.pool.clone()).with_keys(Keyring::new(keys[0], keys[1..].iter().copied()).unwrap())
    }

    async fn key_ids(&self) -> Vec<Option<String>> {
        sqlx::query_scalar("select distinct key_id from variables order by 1").fetch_all(&self.pool).await.unwrap()
    }
}

fn of(claimed: &Claimed) -> Vec<(&str, &str)> {
    claimed.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn no_value_stands_in_a_row_as_it_was_written(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.set(variable("PLAIN", "a value to look for")).await;
    scene.set(secret("SECRET", "another to look for")).await;
    let rows: Vec<String> = sqlx::query_scalar("select variables::text || encode(sealed, 'escape') from variables")
        .fetch_all(&scene.pool)
        .await
        .unwrap();
    assert!(rows.len() == 2 && rows.iter().all(|row| !row.contains("to look for")), "{rows:?}");
    let plain = Some("a value to look for".to_owned());
    assert_eq!(scene.shown_variables().await, [("PLAIN".to_owned(), plain), ("SECRET".to_owned(), None)]);
    scene.executing().await;
    scene.trigger(hello()).await;
    let claimed = scene.claim_one().await;
    assert_eq!(of(&claimed), [("PLAIN", "a value to look for"), ("SECRET", "another to look for")]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_value_does_not_open_in_another_row_or_as_no_secret(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.set(secret("SECRET", "value")).await;
    let elsewhere = environment(&scene.store, "proj_other").await;
    for change in [
        "update variables set is_secret = false",
        "update variables set name = 'OTHER'",
        "update variables set environment_id = $1",
        "update variables set sealed = set_byte(sealed, 30, get_byte(sealed, 30) # 1)",
    ] {
        let mut transaction = scene.pool.begin().await.unwrap();
        let change = change.replace("$1", &format!("'{}'", elsewhere.uuid()));
        sqlx::raw_sql(sqlx::AssertSqlSafe(change)).execute(&mut *transaction).await.unwrap();
        let both = [scene.environment.uuid(), elsewhere.uuid()];
        let opened = rows::of_runs(&mut transaction, scene.store.keys(), &both).await.unwrap();
        assert_eq!(opened.values().filter(|opened| **opened == Err(seal::Error::Damaged)).count(), 1, "{opened:?}");
        transaction.rollback().await.unwrap();
    }
    let opened = rows::of_runs(&mut scene.store.read().await.unwrap(), scene.store.keys(), &[scene.environment.uuid()]).await;
    assert!(opened.unwrap()[&scene.environment.uuid()].is_ok(), "as it was it opens");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_gets_them_with_each_claim_also_when_it_goes_on_from_a_checkpoint(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.set(variable("WHO", "Ada")).await;
    scene.trigger(hello()).await;
    let claimed = scene.claim_one().await;
    assert_eq!(of(&claimed), [("WHO", "Ada")]);
    let at = scene.now().await + secs(10);
    scene.suspend(&claimed.lease, 1, WaitRequest::Sleep { at }).await.unwrap();
    scene.set(variable("WHO", "Grace")).await;
    variables::set(&scene.store, scene.environment, variable("MORE", "")).await.unwrap();
    scene.advance(secs(11)).await;
    scene.fire().await;
    let resumed = scene.claim_one().await;
    assert!(resumed.resume.is_some());
    assert_eq!(of(&resumed), [("MORE", ""), ("WHO", "Grace")]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_import_sets_all_or_nothing_and_a_secret_stays_one(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.set(secret("B", "1")).await;
    let import = |existing, own: &[(&str, &str)]| {
        let own = own.iter().map(|(name, value)| variable(name, value)).collect();
        variables::import(&scene.store, scene.environment, Import { own, parent: Vec::new(), existing })
    };
    let taken = import(Existing::Refuse, &[("A", "1"), ("B", "2")]).await.unwrap();
    assert_eq!(taken, Imported::Taken(vec!["B".into()]));
    assert_eq!(scene.shown_variables().await, [("B".to_owned(), None)]);
    assert_eq!(import(Existing::Replace, &[("A", "1"), ("B", "2")]).await.unwrap(), Imported::All);
    assert_eq!(scene.shown_variables().await, [("A".to_owned(), Some("1".to_owned())), ("B".to_owned(), None)]);
    assert!(matches!(import(Existing::Replace, &[("C", "1"), ("D-D", "1")]).await, Err(Error::Invalid { field: "name", .. })));
    assert_eq!(scene.shown_variables().await.len(), 2);
    let missing = variables::update(&scene.store, scene.environment, variable("C", "")).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })));
    variables::update(&scene.store, scene.environment, variable("B", "3")).await.unwrap();
    scene.trigger(hello()).await;
    assert_eq!(of(&scene.claim_one().await), [("A", "1"), ("B", "3")]);
    for _ in 0..2 {
        let deleted = variables::delete(&scene.store, scene.environment, "B".into()).await;
        assert_eq!(deleted.is_ok(), scene.shown_variables().await.len() == 1 && deleted.is_ok());
    }
    assert_eq!(scene.shown_variables().await.len(), 1);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn names_values_numbers_and_sizes_have_limits_that_are_named(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let set = |variable| variables::set(&scene.store, scene.environment, variable);
    for name in ["", "A=B", "A B", "Ä", "A\0"] {
        assert!(matches!(set(variable(name, "")).await, Err(Error::Invalid { field: "name", .. })), "{name:?}");
    }
    assert!(matches!(set(variable("A", "a\0b")).await, Err(Error::Invalid { field: "value", .. })));
    assert!(matches!(set(variable(&"x".repeat(257), "")).await, Err(Error::TooLarge { field: "name", limit: 256, .. })));
    let long = "x".repeat(64 * 1024);
    assert!(matches!(set(variable("A", &format!("{long}x"))).await, Err(Error::TooLarge { field: "value", limit: 65536, .. })));
    assert!(matches!(variables::set(&scene.store, EnvironmentId::new(), variable("A", "")).await, Err(Error::NotFound { .. })));
    let import = |own| variables::import(&scene.store, scene.environment, Import { own, ..Import::default() });
    let many = (0..1001).map(|n| variable(&format!("V{n}"), "")).collect();
    assert!(matches!(import(many).await, Err(Error::TooLarge { field: "variables", limit: 1000, .. })));
    let large = (0..16).map(|n| variable(&format!("V{n}"), &long)).collect();
    assert!(matches!(import(large).await, Err(Error::TooLarge { field: "variables", limit: 1_048_576, .. })));
    assert!(scene.shown_variables().await.is_empty(), "what was refused set nothing");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_changed_key_still_reads_old_values_and_encrypts_them_anew_at_start(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (old, new) = (seal::new_key(), seal::new_key());
    variables::set(&scene.with_keys(&[&old]), scene.environment, secret("OLD", "1")).await.unwrap();
    let both = Scene { store: scene.with_keys(&[&new, &old]), ..scene };
    both.set(variable("NEW", "2")).await;
    assert_eq!(both.key_ids().await.len(), 2);
    both.trigger(hello()).await;
    assert_eq!(of(&both.claim_one().await), [("NEW", "2"), ("OLD", "1")]);

    let refused = variables::seal(&both.with_keys(&[&new])).await;
    assert!(matches!(refused, Err(Error::Conflict(message)) if message.contains("not given")));
    assert_eq!(variables::seal(&both.store).await.unwrap(), 1);
    assert_eq!(variables::seal(&both.store).await.unwrap(), 0, "once is enough");
    let only_new = both.with_keys(&[&new]);
    assert_eq!(both.key_ids().await, [only_new.keys().current().map(str::to_owned)]);
    assert_eq!(variables::seal(&only_new).await.unwrap(), 0);
    let both = Scene { store: only_new, ..both };
    both.trigger(hello()).await;
    assert_eq!(of(&both.claim_one().await), [("NEW", "2"), ("OLD", "1")]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn values_of_before_they_were_encrypted_are_read_and_encrypted_at_start(pool: PgPool) {
    let scene = Scene::new(pool).await;
    sqlx::query(
        "insert into variables (environment_id, name, value) select $1, 'V' || n, n::text from generate_series(1, 450) n",
    )
    .bind(scene.environment.uuid())
    .execute(&scene.pool)
    .await
    .unwrap();
    let keyless = Store::over(scene.pool.clone());
    assert_eq!(variables::seal(&keyless).await.unwrap(), 0);
    scene.trigger(hello()).await;
    assert_eq!(scene.claim_one().await.variables.len(), 450);
    // Servers that start together share the work.
    let (one, other) = tokio::join!(variables::seal(&scene.store), variables::seal(&scene.store));
    assert_eq!(one.unwrap() + other.unwrap(), 450);
    assert_eq!(scene.count("select count(*) from variables where value is not null or sealed is null").await, 0);
    scene.trigger(hello()).await;
    let claimed = scene.claim_one().await;
    assert!(of(&claimed).contains(&("V7", "7")));
    assert!(matches!(variables::seal(&keyless).await, Err(Error::Conflict(_))));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn without_a_key_nothing_is_set_and_runs_that_need_one_stay_in_line_for_who_has_it(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.set(variable("A", "1")).await;
    let needs = scene.trigger(hello()).await;
    let other = environment(&scene.store, "proj_other").await;
    engine::deploy::deploy(&scene.store, other, bundle(vec![task("hello")], vec![])).await.unwrap();
    let free = engine::trigger::trigger(&scene.store, other, hello()).await.unwrap().id;
    let keyless = Store::over(scene.pool.clone());
    let refused = variables::set(&keyless, scene.environment, variable("B", "1")).await;
    assert!(matches!(refused, Err(Error::Invalid { message, .. }) if message.contains("--encryption-key")));
    let claimed = engine::claim::claim(&keyless, terms(scene.worker, 5, LEASE)).await.unwrap().runs;
    assert_eq!(claimed.iter().map(|claimed| claimed.lease.run).collect::<Vec<_>>(), [free], "others are not held up");
    assert_eq!(scene.claim_one().await.lease.run, needs);
}
