-- config: files that people upload, and their text in chunks (AC8). Written by the API only.

-- `form` is how the file is read (libs/common/csvfile/rows.py: Form), null while it is `receiving`.
-- `confirmed` files change no more; of a `forgotten` one the chunks are gone. `uploaded_at` is the
-- version of its contacts (PROTOCOL 1).
create table config.imports (
  import_id uuid primary key,
  workspace_id uuid not null references config.workspaces,
  connection_id uuid not null references config.connections,
  name text not null,
  state text not null default 'receiving'
    check (state in ('receiving', 'ready', 'confirmed', 'forgotten')),
  bytes bigint not null default 0,
  sha256 bytea,
  form jsonb,
  chunks integer not null default 0,
  rows integer not null default 0,
  ragged integer not null default 0,
  duplicates integer not null default 0,
  revision integer not null default 0,  -- counts changes of the form: one that was overtaken is not stored
  created_at timestamptz not null default clock_timestamp(),
  uploaded_at timestamptz,
  confirmed_at timestamptz,
  confirmed_by text,
  forgotten_at timestamptz
);
create index on config.imports (workspace_id, import_id);
create index on config.imports (connection_id, uploaded_at);

-- Lines of the file, as UTF-8. `skip_lines` of them belong to a row that began in an earlier chunk;
-- `first_row` is the number of the first row that begins here; `duplicates` are the numbers of rows
-- that tell of somebody whom an earlier row has told of.
create table config.import_chunks (
  import_id uuid not null references config.imports on delete cascade,
  number integer not null,
  workspace_id uuid not null,
  body text not null,
  skip_lines integer not null,
  first_row integer not null,
  rows integer not null,
  duplicates integer[] not null default '{}',
  primary key (import_id, number)
);
-- Read once and thrown away: to pack it costs more than the room.
alter table config.import_chunks alter column body set storage external;

call config.protect('config.imports');
call config.protect('config.import_chunks');

grant select, insert, update, delete on config.imports, config.import_chunks to contactsync_api, contactsync_operator;
grant select on config.imports, config.import_chunks to contactsync_poller;

-- Takes the text of one file away that nobody needs any more, or a file that never was confirmed;
-- returns how many went: 0 if there is none. A file is needed until `p_days` after it was last read,
-- and while a run may be reading it; one that was not confirmed, a day after it was sent.
create function config.forget_imports(p_days integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_import uuid;
  v_state text;
begin
  select i.import_id, i.state into v_import, v_state
  from config.imports i
  where i.state in ('receiving', 'ready') and i.created_at < clock_timestamp() - interval '1 day'
    or i.state = 'confirmed'
      and i.confirmed_at < clock_timestamp() - make_interval(days => p_days)
      and not exists (
        select from config.integrations n join sync.runs r on r.integration_id = n.integration_id
        where n.source_connection_id = i.connection_id and r.mode = 'full'
          and (r.state = 'reading' or r.read_at > clock_timestamp() - make_interval(days => p_days))
          -- Runs that began after the next file was confirmed have read that one.
          and r.started_at < coalesce((
            select min(f.confirmed_at) from config.imports f
            where f.connection_id = i.connection_id and f.uploaded_at > i.uploaded_at), 'infinity'))
  order by i.import_id limit 1
  for update skip locked;
  if not found then
    return 0;
  end if;
  if v_state <> 'confirmed' then
    delete from config.imports where import_id = v_import;
  else
    delete from config.import_chunks where import_id = v_import;
    update config.imports set state = 'forgotten', forgotten_at = clock_timestamp() where import_id = v_import;
  end if;
  return 1;
end
$$;

revoke execute on function config.forget_imports from public;
grant execute on function config.forget_imports to contactsync_quota;

-- A key that could do everything in its workspace still can: nobody else could grant the new scopes.
update config.api_keys set scopes = scopes || array['imports:read', 'imports:write']
where workspace_id is not null and revoked_at is null
  and scopes @> array['providers:read', 'connections:read', 'connections:write', 'integrations:read',
    'integrations:write', 'runs:read', 'runs:write', 'contacts:read', 'quota:read', 'quota:write',
    'api-keys:read', 'api-keys:write', 'audit:read', 'users:read', 'users:write', 'notices:read'];
