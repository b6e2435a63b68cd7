-- What a run says while it goes on (OUT), and what is said to it (IN): streams of chunks, each with an index from 0 without gaps. The
-- row of a stream is the lock under which its chunks are numbered, so no reader sees one before those of lower index. Streams refer
-- to runs without foreign keys: a check would lock the run's row for every chunk; retention deletes them with the run.
create table streams (
    run_id     uuid not null,
    direction  text not null check (direction in ('OUT', 'IN')),
    key        text not null collate "C",
    -- The index that the next chunk gets.
    next_index bigint not null default 0 check (next_index >= 0),
    -- Of all its chunks.
    bytes      bigint not null default 0 check (bytes >= 0),
    created_at timestamptz not null default clock_now(),
    primary key (run_id, direction, key)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

-- Chunks that were appended together are one row: a writer that sends a hundred at a time costs a hundredth of the rows.
create table stream_chunks (
    run_id       uuid not null,
    direction    text not null,
    key          text not null collate "C",
    -- Of the last of its chunks; that of the first follows from their number.
    last_index   bigint not null check (last_index >= 0),
    -- JSON texts; of a value that was sent to the run, its data.
    chunks       text[] not null check (cardinality(chunks) > 0),
    -- Of all of them.
    bytes        bigint not null check (bytes >= 0),
    -- Of a value that was sent to the run.
    content_type text,
    -- Names the append, so that one that is sent again is not written again. Null: nobody would know it again.
    part         text collate "C",
    at           timestamptz not null default clock_now(),
    check (direction = 'OUT' or cardinality(chunks) = 1),
    check ((direction = 'IN') = (content_type is not null)),
    primary key (run_id, direction, key, last_index)
);
create unique index stream_chunks_part on stream_chunks (run_id, direction, key, part) where part is not null;

-- A run can wait for the next value of one of its own input streams.
alter table waitpoints
    drop constraint waitpoints_kind_check,
    add constraint waitpoints_kind_check check (kind in ('TIMER', 'TOKEN', 'INPUT')),
    add column input_stream text collate "C",
    add column input_after bigint,
    add column input_index bigint,
    add check ((input_stream is not null) = (kind = 'INPUT')),
    add check ((input_after is not null) = (kind = 'INPUT'));
comment on column waitpoints.input_stream is 'Of an INPUT: the stream of the run that made it';
comment on column waitpoints.input_after is 'Of an INPUT: values of a higher index complete it; -1: every value does';
comment on column waitpoints.input_index is 'Of a completed INPUT: the index of the value, which is its output';
create index waitpoints_inputs on waitpoints (maker_id, input_stream) where kind = 'INPUT' and status = 'WAITING';
