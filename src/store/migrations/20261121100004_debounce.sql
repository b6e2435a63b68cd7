-- Triggers with the same key move one run on for as long as it is delayed; a key that was let go is null.
alter table runs add column debounce_key text;
create unique index runs_debounce on runs (environment_id, task, debounce_key)
    where status = 'DELAYED' and debounce_key is not null;
