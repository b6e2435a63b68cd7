//! Sets and deletes environment variables; a run gets them with each claim. Source: facts N7.

use crate::{
    engine::Error,
    model::id::EnvironmentId,
    store::{
        Store,
        environments::{self, Variable},
    },
};

/// Most variables of an environment.
const MAX_VARIABLES: usize = 1000;
/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// Longest value, in bytes.
const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Sets a variable.
///
/// # Errors
/// [`Error::Invalid`] for a name that no process could have, [`Error::TooLarge`] beyond a limit.
pub async fn set(store: &Store, environment: EnvironmentId, variable: Variable) -> Result<(), Error> {
    if variable.name.is_empty() || variable.name.contains(['=', '\0']) || variable.value.contains('\0') {
        return Err(Error::invalid("name", "a variable has a name without '=', and no NUL characters"));
    }
    if variable.name.len() > MAX_NAME_BYTES {
        return Err(Error::TooLarge { field: "name", limit: MAX_NAME_BYTES, unit: "bytes" });
    }
    if variable.value.len() > MAX_VALUE_BYTES {
        return Err(Error::TooLarge { field: "value", limit: MAX_VALUE_BYTES, unit: "bytes" });
    }
    store
        .tx(move |tx| {
            Box::pin(async move {
                environments::set_variable(tx, environment, &variable).await?;
                if environments::count_variables(tx, environment).await? > MAX_VARIABLES as u64 {
                    return Err(Error::TooLarge { field: "variables", limit: MAX_VARIABLES, unit: "variables" });
                }
                Ok(())
            })
        })
        .await
}

/// Deletes a variable; false if there was none.
///
/// # Errors
/// If the database does not answer.
pub async fn delete(store: &Store, environment: EnvironmentId, name: String) -> Result<bool, Error> {
    store.tx(move |tx| Box::pin(async move { Ok(environments::delete_variable(tx, environment, &name).await?) })).await
}
