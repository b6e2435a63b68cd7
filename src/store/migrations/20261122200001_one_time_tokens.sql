-- A token that is good for one run or one batch, once somebody has used it: kept until the token is void by itself.
create table one_time_tokens (
    environment_id uuid not null references environments (id) on delete cascade,
    digest         bytea not null,
    request_key    text,
    made_id        uuid,
    expires_at     timestamptz not null,
    primary key (environment_id, digest)
);
create index one_time_tokens_end on one_time_tokens (expires_at);
comment on column one_time_tokens.digest is 'SHA-256 of the token as it was presented';
comment on column one_time_tokens.request_key is 'Names the request that used it, which may be sent again; null: it had no name';
comment on column one_time_tokens.made_id is 'The run or batch; written in the transaction that makes it';
