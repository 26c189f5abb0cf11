-- config: what people set up. Written by the API (and its operator's role) only.

create table config.workspaces (
  workspace_id uuid primary key,
  name text not null,
  plan text not null default 'standard' check (plan in ('standard', 'enterprise')),
  language text not null default 'en' check (language in ('en', 'de')),
  created_at timestamptz not null default clock_timestamp()
);

-- People who get mails; `muted` holds the kinds of mail they do not want.
create table config.users (
  user_id uuid primary key,
  workspace_id uuid not null references config.workspaces,
  email text not null,
  language text not null default 'en' check (language in ('en', 'de')),
  muted text[] not null default '{}',
  created_at timestamptz not null default clock_timestamp(),
  unique (workspace_id, email)
);

-- `workspace_id` is null for the operator's keys. Secrets are kept as SHA-256 (API.md 9).
create table config.api_keys (
  key_id uuid primary key,
  workspace_id uuid references config.workspaces,
  name text not null,
  secret_sha256 bytea not null,
  scopes text[] not null,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz
);
create index on config.api_keys (workspace_id);

-- Credentials are sealed (`v1|kek id|nonce|ciphertext`, AAD workspace|connection|field).
create table config.connections (
  connection_id uuid primary key,
  workspace_id uuid not null references config.workspaces,
  provider text not null,
  name text not null,
  state text not null default 'pending' check (state in ('pending', 'connected', 'needs_reauth', 'removed')),
  reason text,
  account_id text,
  account_name text,
  time_zone text not null default 'UTC',
  tier text,
  sealed_access_token text,
  sealed_refresh_token text,
  sealed_api_key text,
  token_version integer not null default 0,
  token_expires_at timestamptz,
  refresh_owner uuid,
  refresh_until timestamptz,
  failed_checks integer not null default 0,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
);
create index on config.connections (workspace_id);

create table config.oauth_states (
  state_sha256 bytea primary key,
  workspace_id uuid not null references config.workspaces,
  connection_id uuid not null references config.connections,
  sealed_code_verifier text,
  redirect_uri text not null,
  return_url text,
  expires_at timestamptz not null
);

create table config.integrations (
  integration_id uuid primary key,
  workspace_id uuid not null references config.workspaces,
  name text not null,
  state text not null default 'draft' check (state in ('draft', 'active', 'paused', 'error', 'archived')),
  source_connection_id uuid references config.connections,
  source_object text,
  source_list_id text,
  source_list_name text,
  destination_connection_id uuid references config.connections,
  destination_list_id text,
  destination_list_name text,
  opt_in_at timestamptz,
  opt_in_by text,
  interval_minutes integer not null default 30 check (interval_minutes between 5 and 1440),
  deletion_policy text not null default 'keep' check (deletion_policy in ('keep', 'remove_from_list')),
  email_change_policy text not null default 'single' check (email_change_policy in ('single', 'all', 'none')),
  default_country text,
  mapping_version integer not null default 0,  -- 0: no mapping yet
  error_reason text,
  version integer not null default 1,  -- the ETag
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  activated_at timestamptz,
  archived_at timestamptz
);
create index on config.integrations (workspace_id);
create index on config.integrations (destination_connection_id);

-- Immutable. Criteria belong to the mapping version: changing them is a change of mapping (S11).
-- fields: [{"source", "source_type", "destination", "destination_type", "length_max"?}], criteria: {"match", "conditions"} or null.
create table config.field_mappings (
  integration_id uuid not null references config.integrations,
  version integer not null,
  workspace_id uuid not null references config.workspaces,
  fields jsonb not null,
  criteria jsonb,
  created_at timestamptz not null default clock_timestamp(),
  created_by text not null,
  primary key (integration_id, version)
);

-- The operator's rows have the nil workspace. An answer may hold a secret that is shown once, so
-- it is sealed like a credential.
create table config.idempotency_keys (
  workspace_id uuid not null,
  key text not null,
  request_sha256 bytea not null,
  status integer,  -- null: the first request is still under way
  headers jsonb,
  sealed_body text,
  created_at timestamptz not null default clock_timestamp(),
  primary key (workspace_id, key)
);
create index on config.idempotency_keys (workspace_id, created_at);

create table config.audit_log (
  event_id uuid primary key,
  workspace_id uuid not null,
  at timestamptz not null default clock_timestamp(),
  actor text not null,
  action text not null,
  subject text not null,
  details jsonb not null default '{}'
);
create index on config.audit_log (workspace_id, event_id);

create table config.outbox (
  id bigint generated always as identity primary key,
  topic text not null,
  key text not null,
  body bytea not null,
  claimed_until timestamptz,
  created_at timestamptz not null default clock_timestamp()
);

call config.protect('config.workspaces');
call config.protect('config.users');
call config.protect('config.api_keys');
call config.protect('config.connections');
call config.protect('config.oauth_states');
call config.protect('config.integrations');
call config.protect('config.field_mappings');
call config.protect('config.idempotency_keys');
call config.protect('config.audit_log');

grant select, insert, update, delete on all tables in schema config to contactsync_api, contactsync_operator;
grant select on config.integrations, config.connections, config.field_mappings, config.workspaces to contactsync_poller, contactsync_writer;
grant select on config.integrations, config.field_mappings to contactsync_mapper;
grant select on config.workspaces, config.users, config.integrations to contactsync_notifier;
grant select (connection_id, workspace_id, provider, name, state) on config.connections to contactsync_notifier;
grant select on config.workspaces, config.integrations to contactsync_quota, contactsync_activity;

-- Who a key belongs to, before a workspace is known (PROTOCOL 3).
create function config.authenticate(p_key uuid)
returns table (workspace_id uuid, name text, secret_sha256 bytea, scopes text[], expires_at timestamptz, revoked_at timestamptz)
language sql security definer set search_path = pg_catalog, pg_temp as $$
  update config.api_keys k set last_used_at = clock_timestamp()
  where k.key_id = p_key and (k.last_used_at is null or k.last_used_at < clock_timestamp() - interval '1 minute');
  select k.workspace_id, k.name, k.secret_sha256, k.scopes, k.expires_at, k.revoked_at
  from config.api_keys k where k.key_id = p_key
$$;

-- A login coming back: the state is used once.
create function config.take_oauth_state(p_state_sha256 bytea)
returns table (workspace_id uuid, connection_id uuid, sealed_code_verifier text, redirect_uri text, return_url text, is_expired boolean)
language sql security definer set search_path = pg_catalog, pg_temp as $$
  delete from config.oauth_states s where s.state_sha256 = p_state_sha256
  returning s.workspace_id, s.connection_id, s.sealed_code_verifier, s.redirect_uri, s.return_url, s.expires_at < clock_timestamp()
$$;

-- One process at a time refreshes a connection's tokens; the lease lapses by the database's clock.
create function config.begin_refresh(p_connection uuid, p_owner uuid, p_ttl interval) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  update config.connections c
  set refresh_owner = p_owner, refresh_until = clock_timestamp() + p_ttl
  where c.connection_id = p_connection
    and (c.refresh_until is null or c.refresh_until < clock_timestamp() or c.refresh_owner = p_owner);
  return found;
end
$$;

-- Stores refreshed tokens if nobody stored others meanwhile; ends the refresh lease.
create function config.store_tokens(
  p_connection uuid, p_token_version integer, p_sealed_access_token text, p_sealed_refresh_token text, p_expires_at timestamptz
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  update config.connections c
  set sealed_access_token = p_sealed_access_token,
      sealed_refresh_token = coalesce(p_sealed_refresh_token, c.sealed_refresh_token),
      token_expires_at = p_expires_at, token_version = c.token_version + 1,
      refresh_owner = null, refresh_until = null, failed_checks = 0, updated_at = clock_timestamp()
  where c.connection_id = p_connection and c.token_version = p_token_version;
  return found;
end
$$;

-- A worker found a connection's credentials refused (p_failed) or working. Three failures in a row
-- make it `needs_reauth` (PROTOCOL 5); returns the state afterwards.
create function config.count_check(p_connection uuid, p_failed boolean, p_reason text) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_state text;
begin
  if p_failed then
    update config.connections c
    set failed_checks = c.failed_checks + 1,
        state = case when c.failed_checks + 1 >= 3 and c.state = 'connected' then 'needs_reauth' else c.state end,
        reason = p_reason, updated_at = clock_timestamp()
    where c.connection_id = p_connection returning c.state into v_state;
  else
    update config.connections c set failed_checks = 0
    where c.connection_id = p_connection and c.failed_checks > 0;
    select c.state into v_state from config.connections c where c.connection_id = p_connection;
  end if;
  return v_state;
end
$$;

-- A worker found that an integration cannot go on until a person acts; null: it can again. A trouble
-- of the source (`source_…`) is the poller's to end, any other one the writer's: each of them knows
-- only its own to be over.
create function config.report_integration(p_integration uuid, p_reason text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  update config.integrations i
  set state = case when p_reason is null then 'active' else 'error' end, error_reason = p_reason,
      updated_at = clock_timestamp(), version = i.version + 1
  where i.integration_id = p_integration
    and i.state = case when p_reason is null then 'error' else 'active' end
    and (p_reason is not null
         or coalesce(starts_with(i.error_reason, 'source_'), false) = (session_user = 'contactsync_poller'));
  return found;
end
$$;

revoke execute on all functions in schema config from public;
grant execute on function config.current_workspace to public;
grant execute on function config.authenticate, config.take_oauth_state to contactsync_api;
grant execute on function config.begin_refresh, config.store_tokens, config.count_check to contactsync_api, contactsync_poller, contactsync_writer;
grant execute on function config.report_integration to contactsync_poller, contactsync_writer;
