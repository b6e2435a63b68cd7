//! Tags, by which runs are found.

use crate::HostError;
use crate::bindings::dormouse::task::metadata;

/// Adds tags to this run: at most 10 in all, 1 to 128 characters each. Those it has already are left out.
///
/// # Errors
/// What the host refuses.
///
/// ```no_run
/// # fn task() -> Result<(), dormouse::TaskError> {
/// dormouse::tags::add(["customer:42", "trial"])?;
/// # Ok(()) }
/// ```
pub fn add<S: Into<String>>(tags: impl IntoIterator<Item = S>) -> Result<(), HostError> {
    let tags: Vec<String> = tags.into_iter().map(Into::into).collect();
    Ok(metadata::add_tags(&tags)?)
}
