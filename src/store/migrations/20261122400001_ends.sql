-- A function's statements see what was committed before they began, not before the statement began that calls it. So one that has
-- locked runs, and perhaps waited for that, sees with these what belongs to them now.

-- Which of these runs are waited for.
create function waited_for(runs uuid[]) returns setof uuid
language plpgsql volatile as $$
begin
    return query select distinct edge.waitpoint_id from run_waits edge where edge.waitpoint_id = any(runs);
end
$$;

-- What the attempts of these runs leave behind goes: edges, answers to calls, checkpoints.
create function leave_nothing(runs uuid[]) returns void
language plpgsql volatile as $$
begin
    delete from run_waits where run_id = any(runs);
    delete from journal where run_id = any(runs);
    delete from checkpoints where run_id = any(runs);
end
$$;
