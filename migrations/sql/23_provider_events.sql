-- Events that providers send us: hints, which only bring the next read forward (docs/decisions/0142).
-- One subscription a connection, made while somebody reads edits there (SF3). Of its token the digest
-- alone is kept: the provider has the token, and nobody else needs it.
create table config.event_subscriptions (
  connection_id uuid primary key references config.connections on delete cascade,
  workspace_id uuid not null,
  remote_id text not null,  -- the provider's own id of it
  url text not null,        -- where it sends: another one after PUBLIC_URL was changed
  token_sha256 bytea not null,
  created_at timestamptz not null default clock_timestamp()
);
call config.protect('config.event_subscriptions');
grant select, insert, update, delete on config.event_subscriptions to contactsync_api;

-- When somebody was last told of as gone: all members are read by the next run that begins after it.
alter table sync.schedules add column members_wanted_at timestamptz;

-- Takes a hint: whoever reads edits of this account is due in some seconds, so that a burst of events
-- is one run. A run that was put off stays so: events must not hurry a provider in trouble. `p_gone`
-- are addresses of whom the event says that they were deleted; only those of linked contacts have all
-- members read. False: there is no such subscription, or its token is another one.
create function sync.take_hint(p_connection uuid, p_token_sha256 bytea, p_gone text[]) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform from config.event_subscriptions e
  where e.connection_id = p_connection and e.token_sha256 = p_token_sha256;
  if not found then
    return false;
  end if;
  update sync.schedules s
  set next_due_at = case when s.lease_owner is null
                         then least(s.next_due_at, clock_timestamp() + interval '3 seconds')
                         else clock_timestamp() + interval '3 seconds' end,
      members_wanted_at = case when exists (
          select from delivery.links l
          where l.integration_id in (i.integration_id, i.way_back_of) and l.state = 'linked'
            and l.identity = any (p_gone))
        then clock_timestamp() else s.members_wanted_at end
  from config.integrations i
  where i.integration_id = s.integration_id and i.source_connection_id = p_connection and s.is_active;
  return true;
end
$$;
revoke execute on function sync.take_hint from public;
grant execute on function sync.take_hint to contactsync_api;

-- A change of address goes back as well (docs/decisions/0143), by the policy of its integration.
update config.integrations b set email_change_policy = l.email_change_policy
from config.integrations l where l.integration_id = b.way_back_of;
