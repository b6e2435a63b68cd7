-- Components as a version of the rewriter made them suspendable. A row says that the blob is durable: blob first, row second.
-- Snapshots fit exactly the bytes they were taken with, so what a checkpoint names stays, whatever version new runs use.
create table rewritings (
    -- Digest of the component as it was uploaded.
    component  text not null,
    rewriter   integer not null,
    -- Digest of the rewritten component, and the name of its blob; never used again for another one.
    digest     text not null unique,
    created_at timestamptz not null default clock_now(),
    -- Nothing needs it: no new run gets it from then on, and a day later, if still nothing does, it goes.
    dropped_at timestamptz,
    primary key (component, rewriter)
);

-- Which rewritten component the snapshot fits. Null: taken before they were kept; it fits what version 2 of the rewriter makes.
-- No foreign key: its check would lock the one row of a component for every run; the sweep looks here instead.
alter table checkpoints add column rewritten text;
create index checkpoints_by_rewritten on checkpoints (rewritten);
