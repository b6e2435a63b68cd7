-- The one source of time for leases, timers and everything a row says about "when". Tests put it forward by replacing it.
create function clock_now() returns timestamptz
    language sql stable
as $$ select now() $$;
