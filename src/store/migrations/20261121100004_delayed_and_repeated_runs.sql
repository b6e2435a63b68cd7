-- Triggers with the same key move one run on for as long as it is delayed; a key that was let go is null.
alter table runs add column debounce_key text;
create unique index runs_debounce on runs (environment_id, task, debounce_key)
    where status = 'DELAYED' and debounce_key is not null;

-- What a replay of the run begins with.
alter table runs add column seed_metadata json;
comment on column runs.seed_metadata is 'The metadata as triggered; null: it is still as it was';
