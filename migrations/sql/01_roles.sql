-- Roles are the cluster's, not the database's: made once, then left alone. Passwords are the
-- operator's business (`alter role … password`); nothing here can log in over the network without.
do $$
declare
  v_role text;
begin
  if not exists (select from pg_roles where rolname = 'contactsync_owner') then
    begin
      create role contactsync_owner nologin;
    exception when duplicate_object or unique_violation then null;
    end;
  end if;
  foreach v_role in array array['api', 'poller', 'mapper', 'writer', 'quota', 'activity', 'notifier'] loop
    if not exists (select from pg_roles where rolname = 'contactsync_' || v_role) then
      begin
        execute format('create role %I login nosuperuser nobypassrls', 'contactsync_' || v_role);
        -- A stuck statement or lock must not hold a process longer than its lease (RELIABILITY 3.3).
        execute format('alter role %I set statement_timeout = ''15s''', 'contactsync_' || v_role);
        execute format('alter role %I set lock_timeout = ''3s''', 'contactsync_' || v_role);
        execute format('alter role %I set idle_in_transaction_session_timeout = ''15s''', 'contactsync_' || v_role);
      exception when duplicate_object or unique_violation then null;
      end;
    end if;
  end loop;
  -- The API's operator routes say `set local role contactsync_operator`; no one logs in as it.
  if not exists (select from pg_roles where rolname = 'contactsync_operator') then
    begin
      create role contactsync_operator nologin nosuperuser nobypassrls;
      grant contactsync_operator to contactsync_api with inherit false, set true;
    exception when duplicate_object or unique_violation then null;
    end;
  end if;
end
$$;

do $$
begin
  execute format('grant create on database %I to contactsync_owner', current_database());
end
$$;

-- Everything below belongs to an owner that is no superuser.
grant contactsync_owner to current_user;
set role contactsync_owner;

create schema config;
create schema sync;
create schema delivery;
create schema ledger;
create schema limits;
create schema notices;
create schema activity;

grant usage on schema config to contactsync_api, contactsync_operator, contactsync_poller, contactsync_mapper, contactsync_writer, contactsync_quota, contactsync_activity, contactsync_notifier;
grant usage on schema sync to contactsync_api, contactsync_operator, contactsync_poller, contactsync_writer, contactsync_activity, contactsync_quota;
grant usage on schema delivery to contactsync_api, contactsync_operator, contactsync_writer, contactsync_quota;
grant usage on schema ledger to contactsync_api, contactsync_operator, contactsync_poller, contactsync_writer, contactsync_quota, contactsync_notifier;
grant usage on schema limits to contactsync_api, contactsync_poller, contactsync_writer;
grant usage on schema notices to contactsync_api, contactsync_operator, contactsync_notifier;
grant usage on schema activity to contactsync_api, contactsync_operator, contactsync_activity, contactsync_poller;

-- Row-level security for a table with `workspace_id`: the API sees its workspace, set per
-- transaction with set_config('app.workspace', …, true); workers and operators see all rows of
-- the tables they have grants on. Unset means no rows (X3).
create procedure config.protect(p_table regclass) language plpgsql as $$
begin
  execute format('alter table %s enable row level security', p_table);
  execute format('alter table %s force row level security', p_table);
  execute format(
    'create policy workspace on %s to contactsync_api '
    'using (workspace_id = nullif(current_setting(''app.workspace'', true), '''')::uuid) '
    'with check (workspace_id = nullif(current_setting(''app.workspace'', true), '''')::uuid)', p_table);
  execute format(
    'create policy everyone on %s to contactsync_owner, contactsync_operator, contactsync_poller, '
    'contactsync_mapper, contactsync_writer, contactsync_quota, contactsync_activity, '
    'contactsync_notifier using (true) with check (true)', p_table);
end
$$;
revoke execute on procedure config.protect from public;

-- The workspace of the API's transaction; functions that bypass row-level security compare with it.
create function config.current_workspace() returns uuid language sql stable as $$
  select nullif(current_setting('app.workspace', true), '')::uuid
$$;
