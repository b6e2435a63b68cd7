-- What a large snapshot has beside its own bytes: pages that did not change since an earlier one.
alter table checkpoints add column pages text[] not null default '{}';
comment on column checkpoints.pages is 'Names of the blobs that hold pages of its memories';
create index checkpoints_by_pages on checkpoints using gin (pages) where pages <> '{}';
