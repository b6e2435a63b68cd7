-- Many runs that are cancelled or replayed together, some in each transaction, from the newest to the oldest.
create table bulk_actions (
    id             uuid primary key,
    environment_id uuid not null references environments (id) on delete cascade,
    kind           text not null check (kind in ('CANCEL', 'REPLAY')),
    status         text not null check (status in ('PENDING', 'COMPLETED', 'ABORTED')),
    name           text,
    filter         json,
    run_ids        uuid[],
    reached_id     uuid,
    request_key    text,
    total          bigint not null,
    success        bigint not null default 0,
    failure        bigint not null default 0,
    created_at     timestamptz not null default clock_now(),
    completed_at   timestamptz,
    check ((filter is null) <> (run_ids is null))
);
create unique index bulk_actions_requests on bulk_actions (environment_id, request_key) where request_key is not null;
create index bulk_actions_newest on bulk_actions (environment_id, id desc);
create index bulk_actions_pending on bulk_actions (id) where status = 'PENDING';
create index bulk_actions_end on bulk_actions (completed_at) where completed_at is not null;
comment on column bulk_actions.request_key is 'The HTTP request that made it; sent again, it makes no second one';
comment on column bulk_actions.reached_id is 'The last run that was dealt with: the rest is older';

-- The runs that an action cancelled or made.
create table bulk_action_runs (
    bulk_action_id uuid not null references bulk_actions (id) on delete cascade,
    run_id         uuid not null references runs (id) on delete cascade,
    primary key (bulk_action_id, run_id)
);
create index bulk_action_runs_of_run on bulk_action_runs (run_id);
