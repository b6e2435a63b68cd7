-- A run that its parent waits for is part of the parent's trace; any other begins one of its own.
alter table runs add column trace_id uuid;
comment on column runs.trace_id is 'The run whose trace it is part of; null: its own';

-- What an entry tells besides its kind: written with it, read with the trace.
alter table run_events add column data json;
comment on column run_events.data is 'model::trace::Note';
