-- ledger: the quota, in two phases (PROTOCOL 5, 9; RELIABILITY 3).
--
-- A hold reserves units before the call, post turns units into postings after it, release gives
-- units back. posted + held <= quota_limit always, except after the limit was lowered. Nothing
-- here lapses by time. The period is the UTC month of the hold.

-- The one clock of quota periods; tests replace it by a shiftable one.
create function ledger.now() returns timestamptz language sql volatile as $$ select clock_timestamp() $$;

create function ledger.current_period() returns date language sql volatile as $$
  select date_trunc('month', ledger.now() at time zone 'UTC')::date
$$;

-- What a workspace may use in a month; without a row: the default of Q1.
create table ledger.limits (
  workspace_id uuid primary key,
  quota_limit bigint not null check (quota_limit >= 0),
  revision integer not null default 1,
  changed_at timestamptz not null default clock_timestamp()
);

create table ledger.periods (
  workspace_id uuid not null,
  period date not null,
  quota_limit bigint not null check (quota_limit >= 0),
  revision integer not null,
  posted bigint not null default 0 check (posted >= 0),
  held bigint not null default 0 check (held >= 0),
  primary key (workspace_id, period)
) with (fillfactor = 50);

create table ledger.holds (
  hold_id uuid primary key,
  workspace_id uuid not null,
  period date not null,
  amount integer not null check (amount > 0),
  posted integer not null default 0,
  released integer not null default 0,
  created_at timestamptz not null default clock_timestamp(),
  check (posted >= 0 and released >= 0 and posted + released <= amount)
) with (fillfactor = 70);
create index on ledger.holds (workspace_id, period) where posted + released < amount;

create table ledger.postings (
  workspace_id uuid not null,
  period date not null,
  effect_key bytea not null,
  hold_id uuid not null,
  integration_id uuid not null,
  source_id text not null,
  run_id uuid not null,
  operation text not null,
  posted_at timestamptz not null default clock_timestamp(),
  primary key (workspace_id, period, effect_key)
) partition by range (period);

-- A key that another hold had posted already gave its unit back; remembered, so that a repeated
-- post does not give it back twice.
create table ledger.absorbed (
  hold_id uuid not null,
  effect_key bytea not null,
  primary key (hold_id, effect_key)
);

-- Exactly one decision per period, limit revision and threshold (Q2, Q3).
create table ledger.decisions (
  workspace_id uuid not null,
  period date not null,
  revision integer not null,
  threshold integer not null check (threshold in (80, 100)),
  used bigint not null,
  decided_at timestamptz not null default clock_timestamp(),
  primary key (workspace_id, period, revision, threshold)
);

create table ledger.outbox (
  id bigint generated always as identity primary key,
  topic text not null,
  key text not null,
  body bytea not null,
  claimed_until timestamptz,
  created_at timestamptz not null default clock_timestamp()
);

call config.protect('ledger.limits');
call config.protect('ledger.periods');
call config.protect('ledger.holds');
call config.protect('ledger.postings');
call config.protect('ledger.decisions');

-- Makes the postings' partitions of this month and the next `p_months`; a missing one makes every
-- hold fail, on purpose.
create function ledger.make_partitions(p_months integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_month date;
  v_made integer := 0;
begin
  perform pg_advisory_xact_lock(hashtext('ledger.make_partitions'));
  for v_month in
    select (ledger.current_period() + make_interval(months => n))::date from generate_series(0, p_months) n
  loop
    if to_regclass(format('ledger.postings_%s', to_char(v_month, 'YYYY_MM'))) is null then
      execute format(
        'create table ledger.%I partition of ledger.postings for values from (%L) to (%L)',
        'postings_' || to_char(v_month, 'YYYY_MM'), v_month, (v_month + interval '1 month')::date);
      execute format('call config.protect(%L)', 'ledger.postings_' || to_char(v_month, 'YYYY_MM'));
      v_made := v_made + 1;
    end if;
  end loop;
  return v_made;
end
$$;
-- This month and three ahead; the accountant goes on from here.
select ledger.make_partitions(3);

create function ledger.publish(p_workspace uuid, p_dedup text, p_body jsonb) returns void
language sql as $$
  insert into ledger.outbox (topic, key, body)
  values ('quota.changed.v1', p_workspace::text, convert_to(
    (jsonb_build_object('type', 'quota_changed', 'id', md5(p_dedup)::uuid, 'workspace', p_workspace,
      'at', to_char(ledger.now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')) || p_body)::text, 'UTF8'))
$$;

-- Decides the thresholds that use has just crossed, from `p_before` to `p_after`; both at once
-- are one decision to tell (the 80 is kept, but only the 100 is published, with `both`).
create function ledger.decide(
  p_workspace uuid, p_period date, p_limit bigint, p_revision integer, p_before bigint, p_after bigint
) returns void language plpgsql as $$
declare
  v_80 boolean := p_before * 100 < p_limit * 80 and p_after * 100 >= p_limit * 80;
  v_100 boolean := p_before < p_limit and p_after >= p_limit;
begin
  if not (v_80 or v_100) then return; end if;
  if v_80 then
    insert into ledger.decisions (workspace_id, period, revision, threshold, used)
    values (p_workspace, p_period, p_revision, 80, p_after) on conflict do nothing;
    v_80 := found;
  end if;
  if v_100 then
    insert into ledger.decisions (workspace_id, period, revision, threshold, used)
    values (p_workspace, p_period, p_revision, 100, p_after) on conflict do nothing;
    v_100 := found;
  end if;
  if v_80 or v_100 then
    perform ledger.publish(
      p_workspace, format('quota:%s:%s:%s:%s', p_workspace, p_period, p_revision, case when v_100 then 100 else 80 end),
      jsonb_build_object('kind', 'threshold', 'period', p_period, 'limit', p_limit, 'revision', p_revision,
        'used', p_after, 'threshold', case when v_100 then 100 else 80 end, 'both', v_80 and v_100));
  end if;
end
$$;

-- The row of a workspace's month, made when it is first needed; a limit of 0 is used up at once.
create function ledger.ensure_period(p_workspace uuid, p_period date) returns void
language plpgsql as $$
declare
  v_limit bigint;
  v_revision integer;
begin
  insert into ledger.periods (workspace_id, period, quota_limit, revision)
  select p_workspace, p_period, coalesce(l.quota_limit, 100000), coalesce(l.revision, 1)
  from (select 1) one left join ledger.limits l on l.workspace_id = p_workspace
  on conflict do nothing
  returning quota_limit, revision into v_limit, v_revision;
  if found and v_limit = 0 then
    perform ledger.decide(p_workspace, p_period, 0, v_revision, -1, 0);
  end if;
end
$$;

-- Reserves up to `p_wanted` units and returns how many were granted; asked again with the same
-- hold id it grants nothing new and returns what of it is still open.
create function ledger.hold(p_workspace uuid, p_hold uuid, p_wanted integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_period date := ledger.current_period();
  v_granted integer;
begin
  if p_wanted <= 0 then
    raise exception 'a hold takes at least 1 unit, not %', p_wanted using errcode = 'invalid_parameter_value';
  end if;
  select h.amount - h.posted - h.released into v_granted from ledger.holds h where h.hold_id = p_hold;
  if found then return v_granted; end if;
  if to_regclass(format('ledger.postings_%s', to_char(v_period, 'YYYY_MM'))) is null then
    raise exception 'no partition of ledger.postings for %: call ledger.make_partitions', v_period
      using errcode = 'undefined_table';
  end if;
  perform ledger.ensure_period(p_workspace, v_period);
  update ledger.periods p set held = p.held + p_wanted
  where p.workspace_id = p_workspace and p.period = v_period and p.posted + p.held + p_wanted <= p.quota_limit;
  if found then
    v_granted := p_wanted;
  else
    select least(p_wanted, greatest(p.quota_limit - p.posted - p.held, 0))::integer into v_granted
    from ledger.periods p where p.workspace_id = p_workspace and p.period = v_period for update;
    if v_granted = 0 then return 0; end if;
    update ledger.periods p set held = p.held + v_granted
    where p.workspace_id = p_workspace and p.period = v_period;
  end if;
  insert into ledger.holds (hold_id, workspace_id, period, amount)
  values (p_hold, p_workspace, v_period, v_granted);
  return v_granted;
end
$$;

-- Turns units of a hold into postings, one per effect key, and returns how many are new. A key
-- posted before by this hold changes nothing; one posted by another hold gives its unit back.
create function ledger.post(
  p_hold uuid, p_keys bytea[], p_integrations uuid[], p_sources text[], p_runs uuid[], p_operations text[]
) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_hold ledger.holds;
  v_new integer;
  v_absorbed integer := 0;
  v_before bigint;
  v_after bigint;
  v_limit bigint;
  v_revision integer;
begin
  select h.* into v_hold from ledger.holds h where h.hold_id = p_hold for update;
  if not found then
    raise exception 'there is no hold %', p_hold using errcode = 'no_data_found';
  end if;
  with inserted as (
    insert into ledger.postings (workspace_id, period, effect_key, hold_id, integration_id, source_id, run_id, operation)
    select v_hold.workspace_id, v_hold.period, u.k, p_hold, u.i, u.s, u.r, u.o
    from unnest(p_keys, p_integrations, p_sources, p_runs, p_operations) u (k, i, s, r, o)
    order by u.k on conflict do nothing returning 1)
  select count(*) into v_new from inserted;
  if v_new < cardinality(p_keys) then
    with absorbed as (
      insert into ledger.absorbed (hold_id, effect_key)
      select p_hold, p.effect_key from ledger.postings p
      where p.workspace_id = v_hold.workspace_id and p.period = v_hold.period
        and p.effect_key = any (p_keys) and p.hold_id <> p_hold
      on conflict do nothing returning 1)
    select count(*) into v_absorbed from absorbed;
  end if;
  if v_new + v_absorbed = 0 then return 0; end if;
  if v_hold.posted + v_hold.released + v_new + v_absorbed > v_hold.amount then
    raise exception 'hold % has % open units, not %', p_hold,
      v_hold.amount - v_hold.posted - v_hold.released, v_new + v_absorbed using errcode = 'check_violation';
  end if;
  update ledger.holds h set posted = h.posted + v_new, released = h.released + v_absorbed where h.hold_id = p_hold;
  -- The counter comes last: its row is the one that all writers of a workspace share.
  update ledger.periods p set posted = p.posted + v_new, held = p.held - v_new - v_absorbed
  where p.workspace_id = v_hold.workspace_id and p.period = v_hold.period
  returning old.posted, new.posted, new.quota_limit, new.revision into v_before, v_after, v_limit, v_revision;
  perform ledger.decide(v_hold.workspace_id, v_hold.period, v_limit, v_revision, v_before, v_after);
  return v_new;
end
$$;

-- Gives units of a hold back.
create function ledger.release(p_hold uuid, p_units integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_workspace uuid;
  v_period date;
begin
  if p_units = 0 then return; end if;
  update ledger.holds h set released = h.released + p_units
  where h.hold_id = p_hold and p_units > 0 and h.posted + h.released + p_units <= h.amount
  returning h.workspace_id, h.period into v_workspace, v_period;
  if not found then
    raise exception 'hold % has not % open units', p_hold, p_units using errcode = 'check_violation';
  end if;
  update ledger.periods p set held = p.held - p_units
  where p.workspace_id = v_workspace and p.period = v_period;
end
$$;

-- Whether a workspace may write now; "stopped" is the negation, computed, never stored.
create function ledger.is_open(p_workspace uuid) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
  select coalesce(
    (select p.posted + p.held < p.quota_limit from ledger.periods p
     where p.workspace_id = p_workspace and p.period = ledger.current_period()),
    (select l.quota_limit > 0 from ledger.limits l where l.workspace_id = p_workspace),
    true)
$$;

-- Sets the limit from now on, in force with the next hold; below use, 100 % is decided at once.
create function ledger.set_limit(p_workspace uuid, p_limit bigint) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_period date := ledger.current_period();
  v_revision integer;
  v_posted bigint;
  v_changed boolean;
begin
  insert into ledger.limits as l (workspace_id, quota_limit) values (p_workspace, p_limit)
  on conflict (workspace_id) do update
    set quota_limit = excluded.quota_limit, changed_at = clock_timestamp(), revision = l.revision + 1
    where l.quota_limit <> excluded.quota_limit
  returning l.revision into v_revision;
  v_changed := found;
  perform ledger.ensure_period(p_workspace, v_period);
  if not v_changed then
    return (select l.revision from ledger.limits l where l.workspace_id = p_workspace);
  end if;
  update ledger.periods p set quota_limit = p_limit, revision = greatest(p.revision, v_revision)
  where p.workspace_id = p_workspace and p.period = v_period
  returning p.posted, p.revision into v_posted, v_revision;
  perform ledger.publish(
    p_workspace, format('limit:%s:%s:%s', p_workspace, v_period, v_revision),
    jsonb_build_object('kind', 'limit_changed', 'period', v_period, 'limit', p_limit, 'revision', v_revision, 'used', v_posted));
  perform ledger.decide(p_workspace, v_period, p_limit, v_revision, -1, v_posted);
  return v_revision;
end
$$;

-- Whether a threshold of a period and revision was decided; the notifier asks before an 80 % mail.
create function ledger.is_decided(p_workspace uuid, p_period date, p_revision integer, p_threshold integer) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
  select exists (select from ledger.decisions d where d.workspace_id = p_workspace and d.period = p_period
    and d.revision = p_revision and d.threshold = p_threshold)
$$;

grant select on ledger.limits, ledger.periods, ledger.holds, ledger.postings, ledger.decisions
  to contactsync_api, contactsync_operator, contactsync_quota;
grant select, update, delete on ledger.outbox to contactsync_quota;

revoke execute on all functions in schema ledger from public;
grant execute on function ledger.now, ledger.current_period to contactsync_api, contactsync_operator, contactsync_quota, contactsync_writer, contactsync_poller, contactsync_notifier;
grant execute on function ledger.hold, ledger.post, ledger.release to contactsync_writer;
grant execute on function ledger.is_open to contactsync_poller, contactsync_writer, contactsync_api, contactsync_quota, contactsync_operator;
grant execute on function ledger.set_limit to contactsync_operator, contactsync_quota;
grant execute on function ledger.is_decided to contactsync_notifier, contactsync_quota;
grant execute on function ledger.make_partitions to contactsync_quota;
