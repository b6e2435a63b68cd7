create table projects (
    id         uuid primary key,
    -- What users see and write: `proj_…`.
    ref        text not null unique,
    name       text not null,
    created_at timestamptz not null default clock_now()
);

create table environments (
    id                    uuid primary key,
    project_id            uuid not null references projects (id),
    kind                  text not null check (kind in ('dev', 'stg', 'preview', 'prod')),
    -- What a run that is not bound to a version starts on. Null until the first promotion.
    current_deployment_id uuid,
    created_at            timestamptz not null default clock_now(),
    unique (project_id, kind)
);

create table api_keys (
    id             uuid primary key,
    environment_id uuid not null references environments (id),
    name           text not null,
    -- How a request's key is found; keys are random, so a plain hash is enough.
    secret_sha256  bytea not null unique check (length(secret_sha256) = 32),
    -- Only a root key is kept as it is, because the tokens that clients sign with it have to be checked.
    root_secret    text,
    created_at     timestamptz not null default clock_now(),
    -- Set while a rotated key is still accepted, and for keys made to expire.
    expires_at     timestamptz
);
create index api_keys_of_environment on api_keys (environment_id, created_at);

-- What the guests of an environment see as environment variables.
create table variables (
    environment_id uuid not null references environments (id),
    name           text not null,
    value          text not null,
    -- Never shown again once written.
    is_secret      boolean not null default false,
    updated_at     timestamptz not null default clock_now(),
    primary key (environment_id, name)
);
