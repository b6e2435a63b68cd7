//! Reads runs that are asked for at the same time together: who polls a thousand runs costs the database little more than who polls
//! a few. Each is read after it was asked for, so nobody is told what was.

use tracing::warn;

use super::Error;
use crate::{
    group::Group,
    model::{
        id::{EnvironmentId, RunId},
        run::RunDetail,
    },
    store::{
        Store,
        runs::{self, MOST_DETAILS, Read},
    },
};

/// Reads beside each other. With a second one, each has half as many runs, which cost more.
const AT_ONCE: usize = 1;

/// Most bytes of payload and output of a run that is read beside others: a group of them must fit into memory.
const MOST_BYTES: i64 = 64 << 10;

/// None: the database did not answer for all of them together. Such a run, and a large one, is read by itself.
type Answer = Option<Read>;

/// Where those who ask for runs meet. Cheap to clone.
#[derive(Clone)]
pub(super) struct Reads {
    store: Store,
    group: Group<(EnvironmentId, RunId), Answer>,
}

impl Reads {
    /// They meet here from now on.
    pub(super) fn new(store: Store) -> Reads {
        let own = store.clone();
        let group = Group::new(MOST_DETAILS, AT_ONCE, move |asked: Vec<(EnvironmentId, RunId)>| {
            let store = own.clone();
            async move {
                match crate::store::in_time(runs::details(&store, &asked, MOST_BYTES)).await {
                    Ok(details) => details.into_iter().map(Some).collect(),
                    Err(error) => {
                        warn!(error = &error as &dyn std::error::Error, runs = asked.len(), "runs could not be read together");
                        asked.iter().map(|_| None).collect()
                    }
                }
            }
        });
        Reads { store, group }
    }

    /// The run with all there is to see; none if the environment has no such run.
    ///
    /// # Errors
    /// If the database does not answer.
    pub(super) async fn run(&self, environment: EnvironmentId, id: RunId) -> Result<Option<RunDetail>, Error> {
        match self.group.ask((environment, id)).await.flatten() {
            Some(Read::Run(detail)) => Ok(Some(*detail)),
            Some(Read::Nothing) => Ok(None),
            // One that cannot be read must not keep the others from being.
            Some(Read::Large) | None => Ok(runs::detail(&self.store, environment, id).await?),
        }
    }
}
