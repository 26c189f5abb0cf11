-- sync: when to poll, how far each integration has read, who was there, and its runs (PROTOCOL 4).
-- Written by the poller only; others call the functions below.

-- `next_due_at`: when the next run is to begin. `resume_at`: when one that was put off may go on; the
-- next one waits for it. Both are looked at by services/poller/store.py: claim_due. `wanted_run_no`:
-- the first run that is the full one that was asked for; those before had begun to read.
create table sync.schedules (
  integration_id uuid primary key,
  workspace_id uuid not null,
  provider text not null,
  is_active boolean not null default true,
  next_due_at timestamptz not null default clock_timestamp(),
  resume_at timestamptz,
  interval_minutes integer not null,
  run_no integer not null default 0,
  wanted_mode text not null default 'full' check (wanted_mode in ('full', 'changes')),
  wanted_mapping_version integer not null default 1,
  wanted_run_no integer not null default 0,
  lease_owner uuid,
  lease_until timestamptz,
  fencing bigint not null default 0,
  failures integer not null default 0,
  last_full_at timestamptz
) with (fillfactor = 70);
create index on sync.schedules (provider, coalesce(resume_at, next_due_at)) where is_active;
create index on sync.schedules (provider, lease_until) where lease_owner is not null;

-- Two positions an integration. Stream `contacts`: `from_ms` is where the next sweep starts, `sweep`
-- what the run under way must know to be resumed (services/poller/plan.py: Sweeping). Stream
-- `members`: `from_ms` is when all members were last read, `sweep` how the list looked then and up
-- to which run newcomers are settled (plan.py: Roll).
create table sync.positions (
  integration_id uuid not null,
  stream text not null,
  workspace_id uuid not null,
  from_ms bigint,
  sweep jsonb,
  primary key (integration_id, stream)
) with (fillfactor = 70);

-- Who is there: a list's members, or without a list every contact read. `run_no` is the run that
-- found the member new, or the last full run that met it. A member is a newcomer until a run with at
-- least its number has ended (Roll.settled_run_no): then its page may never have been published.
create table sync.members (
  integration_id uuid not null,
  source_id text not null,
  run_no integer not null,
  primary key (integration_id, source_id)
) with (fillfactor = 70);

create table sync.runs (
  run_id uuid primary key,
  integration_id uuid not null,
  workspace_id uuid not null,
  run_no integer not null,
  mode text not null check (mode in ('full', 'changes')),
  mapping_version integer not null,
  fencing bigint not null,
  state text not null default 'reading'
    check (state in ('reading', 'read', 'failed', 'abandoned', 'cancelled')),
  started_at timestamptz not null default clock_timestamp(),
  read_at timestamptz,
  pages integer not null default 0,
  parts integer not null default 0,
  read integer not null default 0,
  left_out integer not null default 0,
  expected bigint,  -- for progress: the provider's total when it is known
  total_before bigint,
  total_after bigint,
  is_complete boolean not null default false,
  withheld integer not null default 0,  -- deletions and leavers that wait for a confirmation
  confirmed_at timestamptz,
  email_decision jsonb,
  error_code text,
  unique (integration_id, run_no)
) with (fillfactor = 70);
create index on sync.runs (workspace_id, started_at);

-- Deletions and leavers that the guard did not publish; the set of the newest run counts. The run
-- after a confirmation looks again and publishes those that are still gone.
create table sync.withheld (
  run_id uuid not null,
  integration_id uuid not null,
  source_id text not null,
  primary key (run_id, source_id)
);
create index on sync.withheld (integration_id);

create table sync.outbox (
  id bigint generated always as identity primary key,
  topic text not null,
  key text not null,
  body bytea not null,
  claimed_until timestamptz,
  created_at timestamptz not null default clock_timestamp()
);

call config.protect('sync.schedules');
call config.protect('sync.positions');
call config.protect('sync.runs');

grant select, insert, update, delete on all tables in schema sync to contactsync_poller;
grant select on sync.schedules, sync.runs to contactsync_api, contactsync_operator, contactsync_activity, contactsync_quota;
grant select on sync.runs, sync.schedules to contactsync_writer;

-- Makes a run due now, whatever was put off. While a poller has the integration, it is due anew: the
-- run that begins may have taken its time of the source before (services/poller/store.py: begin_run).
create function sync.make_due(p_integration uuid) returns void
language sql set search_path = pg_catalog, pg_temp as $$
  update sync.schedules s
  set next_due_at = case when s.lease_owner is null then least(s.next_due_at, clock_timestamp())
                         else clock_timestamp() end,
      resume_at = case when s.resume_at is not null then least(s.resume_at, clock_timestamp()) end
  where s.integration_id = p_integration
$$;

-- Starts, or starts again, what an active integration needs: a full run if it never had one or if
-- its mapping changed by more than removed fields (`p_full`), else changes. Checks the workspace
-- of the caller's transaction.
create function sync.schedule(p_integration uuid, p_full boolean) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_row record;
begin
  select i.integration_id, i.workspace_id, i.interval_minutes, i.mapping_version, c.provider into v_row
  from config.integrations i join config.connections c on c.connection_id = i.source_connection_id
  where i.integration_id = p_integration and i.workspace_id = config.current_workspace();
  if not found then
    raise exception 'no integration % in this workspace', p_integration using errcode = 'no_data_found';
  end if;
  insert into sync.schedules as s
    (integration_id, workspace_id, provider, interval_minutes, wanted_mode, wanted_mapping_version)
  values (v_row.integration_id, v_row.workspace_id, v_row.provider, v_row.interval_minutes, 'full', v_row.mapping_version)
  on conflict (integration_id) do update set
    is_active = true, provider = excluded.provider, interval_minutes = excluded.interval_minutes, failures = 0,
    wanted_mode = case when p_full then 'full' else s.wanted_mode end,
    wanted_mapping_version = excluded.wanted_mapping_version;
  perform sync.make_due(p_integration);
end
$$;

-- Stops polling (pause, archive); what is on its way is the writer's business.
create function sync.unschedule(p_integration uuid) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  update sync.schedules s set is_active = false
  where s.integration_id = p_integration and s.workspace_id = config.current_workspace()
$$;

-- Asks for a run now; true if one is due (an active integration), false if it is not scheduled.
create function sync.request_run(p_integration uuid, p_full boolean) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  update sync.schedules s
  set wanted_mode = case when p_full then 'full' else s.wanted_mode end,
      wanted_run_no = case when p_full then s.run_no + 1 else s.wanted_run_no end
  where s.integration_id = p_integration and s.is_active and s.workspace_id = config.current_workspace();
  if not found then
    return false;
  end if;
  perform sync.make_due(p_integration);
  return true;
end
$$;

-- Cancels a run that is being read (archived, or its mapping changed).
create function sync.cancel_run(p_run uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  update sync.runs r set state = 'cancelled'
  where r.run_id = p_run and r.state = 'reading' and r.workspace_id = config.current_workspace();
  return found;
end
$$;

-- A person confirms the deletions that the guard withheld; the poller publishes them with the
-- next claim. They lapse with the next full read.
create function sync.confirm_deletions(p_run uuid) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_withheld integer;
begin
  update sync.runs r set confirmed_at = clock_timestamp()
  where r.run_id = p_run and r.withheld > 0 and r.confirmed_at is null and r.workspace_id = config.current_workspace()
    and not exists (select from sync.runs n where n.integration_id = r.integration_id and n.run_no > r.run_no
                    and n.mode = 'full' and n.state = 'read')
  returning r.withheld into v_withheld;
  if found then
    perform sync.make_due(r.integration_id) from sync.runs r where r.run_id = p_run;
  end if;
  return coalesce(v_withheld, 0);
end
$$;

-- What the writer must know of runs: whether their deletions and their run_read count, and
-- whether a newer full run makes their upserts superfluous.
create function sync.run_state(p_runs uuid[])
returns table (run_id uuid, state text, fencing bigint, mapping_version integer, email_decision jsonb, is_outdated boolean)
language sql security definer set search_path = pg_catalog, pg_temp as $$
  select r.run_id, r.state, r.fencing, r.mapping_version, r.email_decision,
    exists (select from sync.schedules s where s.integration_id = r.integration_id and s.is_active
              and s.wanted_mode = 'full' and s.wanted_mapping_version > r.mapping_version)
    or exists (select from sync.runs n where n.integration_id = r.integration_id and n.run_no > r.run_no
                 and n.mode = 'full' and n.state in ('reading', 'read') and n.mapping_version > r.mapping_version)
  from sync.runs r where r.run_id = any (p_runs)
$$;

-- Stores a run's decision about e-mail changes, once; returns the one that counts.
create function sync.decide_email_changes(p_run uuid, p_decision jsonb) returns jsonb
language sql security definer set search_path = pg_catalog, pg_temp as $$
  update sync.runs r set email_decision = coalesce(r.email_decision, p_decision)
  where r.run_id = p_run returning r.email_decision
$$;

revoke execute on all functions in schema sync from public;
grant execute on function sync.schedule, sync.unschedule, sync.request_run, sync.cancel_run, sync.confirm_deletions to contactsync_api;
grant execute on function sync.run_state, sync.decide_email_changes to contactsync_writer;
