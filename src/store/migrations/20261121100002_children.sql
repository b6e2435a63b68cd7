-- Runs that runs start, wait for and take with them when they are cancelled; and batches of runs.

-- A run is its own waitpoint: whoever waits for it has an edge to its row, and its end removes that edge. One that waits for a
-- batch has an edge to each of the batch's runs that is not final yet.
alter table run_waits
    drop constraint run_waits_waitpoint_id_fkey,
    add column together integer;
comment on column run_waits.waitpoint_id is 'What is waited for, a waitpoint or a run: no two of them have the same id';
comment on column run_waits.together is 'Edges of a run with the same number are needed together; null: this one alone is enough';

alter table runs add column awaited boolean not null default false;
comment on column runs.awaited is 'Triggered by a run that meant to wait for it';
create index runs_live_children on runs (parent_id) where parent_id is not null and finished_at is null;

-- Cancelled runs that had children in progress then: a sweep cancels those, some at a time, and deletes the row with the last.
create table cancelled_parents (
    run_id       uuid primary key,
    cancelled_at timestamptz not null
);

create table batches (
    id                     uuid primary key,
    environment_id         uuid not null,
    -- FILLING: items come in. MAKING: all are there and are being turned into runs. MADE: all are runs. ABORTED: given up before
    -- all items were there; nothing was started.
    stage                  text not null check (stage in ('FILLING', 'MAKING', 'MADE', 'ABORTED')),
    run_count              integer not null check (run_count between 1 and 1000),
    parent_id              uuid,
    -- Its parent meant to wait for it.
    awaited                boolean not null default false,
    -- The key as it is compared, and as the user wrote it.
    idempotency_key        text,
    idempotency_shown      text,
    idempotency_expires_at timestamptz,
    -- The same key gets this batch.
    idempotency_active     boolean not null default false,
    -- Names the HTTP request that made it: sent again within a day it gets this batch.
    request_key            text,
    created_at             timestamptz not null default clock_now(),
    -- Its last item came, or its stage changed.
    updated_at             timestamptz not null default clock_now(),
    made_at                timestamptz
);
create unique index batches_idempotency on batches (environment_id, idempotency_key) where idempotency_active;
create unique index batches_request on batches (environment_id, request_key) where request_key is not null;
-- Sweeps: what is to be made, and what nobody fills any more.
create index batches_unmade on batches (updated_at) where stage in ('FILLING', 'MAKING');
create index batches_requests_end on batches (created_at) where request_key is not null;

create table batch_items (
    batch_id     uuid not null references batches (id) on delete cascade,
    index        integer not null check (index >= 0),
    task         text not null,
    -- Until it is a run: model::trigger::NewRun without its payload. Null afterwards.
    draft        json,
    payload      bytea,
    payload_type text,
    run_id       uuid,
    -- Why no run could be triggered: run_id is then one that failed for that. Or, before it is made, will.
    error        text,
    error_code   text,
    primary key (batch_id, index)
);
create index batch_items_to_make on batch_items (batch_id, index) where run_id is null;
