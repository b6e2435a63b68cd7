-- A branch of the preview environment is an environment of its own. It has no keys: those of its parent open it.
alter table environments
    add column parent_id uuid references environments (id),
    add column branch text,
    drop constraint environments_project_id_kind_key,
    add check ((parent_id is null) = (branch is null)),
    add check (branch is null or kind = 'preview');
comment on column environments.parent_id is 'Of a branch: the project''s preview environment';
comment on column environments.branch is 'As its repository calls it';
create unique index environments_of_project on environments (project_id, kind) where parent_id is null;
create unique index environments_of_branch on environments (parent_id, branch) where parent_id is not null;

-- Keys are never deleted: a server that is started with one in its settings would make it good again.
alter table api_keys add column hint text not null default '';
comment on column api_keys.hint is 'The end of the key, for people to tell keys apart';
update api_keys set hint = right(root_secret, 4) where root_secret is not null;

-- Values are encrypted. Those of before have theirs in `value` until a server that has a key starts.
alter table variables
    alter column value drop not null,
    add column sealed bytea,
    add column key_id text,
    -- It is noise: there is nothing to compress.
    alter column sealed set storage external,
    add check ((value is null) <> (sealed is null)),
    add check ((sealed is null) = (key_id is null));
comment on column variables.sealed is 'Nonce and ciphertext, see store::seal; bound to environment, name and is_secret';
comment on column variables.key_id is 'Which encryption key opens it';

-- When it last became the current one; null: never. A rollback goes back to one that has been.
alter table deployments
    add column promoted_at timestamptz,
    add column queues json;
comment on column deployments.queues is 'Limits that it declares, by queue, for when it becomes the current one; null: of before these were kept';
update deployments set promoted_at = created_at;
create index deployments_by_external_id on deployments (environment_id, external_id, id desc) where external_id is not null;

-- The deployment that a run is pinned to by the user's own name for it. Until that is there, the run has no deployment_id.
alter table runs add column external_deployment text;
create index runs_pinned on runs (environment_id, external_deployment)
    where external_deployment is not null and deployment_id is null and finished_at is null;
