-- A workspace lost the plan that an integration needs (SF1; docs/decisions/0154): it is polled no more,
-- and its people are told by `p_event`, an event of the topic integrations.changed.v1; null: they are
-- told by another one's. For the operator alone, in the transaction that stops it in config.
create function sync.stop(p_integration uuid, p_event bytea) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  update sync.schedules s set is_active = false where s.integration_id = p_integration;
  insert into sync.outbox (topic, key, body)
  select 'integrations.changed.v1', p_integration::text, p_event where p_event is not null
$$;
revoke execute on function sync.stop from public;
grant execute on function sync.stop to contactsync_operator;
