-- The month's row of a workspace is what all its writers share. It is counted up by a trigger that
-- fires as the transaction commits, so no writer waits for another while it talks to the database;
-- only a hold that might not be granted whole locks it before (ADR 0150).

-- Counts what became of a hold in its month, and decides the thresholds that its postings cross.
-- A hold that no longer has room by then is refused as a lost race is (40001): asked again, it
-- sees what is left.
create function ledger.count_hold() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_new bigint;
  v_after bigint;
  v_limit bigint;
  v_revision integer;
begin
  if tg_op = 'INSERT' then
    update ledger.periods p set held = p.held + new.amount
    where p.workspace_id = new.workspace_id and p.period = new.period
      and p.posted + p.held + new.amount <= p.quota_limit;
    if not found then
      raise exception 'hold % has no room for % units any more', new.hold_id, new.amount
        using errcode = 'serialization_failure';
    end if;
    return null;
  end if;
  v_new := new.posted - old.posted;
  update ledger.periods p set posted = p.posted + v_new, held = p.held - v_new - (new.released - old.released)
  where p.workspace_id = new.workspace_id and p.period = new.period
  returning p.posted, p.quota_limit, p.revision into v_after, v_limit, v_revision;
  perform ledger.decide(new.workspace_id, new.period, v_limit, v_revision, v_after - v_new, v_after);
  return null;
end
$$;
create constraint trigger count_hold after insert or update on ledger.holds
  deferrable initially deferred for each row execute function ledger.count_hold();

-- Reserves up to `p_wanted` units and returns how many were granted; asked again with the same
-- hold id it grants nothing new and returns what of it is still open.
create or replace function ledger.hold(p_workspace uuid, p_hold uuid, p_wanted integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_period date := ledger.current_period();
  v_open integer;
  v_left bigint;
  v_granted integer;
begin
  if p_wanted <= 0 then
    raise exception 'a hold takes at least 1 unit, not %', p_wanted using errcode = 'invalid_parameter_value';
  end if;
  select h.amount - h.posted - h.released, p.quota_limit - p.posted - p.held into v_open, v_left
  from (select 1) one left join ledger.holds h on h.hold_id = p_hold
  left join ledger.periods p on p.workspace_id = p_workspace and p.period = v_period;
  if v_open is not null then return v_open; end if;
  if to_regclass(format('ledger.postings_%s', to_char(v_period, 'YYYY_MM'))) is null then
    raise exception 'no partition of ledger.postings for %: call ledger.make_partitions', v_period
      using errcode = 'undefined_table';
  end if;
  if v_left is null then
    perform ledger.ensure_period(p_workspace, v_period);
    v_left := 0;
  elsif v_left <= 0 then
    return 0;
  end if;
  if v_left < 16::bigint * p_wanted then
    -- Others may be about to take it: what there is, seen with the row locked and all counted.
    set constraints ledger.count_hold immediate;
    select least(p_wanted, p.quota_limit - p.posted - p.held)::integer into v_granted
    from ledger.periods p where p.workspace_id = p_workspace and p.period = v_period for update;
    if v_granted <= 0 then return 0; end if;
  else
    v_granted := p_wanted;
  end if;
  insert into ledger.holds (hold_id, workspace_id, period, amount)
  values (p_hold, p_workspace, v_period, v_granted) on conflict do nothing;
  if found then return v_granted; end if;
  -- Asked for twice at once; the other came first.
  return (select h.amount - h.posted - h.released from ledger.holds h where h.hold_id = p_hold);
end
$$;

-- Turns units of a hold into postings, one per effect key, and returns how many are new. A key
-- posted before by this hold changes nothing; one posted by another hold gives its unit back.
create or replace function ledger.post(
  p_hold uuid, p_keys bytea[], p_integrations uuid[], p_sources text[], p_runs uuid[], p_operations text[]
) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_workspace uuid;
  v_period date;
  v_new integer;
  v_absorbed integer := 0;
begin
  select h.workspace_id, h.period into v_workspace, v_period from ledger.holds h where h.hold_id = p_hold;
  if not found then
    raise exception 'there is no hold %', p_hold using errcode = 'no_data_found';
  end if;
  with inserted as (
    insert into ledger.postings (workspace_id, period, effect_key, hold_id, integration_id, source_id, run_id, operation)
    select v_workspace, v_period, u.k, p_hold, u.i, u.s, u.r, u.o
    from unnest(p_keys, p_integrations, p_sources, p_runs, p_operations) u (k, i, s, r, o)
    order by u.k on conflict do nothing returning 1)
  select count(*) into v_new from inserted;
  if v_new < cardinality(p_keys) then
    with absorbed as (
      insert into ledger.absorbed (hold_id, effect_key)
      select p_hold, p.effect_key from ledger.postings p
      where p.workspace_id = v_workspace and p.period = v_period
        and p.effect_key = any (p_keys) and p.hold_id <> p_hold
      on conflict do nothing returning 1)
    select count(*) into v_absorbed from absorbed;
  end if;
  if v_new + v_absorbed = 0 then return 0; end if;
  update ledger.holds h set posted = h.posted + v_new, released = h.released + v_absorbed
  where h.hold_id = p_hold and h.posted + h.released + v_new + v_absorbed <= h.amount;
  if not found then
    raise exception 'hold % has % open units, not %', p_hold,
      (select h.amount - h.posted - h.released from ledger.holds h where h.hold_id = p_hold), v_new + v_absorbed
      using errcode = 'check_violation';
  end if;
  return v_new;
end
$$;

-- Gives units of a hold back.
create or replace function ledger.release(p_hold uuid, p_units integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if p_units = 0 then return; end if;
  update ledger.holds h set released = h.released + p_units
  where h.hold_id = p_hold and p_units > 0 and h.posted + h.released + p_units <= h.amount;
  if not found then
    raise exception 'hold % has not % open units', p_hold, p_units using errcode = 'check_violation';
  end if;
end
$$;

revoke execute on function ledger.count_hold from public;
