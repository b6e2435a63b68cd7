//! Deaths at the boundaries of transactions. For tests alone: it is not in release builds, and without the variable it does nothing.
//!
//! `DORMOUSE_TEST_ABORT=before:7` ends the process just before the seventh commit that writes something, `after:7` just after it, before
//! anybody hears of it. A kill from outside hits such a moment by chance and seldom; what is promised of them is that a restart
//! completes every run exactly once wherever the process died, so a test goes through all of them.

use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use sqlx::{PgConnection, query_scalar};

/// On which side of the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Before,
    After,
}

static PLANNED: LazyLock<Option<(Moment, u64)>> =
    LazyLock::new(|| std::env::var("DORMOUSE_TEST_ABORT").ok().and_then(|text| parse(&text)));

/// Commits so far that wrote something. Sweeps that find nothing to do do not count, so that the boundaries of a run are the same
/// each time, or nearly.
static COMMITS: AtomicU64 = AtomicU64::new(0);

fn parse(text: &str) -> Option<(Moment, u64)> {
    let (moment, nth) = text.split_once(':')?;
    let moment = match moment {
        "before" => Moment::Before,
        "after" => Moment::After,
        _ => return None,
    };
    Some((moment, nth.parse().ok()?))
}

/// When the process is to die around the commit of this transaction; none: not there.
pub(super) async fn planned(transaction: &mut PgConnection) -> Option<Moment> {
    let (moment, nth) = (*PLANNED)?;
    let writes = query_scalar("select pg_current_xact_id_if_assigned() is not null");
    let writes: bool = writes.fetch_one(transaction).await.ok()?;
    (writes && COMMITS.fetch_add(1, SeqCst) + 1 == nth).then_some(moment)
}

/// Whether the process is to die at any commit.
pub(super) fn is_planned() -> bool {
    PLANNED.is_some()
}

/// Dies if this is the moment.
pub(super) fn at(moment: Moment, planned: Option<Moment>) {
    if planned == Some(moment) {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_plan_is_one() {
        assert_eq!(parse("before:1"), Some((Moment::Before, 1)));
        assert_eq!(parse("after:20"), Some((Moment::After, 20)));
        for text in ["", "before", "after:", "after:-1", "between:1", "1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
