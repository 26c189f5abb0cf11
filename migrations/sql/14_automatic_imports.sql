-- automatic imports (AC1 to AC9), the share of each external account in a sync (AC5), and who was
-- left out of a bulk change (CC4).

-- `automatic`: no person maps fields; a mapping version follows from what the source has.
alter table config.integrations add column kind text not null default 'mapped'
  check (kind in ('mapped', 'automatic'));

-- Who of an external account has a share in a slot. A contact has one at most, however often it is
-- tried; `sync_budgets` counts them, and its row is what takers wait in turn for.
create table limits.sync_shares (
  account text not null,
  slot timestamptz not null,
  integration_id uuid not null,
  source_id text not null,
  primary key (account, slot, integration_id, source_id)
);

-- Gives contacts shares in the slot that it is now, in the order given, as far as `p_most` of an
-- account go round and `p_kept` of them are not kept for others. Returns whose share it is; who had
-- one in this slot has it still, at no cost: asked again, the answer is the same.
create function limits.take_shares(
  p_account text, p_slot interval, p_most integer, p_kept integer, p_integrations uuid[], p_sources text[]
)
returns table (integration_id uuid, source_id text)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_slot timestamptz := date_bin(p_slot, clock_timestamp(), 'epoch'::timestamptz);
  v_left integer;
  v_taken integer;
begin
  insert into limits.sync_budgets as b (account, slot) values (p_account, v_slot)
  on conflict (account, slot) do nothing;
  select p_most - p_kept - b.used into v_left from limits.sync_budgets b
  where b.account = p_account and b.slot = v_slot for update;
  insert into limits.sync_shares as h
  select p_account, v_slot, u.i, u.s from unnest(p_integrations, p_sources) with ordinality u (i, s, o)
  where not exists (select from limits.sync_shares n where n.account = p_account and n.slot = v_slot
                      and n.integration_id = u.i and n.source_id = u.s)
  order by u.o limit greatest(v_left, 0);
  get diagnostics v_taken = row_count;
  update limits.sync_budgets b set used = b.used + v_taken
  where b.account = p_account and b.slot = v_slot and v_taken > 0;
  delete from limits.sync_shares h where h.account = p_account and h.slot < v_slot;
  delete from limits.sync_budgets b where b.account = p_account and b.slot < v_slot - interval '1 day';
  return query
    select h.integration_id, h.source_id from limits.sync_shares h
    join unnest(p_integrations, p_sources) u (i, s) on u.i = h.integration_id and u.s = h.source_id
    where h.account = p_account and h.slot = v_slot;
end
$$;

-- How many shares are left of the slot that it is now.
create function limits.shares_left(p_account text, p_slot interval, p_most integer) returns integer
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
  select greatest(0, p_most - coalesce((select b.used from limits.sync_budgets b
    where b.account = p_account and b.slot = date_bin(p_slot, clock_timestamp(), 'epoch'::timestamptz)), 0))
$$;

revoke execute on function limits.take_shares, limits.shares_left from public;
grant execute on function limits.take_shares, limits.shares_left to contactsync_writer;

-- Who waits for the next slot, oldest first over all importers of an account: docs/decisions/0137.
create index parked_for_a_slot on delivery.parked (integration_id, first_at, source_id)
  where reason = 'sync_budget';

-- Fields of a source that an automatic import has nothing for at its destination yet. The writer
-- makes them there and adds them to the mapping; one that the destination refuses stays, with why.
-- `standard`: what every contact has, so that nothing is made (libs/connectors/automatic.py).
create table delivery.wanted_fields (
  integration_id uuid not null,
  source text not null,
  workspace_id uuid not null,
  connection_id uuid not null,
  source_type text not null,
  title text not null,
  standard text not null default '',
  refused text,
  tried_at timestamptz,
  wanted_at timestamptz not null default clock_timestamp(),
  primary key (integration_id, source)
);
create index on delivery.wanted_fields (connection_id) where refused is null;
call config.protect('delivery.wanted_fields');
grant select, insert, update, delete on delivery.wanted_fields to contactsync_writer;
grant select on delivery.wanted_fields to contactsync_api, contactsync_operator, contactsync_poller;

-- Has fields made (`p_fields`: [{"source", "type", "title", "standard"}]). Asked by a person, those
-- that were refused are tried once more.
create function delivery.want_fields(p_integration uuid, p_fields jsonb) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into delivery.wanted_fields as w
    (integration_id, source, workspace_id, connection_id, source_type, title, standard)
  select i.integration_id, f.source, i.workspace_id, i.destination_connection_id, f.type, f.title, f.standard
  from config.integrations i
  cross join jsonb_to_recordset(p_fields) f (source text, type text, title text, standard text)
  where i.integration_id = p_integration and i.kind = 'automatic' and i.destination_connection_id is not null
    and (session_user <> 'contactsync_api' or i.workspace_id = config.current_workspace())
  on conflict (integration_id, source) do update set
    refused = case when session_user = 'contactsync_api' then null else w.refused end,
    connection_id = excluded.connection_id, tried_at = null
$$;
revoke execute on function delivery.want_fields from public;
grant execute on function delivery.want_fields to contactsync_api, contactsync_poller;

-- Adds fields to the mapping of an automatic import (`p_fields` as in config.field_mappings) and has
-- everything read by it, as if a person had saved it. Returns the version in force; null: there is
-- no such import any more, or it is deleted.
create function config.add_fields(p_integration uuid, p_fields jsonb) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_row record;
  v_fields jsonb;
  v_workspace text := current_setting('app.workspace', true);
begin
  select i.workspace_id, i.state, i.mapping_version, coalesce(m.fields, '[]') as fields, m.criteria into v_row
  from config.integrations i
  left join config.field_mappings m on m.integration_id = i.integration_id and m.version = i.mapping_version
  where i.integration_id = p_integration and i.kind = 'automatic' and i.state <> 'archived'
  for update of i;
  if not found then
    return null;
  end if;
  select coalesce(jsonb_agg(f), '[]') into v_fields from jsonb_array_elements(p_fields) f
  where not exists (select from jsonb_array_elements(v_row.fields) n
                    where n ->> 'source' = f ->> 'source' or n ->> 'destination' = f ->> 'destination');
  if v_fields = '[]' then
    return v_row.mapping_version;
  end if;
  insert into config.field_mappings (integration_id, version, workspace_id, fields, criteria, created_by)
  values (p_integration, v_row.mapping_version + 1, v_row.workspace_id, v_row.fields || v_fields,
          v_row.criteria, 'automatic_import');
  update config.integrations i
  set mapping_version = i.mapping_version + 1, version = i.version + 1, updated_at = clock_timestamp()
  where i.integration_id = p_integration;
  insert into config.audit_log (event_id, workspace_id, actor, action, subject, details)
  values (uuidv7(), v_row.workspace_id, 'automatic_import', 'mapping.saved',
          'int_' || replace(p_integration::text, '-', ''),
          jsonb_build_object('mapping_version', v_row.mapping_version + 1));
  if v_row.state in ('active', 'error') then
    perform set_config('app.workspace', v_row.workspace_id::text, true);
    perform sync.cancel_run(r.run_id) from sync.runs r
    where r.integration_id = p_integration and r.state = 'reading';
    perform sync.schedule(p_integration, true);
    perform set_config('app.workspace', coalesce(v_workspace, ''), true);
  end if;
  return v_row.mapping_version + 1;
end
$$;
revoke execute on function config.add_fields from public;
grant execute on function config.add_fields to contactsync_writer;

-- Who was left out of a run of changes because there were too many, until a newer state of the
-- contact is read. `wanted_at`: a person asked for it, and the next runs read it by its id.
create table sync.left_out (
  integration_id uuid not null,
  source_id text not null,
  workspace_id uuid not null,
  run_id uuid not null,
  version_ms bigint not null,
  wanted_at timestamptz,
  primary key (integration_id, source_id)
);
create index on sync.left_out (run_id, source_id);
create index left_out_and_wanted on sync.left_out (integration_id) where wanted_at is not null;
call config.protect('sync.left_out');
grant select, insert, update, delete on sync.left_out to contactsync_poller;
grant select on sync.left_out to contactsync_api, contactsync_operator;

-- Has those read who were left out of a run; returns how many they are.
create function sync.replay_left_out(p_run uuid) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_count integer;
begin
  update sync.left_out l set wanted_at = clock_timestamp()
  where l.run_id = p_run and l.wanted_at is null and l.workspace_id = config.current_workspace();
  get diagnostics v_count = row_count;
  if v_count > 0 then
    perform sync.make_due(r.integration_id) from sync.runs r where r.run_id = p_run;
  end if;
  return v_count;
end
$$;
revoke execute on function sync.replay_left_out from public;
grant execute on function sync.replay_left_out to contactsync_api;
