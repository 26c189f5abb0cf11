-- activity: the read model of contacts.settled.v1 (PROTOCOL 8). Written by activity only.

-- One row per settled part and stage, inserted once.
create table activity.parts (
  run_id uuid not null,
  page integer not null,
  part integer not null,
  stage text not null,
  integration_id uuid not null,
  workspace_id uuid not null,
  created integer not null default 0,
  updated integer not null default 0,
  removed integer not null default 0,
  unchanged integer not null default 0,
  superseded integer not null default 0,
  filtered integer not null default 0,
  rejected integer not null default 0,
  parked integer not null default 0,
  importing integer not null default 0,
  primary key (run_id, page, part, stage)
);

-- A run's sum: `in_run` counts direct and import stages, `settled_later` the drains.
create table activity.runs (
  run_id uuid primary key,
  integration_id uuid not null,
  workspace_id uuid not null,
  run_no integer not null,
  state text not null default 'settling' check (state in ('settling', 'complete', 'incomplete')),
  mode text,
  pages integer,  -- null until run_read is there
  parts integer,
  read integer,
  left_out integer,
  total_before bigint,
  total_after bigint,
  read_is_complete boolean,
  parts_settled integer not null default 0,
  created integer not null default 0,
  updated integer not null default 0,
  removed integer not null default 0,
  unchanged integer not null default 0,
  superseded integer not null default 0,
  filtered integer not null default 0,
  rejected integer not null default 0,
  parked integer not null default 0,
  importing integer not null default 0,
  settled_later jsonb not null default '{}',
  rejected_by_reason jsonb not null default '{}',
  parked_by_reason jsonb not null default '{}',
  verdict text,  -- complete, source_changed, incomplete
  ended_at timestamptz
) with (fillfactor = 70);
create index on activity.runs (integration_id, run_no);

create table activity.contacts (
  integration_id uuid not null,
  source_id text not null,
  workspace_id uuid not null,
  status text not null check (status in ('created', 'updated', 'removed', 'rejected', 'parked')),
  reason text,
  run_no integer not null,
  at timestamptz not null default clock_timestamp(),
  primary key (integration_id, source_id)
) with (fillfactor = 70);
create index on activity.contacts (integration_id, status, source_id);

call config.protect('activity.parts');
call config.protect('activity.runs');
call config.protect('activity.contacts');

grant select, insert, update, delete on all tables in schema activity to contactsync_activity;
grant select on activity.parts, activity.runs, activity.contacts to contactsync_api, contactsync_operator;

-- Contacts that were read and published, but not told of yet: the poller's back-pressure.
create function activity.unsettled(p_integration uuid) returns bigint
language sql security definer set search_path = pg_catalog, pg_temp as $$
  select coalesce(sum(greatest(r.read - coalesce(a.created + a.updated + a.removed + a.unchanged + a.superseded
    + a.filtered + a.rejected + a.parked, 0), 0)), 0)::bigint
  from sync.runs r left join activity.runs a on a.run_id = r.run_id
  where r.integration_id = p_integration and r.state in ('reading', 'read')
    and (a.state is null or a.state = 'settling') and r.started_at > clock_timestamp() - interval '7 days'
$$;
revoke execute on function activity.unsettled from public;
grant execute on function activity.unsettled to contactsync_poller, contactsync_api;
