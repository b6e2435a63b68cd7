//! Environment variables. Their values are encrypted in rows, secret or not: what is no secret today may be read by somebody
//! tomorrow who has only a backup. A branch sees those of its parent too, its own before them. Source: facts N7.

use std::collections::HashMap;

use secrecy::{ExposeSecret, SecretString};
use sqlx::{PgConnection, query, query_as, query_scalar};
use uuid::Uuid;

use super::{
    Store, StoreError, rows,
    seal::{self, Keyring, Sealed},
};
use crate::model::{environment::Variable, id::EnvironmentId};

/// A variable as people may see it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// Its value; none for a secret, which is not even decrypted.
    pub value: Option<SecretString>,
    /// Never shown again.
    pub is_secret: bool,
    /// It is the parent's.
    pub is_inherited: bool,
}

/// What the runs of an environment get: names and values, by name; or why not.
pub type Opened = Result<Vec<(String, String)>, seal::Error>;

struct Row {
    asked: Uuid,
    environment_id: Uuid,
    name: String,
    /// As it was stored before values were encrypted.
    value: Option<String>,
    sealed: Option<Vec<u8>>,
    key_id: Option<String>,
    is_secret: bool,
}

impl Row {
    fn open(&self, keys: &Keyring) -> Result<String, seal::Error> {
        let (Some(bytes), Some(key_id)) = (self.sealed.clone(), self.key_id.clone()) else {
            return self.value.clone().ok_or(seal::Error::Damaged);
        };
        let opened = keys.open(&Sealed { key_id, bytes }, &place(self.environment_id, self.is_secret, &self.name))?;
        String::from_utf8(opened).map_err(|_| seal::Error::Damaged)
    }

    fn show(self, keys: &Keyring) -> Result<Shown, seal::Error> {
        let value = if self.is_secret { None } else { Some(self.open(keys)?.into()) };
        let is_inherited = self.asked != self.environment_id;
        Ok(Shown { name: self.name, value, is_secret: self.is_secret, is_inherited })
    }
}

/// What a value is bound to. That it is secret is part of it: who can only write rows cannot have it shown by the API.
fn place(environment: Uuid, is_secret: bool, name: &str) -> Vec<u8> {
    [environment.as_bytes().as_slice(), &[u8::from(is_secret)], name.as_bytes()].concat()
}

/// What the runs of these environments get.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn of_runs(
    connection: &mut PgConnection,
    keys: &Keyring,
    environments: &[Uuid],
) -> Result<HashMap<Uuid, Opened>, StoreError> {
    let mut opened: HashMap<Uuid, Opened> = environments.iter().map(|id| (*id, Ok(Vec::new()))).collect();
    for row in effective(connection, environments, None).await? {
        let Some(all) = opened.get_mut(&row.asked) else { continue };
        match (all.as_mut(), row.open(keys)) {
            (Ok(variables), Ok(value)) => variables.push((row.name, value)),
            (Ok(_), Err(error)) => *all = Err(error),
            (Err(_), _) => {}
        }
    }
    Ok(opened)
}

/// The variables of an environment, by name.
///
/// # Errors
/// If the database does not answer, or one cannot be opened.
pub async fn list(store: &Store, environment: EnvironmentId) -> Result<Vec<Shown>, StoreError> {
    let rows = effective(&mut *store.read().await?, &[environment.uuid()], None).await?;
    Ok(rows.into_iter().map(|row| row.show(store.keys())).collect::<Result<_, _>>()?)
}

/// One variable of an environment.
///
/// # Errors
/// If the database does not answer, or it cannot be opened.
pub async fn get(store: &Store, environment: EnvironmentId, name: &str) -> Result<Option<Shown>, StoreError> {
    let mut rows = effective(&mut *store.read().await?, &[environment.uuid()], Some(name)).await?;
    Ok(rows.pop().map(|row| row.show(store.keys())).transpose()?)
}

/// The variables that these environments have or inherit, those of that name only if there is one.
async fn effective(connection: &mut PgConnection, asked: &[Uuid], name: Option<&str>) -> Result<Vec<Row>, StoreError> {
    Ok(query_as!(
        Row,
        r#"
        select distinct on (e.id, v.name) e.id as asked, v.environment_id, v.name, v.value, v.sealed, v.key_id, v.is_secret
        from environments e
        join variables v on v.environment_id = any(array[e.id, e.parent_id])
        where e.id = any($1) and ($2::text is null or v.name = $2)
        order by e.id, v.name, v.environment_id = e.id desc
        "#,
        asked,
        name
    )
    .fetch_all(connection)
    .await?)
}

/// Names of an environment's own variables, and whether each is a secret.
///
/// # Errors
/// If the database does not answer.
pub async fn names(connection: &mut PgConnection, environment: EnvironmentId) -> Result<HashMap<String, bool>, StoreError> {
    let rows = query!("select name, is_secret from variables where environment_id = $1", environment.uuid())
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| (row.name, row.is_secret)).collect())
}

/// Sets a variable.
///
/// # Errors
/// If the database does not answer, or there is no key to encrypt it with.
pub async fn put(
    connection: &mut PgConnection,
    keys: &Keyring,
    environment: EnvironmentId,
    variable: &Variable,
) -> Result<(), StoreError> {
    let place = place(environment.uuid(), variable.is_secret, &variable.name);
    let sealed = keys.seal(variable.value.expose_secret().as_bytes(), &place)?;
    query!(
        "insert into variables (environment_id, name, sealed, key_id, is_secret) values ($1, $2, $3, $4, $5)
         on conflict (environment_id, name) do update
         set value = null, sealed = excluded.sealed, key_id = excluded.key_id, is_secret = excluded.is_secret,
             updated_at = clock_now()",
        environment.uuid(),
        variable.name,
        sealed.bytes,
        sealed.key_id,
        variable.is_secret
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes an environment's own variable; false if there was none.
///
/// # Errors
/// If the database does not answer.
pub async fn delete(connection: &mut PgConnection, environment: EnvironmentId, name: &str) -> Result<bool, StoreError> {
    let done = query!("delete from variables where environment_id = $1 and name = $2", environment.uuid(), name)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// How many variables an environment has of its own, and how many bytes their names and values have in all.
///
/// # Errors
/// If the database does not answer.
pub async fn size(connection: &mut PgConnection, environment: EnvironmentId) -> Result<(u64, u64), StoreError> {
    let row = query!(
        r#"
        select count(*) as "count!",
            coalesce(sum(octet_length(name) + coalesce(octet_length(value), octet_length(sealed) - $2)), 0)::bigint as "bytes!"
        from variables where environment_id = $1
        "#,
        environment.uuid(),
        Sealed::OVERHEAD as i32
    )
    .fetch_one(connection)
    .await?;
    Ok((rows::count(row.count), rows::count(row.bytes)))
}

/// Ids of the keys that values are encrypted with, other than these.
///
/// # Errors
/// If the database does not answer.
pub async fn other_keys(connection: &mut PgConnection, known: &[String]) -> Result<Vec<String>, StoreError> {
    Ok(query_scalar!(
        r#"select distinct key_id as "key_id!" from variables where key_id is not null and key_id <> all($1) order by 1"#,
        known
    )
    .fetch_all(connection)
    .await?)
}

/// Whether values are stored that were never encrypted.
///
/// # Errors
/// If the database does not answer.
pub async fn has_plain(connection: &mut PgConnection) -> Result<bool, StoreError> {
    Ok(query_scalar!(r#"select exists (select from variables where sealed is null) as "exists!""#).fetch_one(connection).await?)
}

/// Encrypts at most `max` values with the current key that are not encrypted or with another key, and returns how many. Passes
/// over those that others are writing: they are written with a current key.
///
/// # Errors
/// If the database does not answer, or a value cannot be opened.
pub async fn seal_again(connection: &mut PgConnection, keys: &Keyring, max: i64) -> Result<usize, StoreError> {
    let rows = query_as!(
        Row,
        "select environment_id as asked, environment_id, name, value, sealed, key_id, is_secret from variables
         where key_id is distinct from $1
         order by environment_id, name limit $2 for update skip locked",
        keys.current().unwrap_or_default(),
        max
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in &rows {
        let sealed = keys.seal(row.open(keys)?.as_bytes(), &place(row.environment_id, row.is_secret, &row.name))?;
        query!(
            "update variables set value = null, sealed = $3, key_id = $4 where environment_id = $1 and name = $2",
            row.environment_id,
            row.name,
            sealed.bytes,
            sealed.key_id
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(rows.len())
}
