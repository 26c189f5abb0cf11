-- limits: rate budgets shared by all processes, by the database's clock (PROTOCOL 10).

create table limits.slots (
  scope text not null,
  bucket text not null,
  next_at timestamptz not null,
  primary key (scope, bucket)
) with (fillfactor = 50);

create table limits.blocks (
  scope text not null,
  bucket text not null,  -- '*': every bucket of the scope
  blocked_until timestamptz not null,
  primary key (scope, bucket)
);

create table limits.days (
  scope text not null,
  resets_at timestamptz not null,
  used integer not null default 0,
  primary key (scope, resets_at)
) with (fillfactor = 50);

create table limits.sync_budgets (
  account text not null,
  slot timestamptz not null,
  used integer not null default 0,
  primary key (account, slot)
);

-- Hands out the next call times of a bucket, evenly spaced at `p_rate` a second: how many of
-- `p_calls` (at most half a second's worth, so that unused ones never add up), in how many
-- seconds the first one is due, and how far apart they are. granted = 0: ask again in `wait_s`.
-- After a rest, `p_burst` calls may follow one another at once: only for windows of an hour or so,
-- where burst + rate * window stays below the limit. Interactive calls have a row of their own
-- with a reserved share; `p_lane` names it.
create function limits.take(
  p_scope text, p_bucket text, p_calls integer, p_rate double precision, p_burst integer default 0, p_lane text default ''
)
returns table (granted integer, wait_s double precision, interval_s double precision)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_now timestamptz;
  v_start timestamptz;
  v_until timestamptz;
begin
  interval_s := 1 / p_rate;
  insert into limits.slots as s (scope, bucket, next_at) values (p_scope, p_bucket || p_lane, '-infinity')
  on conflict (scope, bucket) do nothing;
  select s.next_at into v_start from limits.slots s
  where s.scope = p_scope and s.bucket = p_bucket || p_lane for update;
  v_now := clock_timestamp();
  select max(b.blocked_until) into v_until from limits.blocks b
  where b.scope = p_scope and b.bucket in (p_bucket, '*') and b.blocked_until > v_now;
  if v_until is not null then
    granted := 0;
    wait_s := extract(epoch from v_until - v_now);
    return next;
    return;
  end if;
  v_start := greatest(v_start, v_now - make_interval(secs => p_burst * interval_s));
  wait_s := greatest(extract(epoch from v_start - v_now), 0);
  -- Further ahead than a second nothing is promised: who waits may be gone by then.
  if wait_s > 1 then
    granted := 0;
    return next;
    return;
  end if;
  granted := least(p_calls, greatest(1, floor(p_rate * 0.5)))::integer;
  update limits.slots s set next_at = v_start + make_interval(secs => granted * interval_s)
  where s.scope = p_scope and s.bucket = p_bucket || p_lane;
  return next;
end
$$;

-- Stops a bucket for everyone; a block is only ever prolonged, at most 24 h ahead.
create function limits.block(p_scope text, p_bucket text, p_seconds double precision) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into limits.blocks as b (scope, bucket, blocked_until)
  values (p_scope, p_bucket, clock_timestamp() + make_interval(secs => least(greatest(p_seconds, 0), 86400)))
  on conflict (scope, bucket) do update set blocked_until = greatest(b.blocked_until, excluded.blocked_until)
$$;

-- Counts calls of a day that ends at `p_resets_at`; false: the day's limit would be passed.
create function limits.count_day(p_scope text, p_calls integer, p_limit integer, p_resets_at timestamptz) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into limits.days as d (scope, resets_at, used) select p_scope, p_resets_at, p_calls where p_calls <= p_limit
  on conflict (scope, resets_at) do update set used = d.used + excluded.used
    where d.used + excluded.used <= p_limit;
  return found;
end
$$;

revoke execute on all functions in schema limits from public;
grant execute on all functions in schema limits to contactsync_api, contactsync_poller, contactsync_writer;
