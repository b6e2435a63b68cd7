-- What an attempt cost depends on the machine it ran on; a run has several after one ran out of memory.
alter table attempts add column machine text;
comment on column attempts.machine is 'The preset it ran on; null: of before this was kept, on what the run has now';
