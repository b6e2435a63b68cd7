-- The files of a suspended run's scratch directory are part of its checkpoint.
alter table checkpoints
    add column files bytea,
    add column packs text[] not null default '{}',
    -- It is compressed already.
    alter column files set storage external;
comment on column checkpoints.files is 'What the worker needs to make the files again; null: there are none';
comment on column checkpoints.packs is 'Names of the blobs that hold their contents';
create index checkpoints_by_pack on checkpoints using gin (packs) where packs <> '{}';
