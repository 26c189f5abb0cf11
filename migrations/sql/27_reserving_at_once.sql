-- A writer's reservation (PROTOCOL 5, step 3): the lease is kept, units are held, and it is written down
-- whose they are. One statement, which is committed as it is answered (ADR 0151).

-- Returns how many units are held: all that are wanted or, with nothing done, 0. Null: the lease is
-- somebody else's. Where there is only a part, it fails as WR001 and nothing has happened: who gets a
-- unit is the writer's to say, and the intents that are handed in name them all. Said twice, it is said
-- once.
create function delivery.reserve(
  p_connection uuid, p_fencing bigint, p_workspace uuid, p_hold uuid, p_wanted integer,
  p_intents uuid[], p_units bytea[]
) returns integer language plpgsql as $$
declare
  v_granted integer;
begin
  perform from delivery.destinations d
  where d.connection_id = p_connection and d.fencing = p_fencing and d.lease_owner is not null for share;
  if not found then return null; end if;
  v_granted := ledger.hold(p_workspace, p_hold, p_wanted);
  if v_granted = 0 then return 0; end if;
  if v_granted < p_wanted then
    raise exception 'of % units there are %', p_wanted, v_granted using errcode = 'WR001';
  end if;
  insert into delivery.intents (intent_id, connection_id, workspace_id, hold_id, kind, state, fencing, units)
  select u.intent, p_connection, p_workspace, p_hold, 'single', 'open', p_fencing, u.units
  from unnest(p_intents, p_units) u (intent, units) on conflict do nothing;
  return v_granted;
end
$$;
revoke execute on function delivery.reserve from public;
grant execute on function delivery.reserve to contactsync_writer;
