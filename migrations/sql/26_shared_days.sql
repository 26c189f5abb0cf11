-- A day's calls that all workspaces share, because the provider counts by our application and not by
-- account (PROTOCOL 10; docs/decisions/0155): nobody uses up what the others need for the rest of it.

-- What is kept for each workspace (`party`) of a day, and for people of any (''). `kept` falls as it
-- is used, and never stands above `share` times what is left of the day: what somebody has not used by
-- noon is for everybody.
create table limits.day_shares (
  scope text not null,
  resets_at timestamptz not null,
  party text not null,
  share double precision not null,
  kept double precision not null,
  used integer not null default 0,
  primary key (scope, resets_at, party)
) with (fillfactor = 50);

-- What is left of a day, from 1 to 0.
create function limits.day_left(p_resets_at timestamptz) returns double precision
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select least(1, greatest(0, extract(epoch from p_resets_at - clock_timestamp()) / 86400))::double precision
$$;

-- Divides a day: a tenth for people who wait before a page, the rest evenly between the workspaces
-- that have something running at the provider (the scope begins with its name). Of a day that was
-- begun without that, what is left is divided.
create function limits.divide_day(p_scope text, p_resets_at timestamptz, p_rest integer, p_limit integer) returns void
language sql set search_path = pg_catalog, pg_temp as $$
  delete from limits.day_shares d where d.scope = p_scope and d.resets_at < p_resets_at - interval '2 days';
  insert into limits.day_shares (scope, resets_at, party, share, kept)
  select p_scope, p_resets_at, w.party, s.share, s.share * l.day_left
  from limits.day_left(p_resets_at) l (day_left)
  cross join (
    select '' as party, 0.1 as part
    union all
    select i.workspace_id::text, 0.9 / count(*) over ()
    from config.integrations i join config.connections c on c.connection_id = i.source_connection_id
    where c.provider = split_part(p_scope, ':', 1) and i.state in ('active', 'error')
    group by i.workspace_id
  ) w
  cross join lateral (
    select coalesce(least(w.part * p_limit, w.part * p_rest / nullif(l.day_left, 0)), 0)::double precision as share
  ) s
$$;

-- Counts calls of a day as `count_day` does, but leaves alone what is kept for others: 'counted',
-- 'share_over' (some of the others' share is free as the day goes on) or 'day_over'. Who was not there
-- when the day was divided gets as much of what is free then as the others have. A person takes what is
-- kept for people first, then what a workspace's own runs may.
create function limits.count_share(
  p_scope text, p_party text, p_calls integer, p_limit integer, p_resets_at timestamptz, p_is_person boolean
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_left double precision := limits.day_left(p_resets_at);
  v_rest integer;
  v_free double precision;  -- What is kept for nobody.
  v_parties integer;
  v_own double precision;
  v_peoples double precision;
begin
  insert into limits.days as d (scope, resets_at, used) values (p_scope, p_resets_at, 0)
  on conflict (scope, resets_at) do nothing;
  select p_limit - d.used into v_rest from limits.days d
  where d.scope = p_scope and d.resets_at = p_resets_at for update;
  if p_calls > v_rest then
    return 'day_over';
  end if;
  perform from limits.day_shares d where d.scope = p_scope and d.resets_at = p_resets_at;
  if not found then
    perform limits.divide_day(p_scope, p_resets_at, v_rest, p_limit);
  end if;
  select v_rest - sum(least(d.kept, d.share * v_left)), count(*) filter (where d.party <> ''),
    sum(least(d.kept, d.share * v_left)) filter (where d.party = p_party),
    sum(least(d.kept, d.share * v_left)) filter (where d.party = '')
  into v_free, v_parties, v_own, v_peoples
  from limits.day_shares d where d.scope = p_scope and d.resets_at = p_resets_at;
  if v_own is null then
    v_own := greatest(0, least(0.9 * p_limit / (v_parties + 1) * v_left, v_free));
    v_free := v_free - v_own;
    insert into limits.day_shares (scope, resets_at, party, share, kept)
    values (p_scope, p_resets_at, p_party, coalesce(v_own / nullif(v_left, 0), 0), v_own);
  end if;
  if not p_is_person then
    v_peoples := 0;
  end if;
  if p_calls > v_free + v_own + v_peoples then
    return 'share_over';
  end if;
  update limits.days d set used = d.used + p_calls where d.scope = p_scope and d.resets_at = p_resets_at;
  update limits.day_shares d
  set kept = greatest(0, least(d.kept, d.share * v_left)
        - case when d.party = '' then p_calls else greatest(0, p_calls - v_peoples) end),
    used = d.used + p_calls
  where d.scope = p_scope and d.resets_at = p_resets_at
    and (d.party = p_party or d.party = '' and p_is_person);
  return 'counted';
end
$$;

revoke execute on function limits.day_left, limits.divide_day, limits.count_share from public;
grant execute on function limits.count_share to contactsync_api, contactsync_poller, contactsync_writer;
