-- Who gets which mails, in which language, and what became of each.

-- The ETag of a customer, and of a reader of its mails.
alter table config.workspaces add column version integer not null default 1;
alter table config.users add column version integer not null default 1;

-- One address is one reader, however its letters are written.
create unique index users_address on config.users (workspace_id, lower(email));

-- Whose a notice is: readers come and go, and what was sent stays. `cause` is what it tells of: one
-- reader is told once, also when the address changes between two deliveries of one event.
alter table notices.notices add column user_id uuid;
alter table notices.notices add column cause uuid;
alter table notices.notices add column audience text not null default 'workspace'
  check (audience in ('workspace', 'operator'));
-- The mail server's own words, of the last try that it refused.
alter table notices.notices add column answer text;
create unique index notices_told_once on notices.notices (cause, user_id);
drop index notices.notices_workspace_id_created_at_idx;  -- The next one serves for it.
create index notices_newest on notices.notices (workspace_id, created_at, notice_id);
create index notices_failed on notices.notices (created_at, notice_id) where state = 'failed';

-- What the operator is told of a workspace is none of the workspace's business (X3).
create policy audience on notices.notices as restrictive to contactsync_api using (audience = 'workspace');

-- What a mail about the quota tells beside its event: since when 80 % and 100 % of the limit of a
-- revision have been used (null: not yet), what of the month's limit is reserved or used now, and
-- the limit that the next month will begin with.
create function ledger.facts_to_mail(p_workspace uuid, p_period date, p_revision integer)
returns table (near_at timestamptz, used_up_at timestamptz, held bigint, standing_limit bigint)
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
  select
    (select d.decided_at from ledger.decisions d where d.workspace_id = p_workspace
       and d.period = p_period and d.revision = p_revision and d.threshold = 80),
    (select d.decided_at from ledger.decisions d where d.workspace_id = p_workspace
       and d.period = p_period and d.revision = p_revision and d.threshold = 100),
    coalesce((select p.held from ledger.periods p
       where p.workspace_id = p_workspace and p.period = p_period), 0),
    coalesce((select l.quota_limit from ledger.limits l where l.workspace_id = p_workspace), 100000)
$$;

-- Why a mail about a threshold is not worth sending any more; null: it still is. `decided_since`:
-- another mail tells more (100 % after 80 %, or the same of a newer limit). `limit_raised`: less
-- than the threshold of the limit in force is used. What nobody can tell is sent.
create function ledger.outdated(p_workspace uuid, p_period date, p_revision integer, p_threshold integer)
returns text language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
  select case
    when p_period < ledger.current_period() then 'month_over'
    when exists (
      select from ledger.decisions d where d.workspace_id = p_workspace and d.period = p_period
        and (d.revision = p_revision and d.threshold > p_threshold
             or d.revision > p_revision and d.threshold >= p_threshold)) then 'decided_since'
    when exists (
      select from ledger.periods p where p.workspace_id = p_workspace and p.period = p_period
        and p.posted * 100 < p.quota_limit * p_threshold) then 'limit_raised'
  end
$$;

drop function ledger.is_decided;  -- `outdated` tells more.

revoke execute on function ledger.facts_to_mail, ledger.outdated from public;
grant execute on function ledger.facts_to_mail, ledger.outdated to contactsync_notifier;

-- A key that could do everything in its workspace still can: nobody else could grant the new scopes.
update config.api_keys set scopes = scopes || array['users:read', 'users:write', 'notices:read']
where workspace_id is not null and revoked_at is null
  and scopes @> array['providers:read', 'connections:read', 'connections:write', 'integrations:read',
    'integrations:write', 'runs:read', 'runs:write', 'contacts:read', 'quota:read', 'api-keys:read',
    'api-keys:write', 'audit:read'];
