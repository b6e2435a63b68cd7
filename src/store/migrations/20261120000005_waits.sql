-- What a run can wait for, besides a moment: that is the run's own due_at.
create table waitpoints (
    id                     uuid primary key,
    environment_id         uuid not null,
    kind                   text not null check (kind in ('TIMER', 'TOKEN')),
    status                 text not null check (status in ('WAITING', 'COMPLETED', 'TIMED_OUT')),
    -- When a timer elapses or a token times out; kept afterwards, because the API shows it.
    due_at                 timestamptz,
    output                 bytea,
    output_type            text,
    completed_at           timestamptz,
    idempotency_key        text,
    idempotency_expires_at timestamptz,
    -- The same key gets this waitpoint.
    idempotency_active     boolean not null default false,
    tags                   text[] not null default '{}',
    created_at             timestamptz not null default clock_now(),
    check ((completed_at is null) = (status = 'WAITING'))
);
create index waitpoints_due on waitpoints (due_at) where status = 'WAITING' and due_at is not null;
create index waitpoints_tokens on waitpoints (environment_id, id desc) where kind = 'TOKEN';
create unique index waitpoints_idempotency on waitpoints (environment_id, kind, idempotency_key) where idempotency_active;

-- An edge says: the run is suspended and this would queue it. Gone as soon as the run is queued; what the wait came to is
-- read from the waitpoints when the run is claimed.
create table run_waits (
    run_id       uuid not null references runs (id) on delete cascade,
    index        integer not null,
    waitpoint_id uuid not null references waitpoints (id),
    primary key (run_id, index)
);
create index run_waits_of_waitpoint on run_waits (waitpoint_id);

-- Where a run goes on: at most one for each run, of its current attempt.
create table checkpoints (
    run_id       uuid primary key references runs (id) on delete cascade,
    sequence     bigint not null check (sequence > 0),
    -- Name of the blob.
    digest       text not null,
    stored_bytes bigint not null,
    raw_bytes    bigint not null,
    -- model::waitpoint::WaitRequest: what it stopped for.
    wait         json not null,
    created_at   timestamptz not null default clock_now()
);
create index checkpoints_by_digest on checkpoints (digest);

-- Answers to a run's effectful calls since its last checkpoint. A run that lost its host makes them again and gets the same.
create table journal (
    run_id     uuid not null,
    -- The checkpoint the run went on from; 0: the attempt's start.
    sequence   bigint not null,
    -- The call's number since then.
    ordinal    integer not null,
    -- Of the function's name and arguments: another call at the same place acts anew.
    digest     bytea not null check (length(digest) = 32),
    result     json not null,
    primary key (run_id, sequence, ordinal)
);
