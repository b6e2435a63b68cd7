//! What is told to other processes: "look", never what there is to see. Sent with the commit.

use std::time::Duration;

use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::StoreError;

/// Ids of runs that changed.
pub(super) const RUNS: &str = "runs";
/// Ids of waitpoints that completed.
pub(super) const WAITPOINTS: &str = "waitpoints";
/// A run may have come into line.
pub(super) const LINE: &str = "line";
/// Something may be due earlier than before.
pub(super) const TIMERS: &str = "timers";

/// Ids of runs whose streams have something new.
pub(super) const STREAMS: &str = "streams";

/// What is due later than this needs no word: whoever waits for it looks at least as often.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// A schedule may be due earlier than before.
pub(super) const SCHEDULES: &str = "schedules";

/// Postgres takes less than 8000 bytes; an id is 32 letters and a comma.
pub(super) const IDS_PER_MESSAGE: usize = 200;

/// The payloads that name these ids.
pub(super) fn payloads(ids: &[Uuid]) -> Vec<String> {
    ids.chunks(IDS_PER_MESSAGE)
        .map(|chunk| chunk.iter().map(|id| id.simple().to_string()).collect::<Vec<_>>().join(","))
        .collect()
}

/// The ids that a payload names; what is not one is passed over.
pub(super) fn ids(payload: &str) -> impl Iterator<Item = Uuid> {
    payload.split(',').filter_map(|text| text.parse().ok())
}

async fn send(connection: &mut PgConnection, channel: &str, payloads: &[String]) -> Result<(), StoreError> {
    query!("select pg_notify($1, payload) from unnest($2::text[]) as payload", channel, payloads).execute(connection).await?;
    Ok(())
}

/// Wakes the workers.
pub async fn line(connection: &mut PgConnection) -> Result<(), StoreError> {
    send(connection, LINE, &[String::new()]).await
}

/// Wakes the timer loop.
pub async fn timers(connection: &mut PgConnection) -> Result<(), StoreError> {
    send(connection, TIMERS, &[String::new()]).await
}

/// Wakes the loop that fires schedules.
pub async fn schedules(connection: &mut PgConnection) -> Result<(), StoreError> {
    send(connection, SCHEDULES, &[String::new()]).await
}

/// Wakes who reads streams of these runs.
pub async fn streams(connection: &mut PgConnection, runs: &[Uuid]) -> Result<(), StoreError> {
    send(connection, STREAMS, &payloads(runs)).await
}

/// Wakes who waits for these.
pub async fn waitpoints(connection: &mut PgConnection, ids: &[Uuid]) -> Result<(), StoreError> {
    send(connection, WAITPOINTS, &payloads(ids)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_names_the_ids_it_was_made_of_and_fits() {
        let all: Vec<Uuid> = (0..450).map(Uuid::from_u128).collect();
        let payloads = payloads(&all);
        assert!(payloads.len() == 3 && payloads.iter().all(|payload| payload.len() < 8000));
        assert_eq!(payloads.iter().flat_map(|payload| ids(payload)).collect::<Vec<_>>(), all);
        assert_eq!(ids("what").count(), 0);
    }
}
