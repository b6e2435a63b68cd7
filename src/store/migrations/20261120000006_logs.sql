create table logs (
    run_id     uuid not null,
    -- From 1, without gaps; a run's lines are bounded, and the last one says so.
    line       integer not null,
    attempt    integer not null,
    at         timestamptz not null,
    level      text not null check (level in ('debug', 'log', 'info', 'warn', 'error')),
    source     text not null check (source in ('logger', 'stdout', 'stderr', 'host')),
    message    text not null,
    attributes json,
    primary key (run_id, line)
);
