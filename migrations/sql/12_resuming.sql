-- resuming: who waited for the quota goes before what is read anew (Q5; docs/decisions/0118)

create index parked_for_quota on delivery.parked (integration_id) where reason = 'quota';

-- Whether contacts of an integration are parked for want of quota: its poller reads on after them.
create function delivery.waits_for_quota(p_integration uuid) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
  select exists (select from delivery.parked p where p.integration_id = p_integration and p.reason = 'quota')
$$;

revoke execute on function delivery.waits_for_quota from public;
grant usage on schema delivery to contactsync_poller;
grant execute on function delivery.waits_for_quota to contactsync_poller;
