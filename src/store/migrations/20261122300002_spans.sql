-- What guests measure. All other spans of a trace follow from other rows.
create table spans (
    run_id         uuid not null,
    -- Eight bytes, as W3C Trace Context has them.
    id             bigint not null,
    attempt        integer not null,
    -- Null: the attempt's span.
    parent_id      bigint,
    name           text not null,
    started_at     timestamptz not null,
    -- Null: it was not ended, and ends with its attempt.
    ended_at       timestamptz,
    attributes     json,
    -- What the end adds to them.
    end_attributes json,
    error          text,
    primary key (run_id, id)
) with (fillfactor = 80);

-- The span that a line belongs to. Null: its attempt's.
alter table logs add column span_id bigint;
