-- Tasks that are started by the clock. The row is the lock: who fires it writes the run and its next time in one transaction.
create table schedules (
    id                uuid primary key,
    project_id        uuid not null references projects (id),
    -- Where its runs are. The same key sent from another environment moves it there.
    environment_id    uuid not null references environments (id),
    kind              text not null check (kind in ('DECLARATIVE', 'IMPERATIVE')),
    task              text not null,
    -- Within the project. A declarative one is found by its environment and task.
    deduplication_key text,
    external_id       text,
    cron              text not null,
    timezone          text not null,
    -- `30m`, `2h`, `50%`: how far it may be from the expression's time. Null: not at all.
    spread            text,
    active            boolean not null,
    -- The time that comes next, as the expression has it. Null: it does not fire.
    next_run_at       timestamptz,
    -- When it fires for that, within its spread.
    due_at            timestamptz,
    -- The time for which it fired last.
    last_run_at       timestamptz,
    created_at        timestamptz not null default clock_now(),
    updated_at        timestamptz not null default clock_now(),
    check ((deduplication_key is null) = (kind = 'DECLARATIVE')),
    check ((next_run_at is null) = (due_at is null)),
    check (active or due_at is null)
) with (fillfactor = 70);
create unique index schedules_by_key on schedules (project_id, deduplication_key);
create unique index schedules_declared on schedules (environment_id, task) where kind = 'DECLARATIVE';
create index schedules_due on schedules (due_at) where due_at is not null;
create index schedules_newest on schedules (environment_id, id desc);

-- Which schedule started it. No foreign key: a schedule may go, its runs stay.
alter table runs add column schedule_id uuid;
create index runs_of_schedule on runs (schedule_id, id desc) where schedule_id is not null;
