-- A token or timer that a run made is kept at least as long as that goes on: it may yet wait for it.
alter table waitpoints add column maker_id uuid;
comment on column waitpoints.maker_id is 'The run that made it; null: made from outside, or before this was kept';
