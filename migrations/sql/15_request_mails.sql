-- A mail that asks the operator to decide is pointless once the request is decided or taken back.

-- Whether a request for a higher limit is not open any more; one that nobody knows is not called so.
create function config.is_request_closed(p_request uuid) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select exists (select from config.quota_requests r where r.request_id = p_request and r.state <> 'open')
$$;

revoke execute on function config.is_request_closed from public;
grant execute on function config.is_request_closed to contactsync_notifier;
