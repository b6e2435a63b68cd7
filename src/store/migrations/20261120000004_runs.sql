-- Environments, queues and deployments are referred to without foreign keys: a check would lock their one row for every run.
-- Nothing deletes them. Events, logs and the journal refer to runs without foreign keys for the same reason; gc sweeps them.
create table runs (
    id                  uuid primary key,
    environment_id      uuid not null,
    task                text not null,
    status              text not null check (status in (
        'PENDING_VERSION', 'DELAYED', 'QUEUED', 'DEQUEUED', 'EXECUTING', 'WAITING',
        'COMPLETED', 'CANCELED', 'FAILED', 'CRASHED', 'SYSTEM_FAILURE', 'EXPIRED', 'TIMED_OUT')),
    -- Set by the first claim, or by the trigger if it names a version.
    deployment_id       uuid,

    -- As triggered.
    payload             bytea not null,
    payload_type        text not null,
    tags                text[] not null default '{}',
    is_test             boolean not null default false,
    replay_of           uuid,
    parent_id           uuid,
    root_id             uuid not null,
    depth               integer not null default 0,
    batch_id            uuid,
    delay_until         timestamptz,
    -- Milliseconds from queueing to the first start; 0: for ever; null: as the task says.
    ttl_ms              bigint check (ttl_ms >= 0),
    priority_ms         bigint not null default 0,
    -- Overrides of what the task declares; null: as the task says. An attempt that ran out of memory may change the machine.
    max_attempts        integer check (max_attempts between 1 and 250),
    max_duration_ms     bigint check (max_duration_ms >= 0),
    machine             text,

    -- The key as it is compared, as the user wrote it, and in which scope.
    idempotency_key     text,
    idempotency_shown   text,
    idempotency_scope   text,
    idempotency_expires_at timestamptz,
    -- A trigger with the same key gets this run. Cleared by time, by a reset, and by most failures.
    idempotency_active  boolean not null default false,

    -- Its place in the line.
    queue_id            uuid not null,
    -- Empty: none.
    concurrency_key     text not null default '',
    -- When it was queued for the first time, less its priority; kept through waits and retries, so what has begun goes first.
    position            timestamptz,
    -- Its queue was full when its turn came: out of the line until a place is free.
    parked              boolean not null default false,

    -- Who runs it. A write of a worker names its lease, and the epoch grows with every claim.
    epoch               bigint not null default 0,
    lease_worker        uuid,
    lease_expires_at    timestamptz check ((lease_worker is null) = (lease_expires_at is null)),
    cancel_requested_at timestamptz,
    -- Leases lost since the run last got on.
    stalls              integer not null default 0,

    -- When time alone moves it on: the end of a delay, of a wait, of a retry's delay, or of its time to live.
    due_at              timestamptz,

    attempt             integer not null default 0,
    -- The attempt has begun and not ended: a claim goes on with it instead of beginning the next.
    in_attempt          boolean not null default false,
    attempt_started_at  timestamptz,
    -- CPU time of this attempt up to its checkpoint, and of the attempts before it.
    attempt_cpu_ms      bigint not null default 0,
    earlier_cpu_ms      bigint not null default 0,

    -- Text, not jsonb: key order is the user's.
    metadata            json not null default '{}',
    -- Written once.
    output              bytea,
    output_type         text,
    error               json,

    event_seq           bigint not null default 0,
    -- Its logs and events have not been swept away yet.
    logs_kept           boolean not null default true,
    created_at          timestamptz not null default clock_now(),
    updated_at          timestamptz not null default clock_now(),
    started_at          timestamptz,
    finished_at         timestamptz,
    check ((finished_at is not null) = (status in
        ('COMPLETED', 'CANCELED', 'FAILED', 'CRASHED', 'SYSTEM_FAILURE', 'EXPIRED', 'TIMED_OUT')))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);

-- Claims.
create index runs_in_line on runs (position, id) where status = 'QUEUED' and not parked;
create index runs_of_queue on runs (queue_id, concurrency_key, parked, position, id) where status = 'QUEUED';
create index runs_leased on runs (queue_id, concurrency_key) where lease_worker is not null;
-- Sweeps.
create index runs_due on runs (due_at) where due_at is not null;
create index runs_lease_end on runs (lease_expires_at) where lease_expires_at is not null;
create index runs_pending_version on runs (environment_id, task) where status = 'PENDING_VERSION';
create index runs_ended on runs (finished_at) where logs_kept and finished_at is not null;
-- Lists, newest first.
create index runs_newest on runs (environment_id, id desc);
create index runs_of_task on runs (environment_id, task, id desc);
create index runs_tags on runs using gin (tags) where tags <> '{}';
create index runs_children on runs (parent_id) where parent_id is not null;
create unique index runs_idempotency on runs (environment_id, task, idempotency_key) where idempotency_active;

-- The same HTTP request sent twice makes one run, for a day.
create table trigger_requests (
    environment_id uuid not null,
    task           text not null,
    request_key    text not null,
    run_id         uuid not null,
    expires_at     timestamptz not null,
    primary key (environment_id, task, request_key)
);
create index trigger_requests_end on trigger_requests (expires_at);

-- Attempts that have ended; the one that goes on is in the run's own row.
create table attempts (
    run_id      uuid not null,
    number      integer not null check (number between 1 and 250),
    started_at  timestamptz not null,
    finished_at timestamptz not null,
    -- Null if it succeeded.
    error       json,
    cpu_ms      bigint not null,
    primary key (run_id, number)
);

-- What happened to a run, for subscribers and people. Read as "everything after seq".
create table run_events (
    run_id uuid not null,
    seq    bigint not null,
    at     timestamptz not null,
    -- model::event::EventKind.
    kind   text not null,
    -- The run's status after it.
    status text not null,
    primary key (run_id, seq)
);
