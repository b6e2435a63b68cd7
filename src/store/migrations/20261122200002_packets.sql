-- Payloads that clients put into the blob store before they trigger, by the path that they chose. A run that is triggered with one
-- names its blob itself; a path is forgotten after a day.
create table packets (
    environment_id uuid not null references environments (id) on delete cascade,
    path           text not null,
    digest         text not null,
    content_type   text not null,
    size_bytes     bigint not null,
    created_at     timestamptz not null default clock_now(),
    primary key (environment_id, path)
);
create index packets_blobs on packets (digest);
create index packets_age on packets (created_at);

-- Such a run's payload begins with the blob's digest, 64 characters: what the blob store's sweep asks for.
create index runs_stored_payloads on runs (substring(payload from 1 for 64)) where payload_type = 'application/store';
