-- A lane is what stands in line together: the runs of one environment, queue, set of limits and concurrency key, in the order of
-- their positions. A claim takes from lanes in turn. Whether a run may begin is decided then, by counting who holds a lease; so a
-- place that becomes free needs no word to anybody, and there is no state that could be left behind.
drop index runs_in_line, runs_of_queue, runs_leased;
alter table runs
    drop column parked,
    -- Sorted: the task's own limit and the named ones. A run needs a place in each.
    add column limit_ids uuid[] not null default '{}',
    -- As triggered, in place of the task's named ones; null: as the task says.
    add column limit_names text[],
    alter column concurrency_key type text collate "C";
create index runs_in_line on runs (environment_id, queue_id, limit_ids, concurrency_key, position, id) where status = 'QUEUED';
create index runs_leased on runs (environment_id, queue_id) where lease_worker is not null;

alter table environments
    -- Of all its runs; null: no limit.
    add column concurrency_limit integer check (concurrency_limit >= 0),
    add column paused boolean not null default false;

-- Limits that several queues share, and those of one task (`task/<id>`). Nothing deletes them.
create table concurrency_limits (
    id               uuid primary key,
    environment_id   uuid not null references environments (id),
    name             text not null,
    -- What the newest deployment that names it declares: of all its runs, and for each concurrency key. Null: no limit.
    declared_total   integer check (declared_total >= 0),
    declared_per_key integer check (declared_per_key >= 0),
    -- Set by hand; survives deployments.
    override_total   integer check (override_total >= 0),
    override_per_key integer check (override_per_key >= 0),
    total_overridden_at timestamptz check ((total_overridden_at is null) = (override_total is null)),
    per_key_overridden_at timestamptz check ((per_key_overridden_at is null) = (override_per_key is null)),
    paused           boolean not null default false,
    created_at       timestamptz not null default clock_now(),
    unique (environment_id, name)
);

alter table deployments add column limits json;
comment on column deployments.limits is 'Concurrency limits that it declares, for when it becomes the current one';

-- Exceptions for single keys, for a while.
create table concurrency_limit_keys (
    limit_id        uuid not null references concurrency_limits (id),
    concurrency_key text not null collate "C",
    override        integer not null check (override >= 0),
    expires_at      timestamptz not null,
    primary key (limit_id, concurrency_key)
);
create index concurrency_limit_keys_end on concurrency_limit_keys (expires_at);
