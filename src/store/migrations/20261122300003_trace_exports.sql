-- How far the export of traces is. One row; who holds it exports.
create table trace_exports (
    name       text primary key,
    -- Runs that ended up to here have been exported, in the order of their ends and ids.
    reached_at timestamptz not null,
    reached_id uuid not null,
    holder     uuid,
    held_until timestamptz not null,
    -- What has been sent in all, and what the collector did not take.
    runs       bigint not null default 0,
    spans      bigint not null default 0,
    refused    bigint not null default 0
);
