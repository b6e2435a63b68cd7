//! Sets and deletes environment variables; a run gets them with each claim, so a change reaches runs when their next attempt
//! begins or their wait ends. Values are encrypted in rows, by keys of the server's settings. Source: facts N7.

use secrecy::ExposeSecret;
use sqlx::PgConnection;

use crate::{
    engine::Error,
    model::{
        environment::{NewVariable, Variable},
        id::EnvironmentId,
    },
    store::{Store, deployments, environments, seal::Keyring, variables},
};

/// Most variables of an environment.
pub const MAX_VARIABLES: usize = 1000;
/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Most bytes of an environment's names and values together: a claim reads them all.
pub const MAX_TOTAL_BYTES: usize = 1 << 20;
/// Values that are encrypted anew in one transaction.
const SEALED_AT_A_TIME: i64 = 200;

/// Variables to be set together.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// Of the environment.
    pub own: Vec<NewVariable>,
    /// Of its parent, if it is a branch; else they are left alone.
    pub parent: Vec<NewVariable>,
    /// What is to happen to variables that are there.
    pub existing: Existing,
}

/// What is to happen to variables that are there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Existing {
    /// Nothing is set if there is one.
    #[default]
    Refuse,
    /// They are set anew.
    Replace,
}

/// What an import came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// All are set.
    All,
    /// Nothing is set, because these are there.
    Taken(Vec<String>),
}

/// Sets a variable. A branch's own comes before its parent's of that name.
///
/// # Errors
/// [`Error::Invalid`] for a name that breaks the rule, and if the server has no encryption key; [`Error::TooLarge`] beyond a
/// limit; [`Error::NotFound`] without such an environment.
pub async fn set(store: &Store, environment: EnvironmentId, variable: NewVariable) -> Result<(), Error> {
    let import = Import { own: vec![variable], parent: Vec::new(), existing: Existing::Replace };
    self::import(store, environment, import).await.map(drop)
}

/// Gives a variable another value; a secret stays one. One that a branch inherits gets a value of the branch's own.
///
/// # Errors
/// As [`set`], and [`Error::NotFound`] if there is none.
pub async fn update(store: &Store, environment: EnvironmentId, variable: NewVariable) -> Result<(), Error> {
    check(&variable)?;
    let keys = keys_to_seal(store)?;
    store
        .tx(move |tx| {
            Box::pin(async move {
                let parent = lock(tx, environment).await?;
                if !is_secret_of(tx, environment, parent).await?.contains_key(&variable.name) {
                    return Err(Error::not_found("environment variable"));
                }
                put_all(tx, &keys, environment, parent, vec![variable]).await
            })
        })
        .await
}

/// Sets all of these variables or none.
///
/// # Errors
/// As [`set`].
pub async fn import(store: &Store, environment: EnvironmentId, import: Import) -> Result<Imported, Error> {
    import.own.iter().chain(&import.parent).try_for_each(check)?;
    let keys = keys_to_seal(store)?;
    store
        .tx(move |tx| {
            Box::pin(async move {
                let parent = lock(tx, environment).await?;
                let mut targets = vec![(environment, parent, import.own)];
                targets.extend(parent.filter(|_| !import.parent.is_empty()).map(|parent| (parent, None, import.parent)));
                if import.existing == Existing::Refuse {
                    let mut taken = Vec::new();
                    for (target, _, new) in &targets {
                        let names = variables::names(tx, *target).await?;
                        taken.extend(new.iter().filter(|new| names.contains_key(&new.name)).map(|new| new.name.clone()));
                    }
                    if !taken.is_empty() {
                        return Ok(Imported::Taken(taken));
                    }
                }
                for (target, parent, new) in targets {
                    put_all(tx, &keys, target, parent, new).await?;
                }
                Ok(Imported::All)
            })
        })
        .await
}

/// Deletes an environment's own variable: a branch sees its parent's again, if that has one of the name.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn delete(store: &Store, environment: EnvironmentId, name: String) -> Result<(), Error> {
    store
        .tx(move |tx| {
            Box::pin(async move {
                let deleted = variables::delete(tx, environment, &name).await?;
                if deleted { Ok(()) } else { Err(Error::not_found("environment variable")) }
            })
        })
        .await
}

/// Encrypts with the current key what is not encrypted, or with an earlier key, and returns how many values that were. For the
/// start of a server: a value that is never written again would else stay as it is, also in every backup, and an old key could
/// never be put away. Any number of processes may do it at the same time.
///
/// # Errors
/// [`Error::Conflict`] if there are values that the server has no key for: it could not run what needs them.
pub async fn seal(store: &Store) -> Result<usize, Error> {
    let keys = store.keys();
    let mut connection = store.read().await?;
    let unknown = variables::other_keys(&mut connection, &keys.ids()).await?;
    if !unknown.is_empty() {
        return Err(Error::Conflict(format!(
            "environment variables are encrypted with keys that this server was not given, of the ids {}",
            unknown.join(", ")
        )));
    }
    if keys.current().is_none() {
        if variables::has_plain(&mut connection).await? {
            tracing::warn!("environment variables are not encrypted, because this server has no encryption key");
        }
        return Ok(0);
    }
    drop(connection);
    let mut total = 0;
    loop {
        let keys = keys.clone();
        let sealed = store
            .tx(move |tx| Box::pin(async move { Ok::<_, Error>(variables::seal_again(tx, &keys, SEALED_AT_A_TIME).await?) }))
            .await?;
        total += sealed;
        if sealed == 0 {
            return Ok(total);
        }
    }
}

fn keys_to_seal(store: &Store) -> Result<Keyring, Error> {
    let keys = store.keys();
    let missing = "this server keeps no variables, because it has no key to encrypt them with; start it with --encryption-key";
    keys.current().map(|_| keys.clone()).ok_or(Error::invalid("value", missing))
}

/// Makes those who set variables of an environment take turns, so that limits hold, and tells its parent. A branch's parent is
/// locked first.
async fn lock(tx: &mut PgConnection, environment: EnvironmentId) -> Result<Option<EnvironmentId>, Error> {
    let parent = environments::parent(tx, environment).await?.ok_or(Error::not_found("environment"))?;
    if let Some(parent) = parent {
        deployments::lock_environment(tx, parent).await?;
    }
    deployments::lock_environment(tx, environment).await?;
    Ok(parent)
}

/// Whether the variables that an environment has or inherits are secrets, by their names.
async fn is_secret_of(
    tx: &mut PgConnection,
    environment: EnvironmentId,
    parent: Option<EnvironmentId>,
) -> Result<std::collections::HashMap<String, bool>, Error> {
    let mut all = match parent {
        Some(parent) => variables::names(tx, parent).await?,
        None => Default::default(),
    };
    all.extend(variables::names(tx, environment).await?);
    Ok(all)
}

async fn put_all(
    tx: &mut PgConnection,
    keys: &Keyring,
    environment: EnvironmentId,
    parent: Option<EnvironmentId>,
    new: Vec<NewVariable>,
) -> Result<(), Error> {
    let known = is_secret_of(tx, environment, parent).await?;
    for NewVariable { name, value, is_secret } in new {
        let is_secret = is_secret.or(known.get(&name).copied()).unwrap_or(false);
        variables::put(tx, keys, environment, &Variable { name, value, is_secret }).await?;
    }
    let (count, bytes) = variables::size(tx, environment).await?;
    if count > MAX_VARIABLES as u64 {
        return Err(Error::TooLarge { field: "variables", limit: MAX_VARIABLES, unit: "variables" });
    }
    if bytes > MAX_TOTAL_BYTES as u64 {
        return Err(Error::TooLarge { field: "variables", limit: MAX_TOTAL_BYTES, unit: "bytes in all" });
    }
    Ok(())
}

fn check(variable: &NewVariable) -> Result<(), Error> {
    let NewVariable { name, value, .. } = variable;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(Error::invalid("name", format!("{name:?}: a name has letters, digits and underscores, at least one")));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(Error::TooLarge { field: "name", limit: MAX_NAME_BYTES, unit: "bytes" });
    }
    let value = value.expose_secret();
    if value.contains('\0') {
        return Err(Error::invalid("value", format!("the value of {name} has a NUL character, which no process could read")));
    }
    if value.len() > MAX_VALUE_BYTES {
        return Err(Error::TooLarge { field: "value", limit: MAX_VALUE_BYTES, unit: "bytes" });
    }
    Ok(())
}
