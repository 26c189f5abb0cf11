-- Asking for more (Q4), and reading the ledger to the last task.

-- A request for a higher limit: at most one open per workspace. Written by the functions below only.
-- `decision_id` is the decider's, so that a decision sent again is the same one.
create table config.quota_requests (
  request_id uuid primary key,
  workspace_id uuid not null references config.workspaces,
  wanted bigint not null check (wanted > 0),
  reason text not null,
  state text not null default 'open' check (state in ('open', 'granted', 'declined', 'withdrawn')),
  asked_by text not null,
  asked_at timestamptz not null default clock_timestamp(),
  asked_limit bigint not null,  -- what was in force when it was asked, and
  asked_used bigint not null,   -- how much of it was used
  decision_id uuid,
  decided_by text,
  decided_at timestamptz,
  granted_limit bigint,
  granted_period date,  -- granted for this month only; null: from then on
  words text not null default '',
  check ((state = 'open') = (decided_at is null)),
  check ((state = 'granted') = (granted_limit is not null))
);
create unique index quota_requests_open on config.quota_requests (workspace_id) where state = 'open';
create index on config.quota_requests (workspace_id, request_id);
create index on config.quota_requests (state, request_id);
call config.protect('config.quota_requests');
grant select on config.quota_requests to contactsync_api, contactsync_operator;

-- Keys that may do all that a workspace's key can do keep doing so; nobody else could give it to one.
update config.api_keys set scopes = scopes || '{quota:write}'
where workspace_id is not null
  and scopes @> '{providers:read,connections:read,connections:write,integrations:read,integrations:write,runs:read,runs:write,contacts:read,quota:read,api-keys:read,api-keys:write,audit:read}';

-- One at a time changes a workspace's limit or begins its month: a month that begins between the
-- reading of a limit and its change would keep the old one. Taken before the month is read off the
-- clock, and before any row of the workspace is locked.
create function ledger.lock_limit(p_workspace uuid) returns void language sql as $$
  select pg_advisory_xact_lock(hashtextextended('ledger.limits ' || p_workspace, 0))
$$;

-- The row of a workspace's month, made when it is first needed; a limit of 0 is used up at once.
create or replace function ledger.ensure_period(p_workspace uuid, p_period date) returns void
language plpgsql as $$
declare
  v_limit bigint;
  v_revision integer;
begin
  if exists (select from ledger.periods p where p.workspace_id = p_workspace and p.period = p_period) then
    return;
  end if;
  perform ledger.lock_limit(p_workspace);
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

-- Puts a limit in force with the next hold: in this month, and, unless it is for this month only, in
-- those to come. A revision is never used twice within a month, whoever counted it up last.
create function ledger.apply_limit(
  p_workspace uuid, p_limit bigint, p_is_for_period boolean,
  out is_changed boolean, out period date, out revision integer, out used bigint
) language plpgsql as $$
declare
  v_standing integer := 1;
begin
  perform ledger.lock_limit(p_workspace);
  is_changed := false;
  if not p_is_for_period then
    insert into ledger.limits as l (workspace_id, quota_limit) values (p_workspace, p_limit)
    on conflict (workspace_id) do update
      set quota_limit = excluded.quota_limit, changed_at = clock_timestamp(), revision = l.revision + 1
      where l.quota_limit <> excluded.quota_limit;
    is_changed := found;
    select l.revision into v_standing from ledger.limits l where l.workspace_id = p_workspace;
  end if;
  period := ledger.current_period();
  perform ledger.ensure_period(p_workspace, period);
  update ledger.periods p set quota_limit = p_limit, revision = greatest(p.revision + 1, v_standing)
  where p.workspace_id = p_workspace and p.period = apply_limit.period and p.quota_limit <> p_limit;
  is_changed := is_changed or found;
  select p.revision, p.posted into revision, used from ledger.periods p
  where p.workspace_id = p_workspace and p.period = apply_limit.period;
end
$$;

-- Sets the limit from now on, in force with the next hold, also where this month had one of its own;
-- below use, 100 % is decided at once. Returns the month's revision.
create or replace function ledger.set_limit(p_workspace uuid, p_limit bigint) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v record;
begin
  select * into v from ledger.apply_limit(p_workspace, p_limit, false);
  if v.is_changed then
    perform ledger.publish(
      p_workspace, format('limit:%s:%s:%s', p_workspace, v.period, v.revision),
      jsonb_build_object('kind', 'limit_changed', 'period', v.period, 'limit', p_limit, 'revision', v.revision, 'used', v.used));
    perform ledger.decide(p_workspace, v.period, p_limit, v.revision, -1, v.used);
  end if;
  return v.revision;
end
$$;

-- Opens a request of the transaction's workspace. Returns the request that is open now: another id
-- than `p_request` says that one was open already, and nothing was done.
create function ledger.open_request(p_request uuid, p_wanted bigint, p_reason text, p_actor text) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_workspace uuid := config.current_workspace();
  v_period date;
  v_limit bigint;
  v_revision integer;
  v_used bigint;
  v_open uuid;
begin
  if v_workspace is null then
    raise exception 'no workspace asks' using errcode = 'insufficient_privilege';
  end if;
  v_period := ledger.current_period();
  perform ledger.ensure_period(v_workspace, v_period);
  select p.quota_limit, p.revision, p.posted into v_limit, v_revision, v_used
  from ledger.periods p where p.workspace_id = v_workspace and p.period = v_period;
  loop
    insert into config.quota_requests (request_id, workspace_id, wanted, reason, asked_by, asked_limit, asked_used)
    values (p_request, v_workspace, p_wanted, p_reason, p_actor, v_limit, v_used)
    on conflict do nothing;
    exit when found;
    -- Either this very request was stored before, or another is open; or was, a moment ago.
    select r.request_id into v_open from config.quota_requests r
    where r.request_id = p_request or (r.workspace_id = v_workspace and r.state = 'open')
    order by r.request_id = p_request desc limit 1;
    if found then return v_open; end if;
  end loop;
  perform ledger.publish(
    v_workspace, format('request:%s:opened', p_request),
    jsonb_build_object('kind', 'request_opened', 'period', v_period, 'limit', v_limit, 'revision', v_revision,
      'used', v_used, 'request', p_request, 'wanted', p_wanted, 'words', p_reason));
  return p_request;
end
$$;

-- Decides an open request; without `p_limit` it is declined. The limit is in force with the next
-- hold, and one event tells of it. Returns 'decided', 'repeated' (this very decision was taken
-- before), 'not_open' or 'not_above' (a grant must be above what is in force); nothing is done but
-- in the first case.
create function ledger.decide_request(
  p_request uuid, p_decision uuid, p_actor text, p_limit bigint, p_is_for_period boolean, p_words text
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_request config.quota_requests;
  v_period date;
  v_limit bigint;
  v_revision integer;
  v_used bigint;
begin
  select r.* into v_request from config.quota_requests r where r.request_id = p_request for update;
  if not found or v_request.state <> 'open' then
    return case when v_request.decision_id = p_decision then 'repeated' else 'not_open' end;
  end if;
  perform ledger.lock_limit(v_request.workspace_id);
  v_period := ledger.current_period();
  perform ledger.ensure_period(v_request.workspace_id, v_period);
  select p.quota_limit, p.revision, p.posted into v_limit, v_revision, v_used from ledger.periods p
  where p.workspace_id = v_request.workspace_id and p.period = v_period;
  if p_limit <= v_limit then return 'not_above'; end if;
  if p_limit is not null then
    select a.period, a.revision, a.used into v_period, v_revision, v_used
    from ledger.apply_limit(v_request.workspace_id, p_limit, p_is_for_period) a;
    v_limit := p_limit;
  end if;
  update config.quota_requests r
  set state = case when p_limit is null then 'declined' else 'granted' end, decision_id = p_decision,
      decided_by = p_actor, decided_at = clock_timestamp(), granted_limit = p_limit,
      granted_period = case when p_limit is not null and p_is_for_period then v_period end, words = p_words
  where r.request_id = p_request;
  perform ledger.publish(
    v_request.workspace_id, format('request:%s:decided', p_request),
    jsonb_build_object('kind', case when p_limit is null then 'request_declined' else 'request_granted' end,
      'period', v_period, 'limit', v_limit, 'revision', v_revision, 'used', v_used, 'request', p_request,
      'wanted', v_request.wanted, 'is_for_period', p_limit is not null and p_is_for_period, 'words', p_words));
  if p_limit is not null then
    perform ledger.decide(v_request.workspace_id, v_period, v_limit, v_revision, -1, v_used);
  end if;
  return 'decided';
end
$$;

-- Takes back an open request of the transaction's workspace; nobody is told. Returns as above.
create function ledger.withdraw_request(p_request uuid, p_decision uuid, p_actor text) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_decision uuid;
begin
  update config.quota_requests r
  set state = 'withdrawn', decision_id = p_decision, decided_by = p_actor, decided_at = clock_timestamp()
  where r.request_id = p_request and r.workspace_id = config.current_workspace() and r.state = 'open';
  if found then return 'decided'; end if;
  select r.decision_id into v_decision from config.quota_requests r
  where r.request_id = p_request and r.workspace_id = config.current_workspace();
  return case when v_decision = p_decision then 'repeated' else 'not_open' end;
end
$$;

-- The ledger is read newest first within a month, and counted by day and integration out of this
-- index alone. A month that is made later gets it as well.
create index postings_by_time on ledger.postings (workspace_id, period, posted_at) include (integration_id);

-- Tasks of each UTC day on which there were any: today and the `p_days` days before it. Every task
-- counts on the day it was written, whichever month it is charged to. Who calls sees what row-level
-- security lets him see: the API's role no other workspace (X3).
create function ledger.use_per_day(p_workspace uuid, p_days integer) returns table (day date, used bigint)
language sql volatile set search_path = pg_catalog, pg_temp as $$
  with today as materialized (select date_bin('1 day', ledger.now(), timestamptz '2000-01-01 00:00+00') as at),
  -- By bins of time: half the price of a date for each task.
  bins as (
    select date_bin('1 day', p.posted_at, timestamptz '2000-01-01 00:00+00') as at, count(*) as used
    from ledger.postings p
    where p.workspace_id = p_workspace and p.posted_at >= (select t.at from today t) - make_interval(hours => 24 * p_days)
    group by 1)
  select (b.at at time zone 'UTC')::date, b.used from bins b order by 1
$$;

revoke execute on function
  ledger.lock_limit, ledger.apply_limit, ledger.open_request, ledger.decide_request, ledger.withdraw_request,
  ledger.use_per_day
from public;
grant execute on function ledger.open_request, ledger.withdraw_request to contactsync_api;
grant execute on function ledger.decide_request to contactsync_operator, contactsync_quota;
grant execute on function ledger.use_per_day to contactsync_api, contactsync_operator, contactsync_notifier;
-- The notifier counts, but does not see whose contact a task was (X4).
grant select (workspace_id, period, posted_at, integration_id) on ledger.postings to contactsync_notifier;
