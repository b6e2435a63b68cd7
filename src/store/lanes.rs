//! Lanes: the runs that stand in line together, and how a claim goes through them in turn.
//!
//! A lane is one environment, queue, set of limits and concurrency key. Its runs go in the order of their positions, so what holds
//! its first one back holds all of them back; between lanes nobody's position counts. A claim goes through the environments in turn
//! and, in each, through its lanes in turn, and remembers where it stopped: a million runs of one lane are one lane.

use std::collections::HashMap;

use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::StoreError;

/// Which runs stand in line together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// Where they live.
    pub environment: Uuid,
    /// Their queue.
    pub queue: Uuid,
    /// Their limits, sorted.
    pub limits: Vec<Uuid>,
    /// Their concurrency key; empty: none.
    pub key: String,
}

/// Where the claims of a process are in their way through the lanes. Only fairness depends on it.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// The environment that was served last.
    pub environment: Option<Uuid>,
    /// The lane of each environment that was served last.
    pub lanes: HashMap<Uuid, Lane>,
    /// Environments with runs in line, as the last claim saw it.
    pub environments: usize,
}

/// What a claim has found to be closed: it looks no further into these.
#[derive(Debug, Default)]
pub struct Closed {
    /// Environments.
    pub environments: Vec<Uuid>,
    /// Queues.
    pub queues: Vec<Uuid>,
    /// Limits.
    pub limits: Vec<Uuid>,
}

impl Closed {
    /// Whether this lane is in one of them.
    pub fn has(&self, lane: &Lane) -> bool {
        self.environments.contains(&lane.environment)
            || self.queues.contains(&lane.queue)
            || lane.limits.iter().any(|limit| self.limits.contains(limit))
    }
}

/// A lane with runs in line, as a claim comes by.
#[derive(Debug)]
pub struct Seen {
    /// Which one.
    pub lane: Lane,
    /// Its queue is paused or closed, or a limit of it is: it was not looked into.
    pub is_closed: bool,
    /// Its environment has a limit.
    pub is_environment_limited: bool,
    /// Its queue has a limit.
    pub is_queue_limited: bool,
}

/// A stretch of the way.
#[derive(Debug, Default)]
pub struct Stretch {
    /// The environments that came by, paused ones too.
    pub environments: Vec<Uuid>,
    /// Their lanes, in turn.
    pub lanes: Vec<Seen>,
}

/// What comes next: at most `environments` environments, at most `lanes` of each.
///
/// Each step is one look into the index: the next environment after the last one, the next lane after the last one, from the
/// beginning again after the end, up to where it began. A closed queue is stepped over as a whole.
///
/// # Errors
/// If the database does not answer.
pub async fn next(
    connection: &mut PgConnection,
    turn: &Turn,
    closed: &Closed,
    environments: usize,
    lanes: usize,
) -> Result<Stretch, StoreError> {
    let last: Vec<&Lane> = turn.lanes.values().collect();
    let limits: Vec<String> = last.iter().map(|lane| array(&lane.limits)).collect();
    // Bounds are values to compare with in every case, so that a look ends where they say and not at the end of the index.
    let rows = query!(
        r#"
        with recursive environment as (
            select $1::uuid as id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid as up_to, 0 as n
            union all
            select next.id, next.up_to, e.n + 1
            from environment e
            cross join lateral (
                (select r.environment_id as id, e.up_to from runs r
                 where r.status = 'QUEUED' and r.environment_id > e.id and r.environment_id <= e.up_to
                 order by r.environment_id limit 1)
                union all
                (select r.environment_id, $1 from runs r
                 where r.status = 'QUEUED' and r.environment_id <= case when e.up_to > $1 then $1 end
                 order by r.environment_id limit 1)
                limit 1
            ) next
            where e.n < $2
        )
        select e.id as "environment_id!", lane.queue_id as "queue_id?", lane.limit_ids as "limit_ids?", lane.key as "key?",
            lane.is_closed as "is_closed?", lane.is_limited as "is_queue_limited?",
            own.concurrency_limit is not null as "is_environment_limited!"
        from environment e
        join environments own on own.id = e.id
        left join unnest($4::uuid[], $5::uuid[], $6::text[], $7::text[]) as last (environment_id, queue_id, limit_ids, key)
            on last.environment_id = e.id
        left join lateral (
            with recursive lane as (
                select coalesce(last.queue_id, '00000000-0000-0000-0000-000000000000') as queue_id,
                    coalesce(last.limit_ids::uuid[], '{}') as limit_ids, coalesce(last.key, '') collate "C" as key,
                    coalesce(last.queue_id, '00000000-0000-0000-0000-000000000000') as past_queue,
                    coalesce(last.limit_ids::uuid[], '{}') as past_limits, coalesce(last.key, '') collate "C" as past_key,
                    'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid as up_to_queue, '{}'::uuid[] as up_to_limits,
                    '' collate "C" as up_to_key, last.queue_id is null as has_wrapped, true as is_closed, false as is_limited, 0 as n
                union all
                select next.queue_id, next.limit_ids, next.key, next.queue_id,
                    case when is_shut.queue then array['ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid] else next.limit_ids end,
                    case when is_shut.queue or is_shut.limits then chr(1114111) else next.key end collate "C",
                    case when next.has_wrapped then coalesce(last.queue_id, lane.up_to_queue) else lane.up_to_queue end,
                    case when next.has_wrapped then coalesce(last.limit_ids::uuid[], '{}') else lane.up_to_limits end,
                    case when next.has_wrapped then coalesce(last.key, '') else lane.up_to_key end collate "C",
                    next.has_wrapped, is_shut.queue or is_shut.limits,
                    coalesce(q.override_limit, q.declared_limit) is not null, lane.n + 1
                from lane
                cross join lateral (
                    (select r.queue_id, r.limit_ids, r.concurrency_key as key, lane.has_wrapped from runs r
                     where r.status = 'QUEUED' and r.environment_id = e.id
                         and (r.queue_id, r.limit_ids, r.concurrency_key) > (lane.past_queue, lane.past_limits, lane.past_key)
                         and (r.queue_id, r.limit_ids, r.concurrency_key) <= (lane.up_to_queue, lane.up_to_limits, lane.up_to_key)
                     order by r.environment_id, r.queue_id, r.limit_ids, r.concurrency_key limit 1)
                    union all
                    (select r.queue_id, r.limit_ids, r.concurrency_key, true from runs r
                     where r.status = 'QUEUED' and r.environment_id = e.id
                         and (r.queue_id, r.limit_ids, r.concurrency_key)
                             <= (case when not lane.has_wrapped then last.queue_id end, last.limit_ids::uuid[], last.key collate "C")
                     order by r.environment_id, r.queue_id, r.limit_ids, r.concurrency_key limit 1)
                    limit 1
                ) next
                join queues q on q.id = next.queue_id
                cross join lateral (
                    select q.paused or coalesce(q.override_limit, q.declared_limit) = 0 is true or q.id = any($8) as queue,
                        next.limit_ids && $9 as limits
                ) is_shut
                where lane.n < $10
            )
            select * from lane where n > 0
        ) lane on not own.paused and own.id <> all($3)
        where e.n > 0
        order by e.n, lane.n
        "#,
        turn.environment.unwrap_or_default(),
        environments as i32,
        &closed.environments,
        &last.iter().map(|lane| lane.environment).collect::<Vec<_>>(),
        &last.iter().map(|lane| lane.queue).collect::<Vec<_>>(),
        &limits,
        &last.iter().map(|lane| lane.key.clone()).collect::<Vec<_>>(),
        &closed.queues,
        &closed.limits,
        lanes as i32
    )
    .fetch_all(connection)
    .await?;
    let mut stretch = Stretch::default();
    for row in rows {
        if stretch.environments.last() != Some(&row.environment_id) {
            stretch.environments.push(row.environment_id);
        }
        let (Some(queue), Some(limits), Some(key)) = (row.queue_id, row.limit_ids, row.key) else { continue };
        stretch.lanes.push(Seen {
            lane: Lane { environment: row.environment_id, queue, limits, key },
            is_closed: row.is_closed.unwrap_or_default(),
            is_environment_limited: row.is_environment_limited,
            is_queue_limited: row.is_queue_limited.unwrap_or_default(),
        });
    }
    Ok(stretch)
}

/// Locks the first runs of lanes, of each as many as it may have, passing over those that others are claiming and over `skip`.
/// Returns them with the places of their lanes in the list.
///
/// # Errors
/// If the database does not answer.
pub async fn pick(
    connection: &mut PgConnection,
    lanes: &[(&Lane, usize)],
    skip: &[Uuid],
) -> Result<Vec<(usize, Uuid)>, StoreError> {
    let of = |each: fn(&Lane) -> Uuid| lanes.iter().map(|(lane, _)| each(lane)).collect::<Vec<_>>();
    let rows = query!(
        r#"
        select lane.n as "n!", r.id as "id!"
        from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[]) with ordinality
            as lane (environment_id, queue_id, limit_ids, key, count, n)
        cross join lateral (
            select id from runs
            where environment_id = lane.environment_id and queue_id = lane.queue_id and limit_ids = lane.limit_ids::uuid[]
                and concurrency_key = lane.key collate "C" and status = 'QUEUED' and (due_at is null or due_at > clock_now())
                and id <> all($6)
            order by position, id limit lane.count for no key update skip locked
        ) r
        "#,
        &of(|lane| lane.environment),
        &of(|lane| lane.queue),
        &lanes.iter().map(|(lane, _)| array(&lane.limits)).collect::<Vec<_>>(),
        &lanes.iter().map(|(lane, _)| lane.key.clone()).collect::<Vec<_>>(),
        &lanes.iter().map(|(_, count)| *count as i64).collect::<Vec<_>>(),
        skip
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.n as usize - 1, row.id)).collect())
}

/// Ids as the text of an array: lists of lists of different lengths have no other form.
pub(super) fn array(ids: &[Uuid]) -> String {
    format!("{{{}}}", ids.iter().map(Uuid::to_string).collect::<Vec<_>>().join(","))
}
