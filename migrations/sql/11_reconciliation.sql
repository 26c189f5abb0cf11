-- The accountant's part of the ledger: one accountant at a time, counters held against what they
-- count, and an end to what nobody needs any more (RELIABILITY 3.1 10, 7).

-- Who is the accountant. A row with a time, not a lock of a session: a process that hangs, or whose
-- machine was stopped, keeps its session and so its lock. `token` counts the terms.
create table ledger.accountant (
  only_one boolean primary key default true check (only_one),
  owner uuid,
  lease_until timestamptz,
  token bigint not null default 0
);
insert into ledger.accountant default values;

-- Makes `p_owner` the accountant for `p_ttl` from now, or prolongs its term; null while it is another.
-- Who comes new lets the rows go that the one before was publishing: with it gone, nobody is. If it is
-- there after all, they are told twice, which a reader of the topic stands.
create function ledger.claim_accounts(p_owner uuid, p_ttl interval) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_token bigint;
  v_is_new boolean;
begin
  update ledger.accountant a set owner = p_owner, lease_until = clock_timestamp() + p_ttl,
    token = a.token + (a.owner is distinct from p_owner)::integer
  where a.owner is null or a.owner = p_owner or a.lease_until < clock_timestamp()
  returning a.token, old.owner is distinct from new.owner into v_token, v_is_new;
  if v_is_new then
    update ledger.outbox set claimed_until = null where claimed_until is not null;
  end if;
  return v_token;
end
$$;

-- Lets another be the accountant at once.
create function ledger.let_accounts_go(p_owner uuid) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  update ledger.accountant set owner = null, lease_until = null where owner = p_owner
$$;

-- Finished holds and what they absorbed are kept for the months from here on.
create function ledger.holds_kept_since() returns date language sql stable as $$
  select (ledger.current_period() - interval '1 month')::date
$$;

-- The index had a condition on `posted` and `released`, so no update of a hold could stay in its page.
drop index ledger.holds_workspace_id_period_idx;
create index holds_month on ledger.holds (period, workspace_id);

-- Holds a workspace's month against what it stands on. Each row is one check: what is kept, what was
-- found, how many of the things compared differ, and some of them. It is stable: everything is
-- read in the snapshot of the one statement that calls it. Writers change all of it in one
-- transaction, so none of them is ever half done in a snapshot.
--
--   posted   the month's counter / its postings
--   held     the month's counter / the open units of its holds
--   holds    what holds say was posted / their postings; a hold at a time
--   units    the open units of holds / the units that the writer keeps for contacts; a hold at a time
--   links    postings / those of a contact that the writer knows
--   settled  postings / contacts told of as written; a run at a time
create function ledger.look(p_workspace uuid, p_period date)
returns table (check_name text, kept bigint, found bigint, odd bigint, examples text[])
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_is_recent boolean := p_period >= ledger.holds_kept_since();
begin
  return query
  with counted as materialized (
    select p.hold_id, count(*) as n from ledger.postings p
    where p.workspace_id = p_workspace and p.period = p_period group by p.hold_id),
  own as materialized (
    select h.hold_id, h.posted::bigint as posted, (h.amount - h.posted - h.released)::bigint as open
    from ledger.holds h where h.workspace_id = p_workspace and h.period = p_period),
  month as (
    select coalesce(sum(p.posted), 0)::bigint as posted, coalesce(sum(p.held), 0)::bigint as held
    from ledger.periods p where p.workspace_id = p_workspace and p.period = p_period),
  by_hold as (
    select hold_id, coalesce(own.posted, 0) as kept, coalesce(counted.n, 0) as n
    from own full join counted using (hold_id)),
  units as materialized (
    select n.hold_id, sum(case json_typeof(u.units) when 'object' then json_array_length(u.units -> 'rows')
                               else json_array_length(u.units) end)::bigint as n
    from delivery.intents n cross join lateral (select convert_from(n.units, 'UTF8')::json) u (units)
    where n.workspace_id = p_workspace group by n.hold_id),
  by_unit as (
    select hold_id, coalesce(own.open, 0) as kept, coalesce(units.n, 0) as n
    from own full join units using (hold_id)
    where own.hold_id is not null or (p_period = ledger.current_period()
      and not exists (select from ledger.holds h where h.hold_id = units.hold_id)))
  select 'posted', month.posted, c.n, (month.posted <> c.n)::integer::bigint, '{}'::text[]
  from month, (select coalesce(sum(counted.n), 0)::bigint as n from counted) c
  union all
  select 'held', month.held, c.n, (month.held <> c.n)::integer::bigint, '{}'
  from month, (select coalesce(sum(own.open), 0)::bigint as n from own) c
  union all
  select 'holds', coalesce(sum(b.kept), 0)::bigint, coalesce(sum(b.n), 0)::bigint, count(*) filter (where b.kept <> b.n),
    coalesce((array_agg(b.hold_id::text order by b.hold_id) filter (where b.kept <> b.n))[:5], '{}')
  from by_hold b where v_is_recent
  union all
  select 'units', coalesce(sum(b.kept), 0)::bigint, coalesce(sum(b.n), 0)::bigint, count(*) filter (where b.kept <> b.n),
    coalesce((array_agg(b.hold_id::text order by b.hold_id) filter (where b.kept <> b.n))[:5], '{}')
  from by_unit b
  union all
  select 'links', count(*), count(*) filter (where l.source_id is not null), count(*) filter (where l.source_id is null),
    coalesce((array_agg(distinct p.run_id::text) filter (where l.source_id is null))[:5], '{}')
  from ledger.postings p
  left join delivery.links l on l.integration_id = p.integration_id and l.source_id = p.source_id
  where p.workspace_id = p_workspace and p.period = p_period
  union all
  select 'settled', l.kept, l.found, l.odd, l.examples from ledger.look_at_runs(p_workspace, p_period) l
  where v_is_recent;
end
$$;

-- The check `settled` of `ledger.look`. What was told travels over Kafka, so less than what was posted
-- may be in flight. It is not any more if the integration has had a whole run since: an
-- integration's outcomes are counted in the order in which they were told. More than what was
-- posted can never be; an effect that another hold had charged before was told without a posting.
create function ledger.look_at_runs(p_workspace uuid, p_period date)
returns table (kept bigint, found bigint, odd bigint, examples text[])
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_runs uuid[];
begin
  select array_agg(run_id) into v_runs
  from (select p.run_id, count(*) as n from ledger.postings p
        where p.workspace_id = p_workspace and p.period = p_period group by p.run_id) counted
  full join (select r.run_id, ledger.told(r) as n
             from sync.runs s join activity.runs r on r.run_id = s.run_id
             where s.workspace_id = p_workspace and s.started_at >= p_period at time zone 'UTC'
               and s.started_at < (p_period + interval '1 month') at time zone 'UTC') ended using (run_id)
  left join activity.runs r using (run_id)
  where coalesce(counted.n, 0) <> coalesce(ended.n, ledger.told(r), 0);
  return query
  with posted as (
    select p.run_id, count(*) as n, max(p.posted_at) as newest_at from ledger.postings p
    where p.workspace_id = p_workspace and p.run_id = any (v_runs) group by p.run_id),
  absorbed as (
    select p.run_id, count(*) as n
    from ledger.absorbed a join ledger.holds h on h.hold_id = a.hold_id and h.workspace_id = p_workspace
    join ledger.postings p on p.workspace_id = h.workspace_id and p.period = h.period and p.effect_key = a.effect_key
    where p.run_id = any (v_runs) group by p.run_id),
  compared as (
    select run_id, coalesce(posted.n, 0) as kept, coalesce(ledger.told(r), 0) as told
    from unnest(v_runs) v (run_id) left join posted using (run_id) left join absorbed using (run_id)
    left join activity.runs r using (run_id)
    where coalesce(ledger.told(r), 0) > coalesce(posted.n, 0) + coalesce(absorbed.n, 0)
      or (coalesce(ledger.told(r), 0) < coalesce(posted.n, 0) and exists (
        select from sync.runs s join sync.runs later on later.integration_id = s.integration_id and later.run_no > s.run_no
        join activity.runs whole on whole.run_id = later.run_id and whole.state = 'complete'
        where s.run_id = v.run_id and later.started_at > posted.newest_at + interval '10 minutes')))
  select coalesce(sum(c.kept), 0)::bigint, coalesce(sum(c.told), 0)::bigint, count(*),
    coalesce((array_agg(c.run_id::text order by c.run_id))[:5], '{}')
  from compared c;
end
$$;

-- How many contacts of a run were told of as written, drains among them.
create function ledger.told(p_run activity.runs) returns bigint language sql immutable as $$
  select p_run.created + p_run.updated + p_run.removed
    + coalesce((p_run.settled_later ->> 'created')::bigint, 0)
    + coalesce((p_run.settled_later ->> 'updated')::bigint, 0)
    + coalesce((p_run.settled_later ->> 'removed')::bigint, 0)
$$;

-- What each look found.
create table ledger.reconciliations (
  reconciliation_id uuid primary key,
  workspace_id uuid not null,
  period date not null,
  looked_at timestamptz not null default clock_timestamp(),
  has_drift boolean not null,
  report jsonb not null
);
create index on ledger.reconciliations (workspace_id, period, looked_at);
create index on ledger.reconciliations (reconciliation_id) where has_drift;
create index on ledger.reconciliations (looked_at);
call config.protect('ledger.reconciliations');

-- Drifts that stood at the last look; `looks` counts those that found the same amount in a row.
create table ledger.drifts (
  workspace_id uuid not null,
  period date not null,
  check_name text not null,
  drift bigint not null,
  looks integer not null default 1,
  first_at timestamptz not null default clock_timestamp(),
  told_at timestamptz,
  told_drift bigint,
  primary key (workspace_id, period, check_name)
);
call config.protect('ledger.drifts');

-- Keeps what a look found, and tells of a drift once: again if it comes back, or after a day if its
-- amount is another. `p_drifts`: [{check, drift, looks}], where `looks` is how many in a row it takes
-- to believe it. Refuses who is the accountant no longer. Returns how many it told of; kept twice, a
-- look counts once.
create function ledger.keep_reconciliation(
  p_token bigint, p_id uuid, p_workspace uuid, p_period date, p_report jsonb, p_drifts jsonb
) returns integer language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_drift record;
  v_month record;
  v_told integer := 0;
begin
  perform from ledger.accountant a where a.token = p_token and a.lease_until > clock_timestamp() for share;
  if not found then
    raise exception 'term % of the accountant is over', p_token using errcode = 'object_not_in_prerequisite_state';
  end if;
  insert into ledger.reconciliations (reconciliation_id, workspace_id, period, has_drift, report)
  values (p_id, p_workspace, p_period, jsonb_array_length(p_drifts) > 0, p_report) on conflict do nothing;
  if not found then return 0; end if;
  delete from ledger.drifts d where d.workspace_id = p_workspace and d.period = p_period
    and not exists (select from jsonb_array_elements(p_drifts) e where e ->> 'check' = d.check_name);
  insert into ledger.drifts as d (workspace_id, period, check_name, drift)
  select p_workspace, p_period, e ->> 'check', (e ->> 'drift')::bigint from jsonb_array_elements(p_drifts) e
  on conflict (workspace_id, period, check_name) do update set drift = excluded.drift,
    looks = case when d.drift = excluded.drift then d.looks + 1 else 1 end;
  select coalesce(p.quota_limit, 0) as quota_limit, coalesce(p.revision, 0) as revision, coalesce(p.posted, 0) as used into v_month
  from (select 1) one left join ledger.periods p on p.workspace_id = p_workspace and p.period = p_period;
  for v_drift in
    update ledger.drifts d set told_at = clock_timestamp(), told_drift = d.drift
    from jsonb_array_elements(p_drifts) e
    where d.workspace_id = p_workspace and d.period = p_period and d.check_name = e ->> 'check'
      and d.looks >= (e ->> 'looks')::integer
      and (d.told_at is null or (d.told_drift <> d.drift and d.told_at < clock_timestamp() - interval '1 day'))
    returning d.check_name, d.drift, d.told_at
  loop
    perform ledger.publish(p_workspace,
      format('drift:%s:%s:%s:%s', p_workspace, p_period, v_drift.check_name, v_drift.told_at),
      jsonb_build_object('kind', 'drift', 'period', p_period, 'limit', v_month.quota_limit, 'revision', v_month.revision,
        'used', v_month.used, 'check', v_drift.check_name, 'drift', v_drift.drift));
    v_told := v_told + 1;
  end loop;
  return v_told;
end
$$;

-- Deletes some of what nobody needs any more; returns how many rows. A finished hold has no open unit,
-- so no intent names it and nobody will post or release it. A batch of its month could only
-- ask for it once more out of a topic, which keeps a record for two weeks at most. Of looks, those
-- that found nothing are kept for a week, the others as long as postings.
create function ledger.forget(p_rows integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_holds uuid[];
  v_count integer;
  v_forgotten integer;
begin
  with gone as (
    delete from ledger.holds h where h.hold_id in (
      select o.hold_id from ledger.holds o
      where o.period < ledger.holds_kept_since() and o.posted + o.released = o.amount
      limit p_rows for update skip locked)
    returning h.hold_id)
  select coalesce(array_agg(hold_id), '{}') into v_holds from gone;
  v_forgotten := cardinality(v_holds);
  delete from ledger.absorbed a where a.hold_id = any (v_holds);
  get diagnostics v_count = row_count;
  v_forgotten := v_forgotten + v_count;
  delete from ledger.reconciliations r where r.reconciliation_id in (
    select o.reconciliation_id from ledger.reconciliations o
    where o.looked_at < clock_timestamp() - interval '7 days'
      and (not o.has_drift or o.looked_at < clock_timestamp() - interval '13 months')
    limit p_rows);
  get diagnostics v_count = row_count;
  return v_forgotten + v_count;
end
$$;

-- Drops the postings of months longer ago than `p_kept`; the months' counters stay. Postings of the
-- present wait meanwhile, so it gives up within a second (55P03) if somebody is in the way.
create function ledger.drop_partitions(p_kept integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '1s' as $$
declare
  v_name name;
  v_dropped integer := 0;
begin
  if p_kept < 2 then
    raise exception 'postings of at least 2 months are kept, not of %', p_kept using errcode = 'invalid_parameter_value';
  end if;
  for v_name in
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'ledger.postings'::regclass
      and c.relname < 'postings_' || to_char(ledger.current_period() - make_interval(months => p_kept), 'YYYY_MM')
    order by c.relname
  loop
    execute format('drop table ledger.%I', v_name);
    v_dropped := v_dropped + 1;
  end loop;
  return v_dropped;
end
$$;

grant select on ledger.reconciliations, ledger.drifts to contactsync_operator, contactsync_quota;

revoke execute on function ledger.claim_accounts, ledger.let_accounts_go, ledger.holds_kept_since, ledger.look,
  ledger.look_at_runs, ledger.told, ledger.keep_reconciliation, ledger.forget, ledger.drop_partitions from public;
grant execute on function ledger.claim_accounts, ledger.let_accounts_go, ledger.look, ledger.keep_reconciliation,
  ledger.forget, ledger.drop_partitions to contactsync_quota;
