-- Immutable: a run is bound to a deployment when it starts and resumes on it for ever.
create table deployments (
    id             uuid primary key,
    environment_id uuid not null references environments (id),
    -- YYYYMMDD.N, counted per environment and day.
    version        text not null,
    -- Digest of the component as it was uploaded, and the name of its blob.
    component      text not null,
    sdk            text not null,
    external_id    text,
    created_at     timestamptz not null default clock_now(),
    unique (environment_id, version)
);
create index deployments_newest on deployments (environment_id, id desc);
create index deployments_by_component on deployments (component);

alter table environments
    add foreign key (current_deployment_id) references deployments (id);

create table tasks (
    deployment_id uuid not null references deployments (id),
    id            text not null,
    -- model::task::TaskDefinition.
    definition    json not null,
    primary key (deployment_id, id)
);

create table queues (
    id                uuid primary key,
    environment_id    uuid not null references environments (id),
    -- `task/<id>` for a task's own queue.
    name              text not null,
    -- What the newest deployment declares; null: no limit. Counts runs that hold a lease, for each concurrency key apart.
    declared_limit    integer check (declared_limit >= 0),
    -- Set by hand; survives deployments.
    override_limit    integer check (override_limit >= 0),
    overridden_at     timestamptz,
    paused            boolean not null default false,
    created_at        timestamptz not null default clock_now(),
    unique (environment_id, name)
);
