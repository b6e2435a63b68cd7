-- A small snapshot is kept in its checkpoint's row: a suspension is then one commit and no file. A larger one is a blob as before.
alter table checkpoints
    alter column digest drop not null,
    add column snapshot bytea,
    add check ((digest is null) <> (snapshot is null)),
    -- It is compressed already; without this Postgres would try again.
    alter column snapshot set storage external,
    -- A row is replaced at every wait, and so are the pieces of its snapshot.
    set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_scale_factor = 0.02);
comment on column checkpoints.digest is 'Name of the blob; null: the snapshot is in the row';
drop index checkpoints_by_digest;
create index checkpoints_by_digest on checkpoints (digest) where digest is not null;
