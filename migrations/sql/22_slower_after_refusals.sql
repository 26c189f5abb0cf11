-- Who is refused calls more slowly for a while, and what is kept for people is lent while nobody is
-- there (docs/decisions/0147). A provider's limit may be lower
-- than what is known of it, or shared with others: stopping for as long as it asks, and then going on
-- at the same pace, is refused again at once.

-- `share` of their pace is what callers may use right after the refusal of `slowed_at`; it comes
-- back evenly within two minutes of a whole one.
alter table limits.blocks
  add column share double precision not null default 1,
  add column slowed_at timestamptz;

-- What may be used by now of the pace that was slowed down then.
create function limits.share_now(p_share double precision, p_slowed_at timestamptz, p_now timestamptz)
returns double precision
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select least(1, p_share + coalesce(extract(epoch from p_now - p_slowed_at) / 120, 1))::double precision
$$;

-- As before (04_limits.sql), but at the share of `p_rate` that refusals have left, and faster by
-- `p_lent` a second while no other lane of the bucket has taken a slot for longer than any window that
-- is spaced. People who wait before a page are not slowed down: their share of the limit is small,
-- and theirs alone.
drop function limits.take(text, text, integer, double precision, integer, text);
create function limits.take(
  p_scope text, p_bucket text, p_calls integer, p_rate double precision, p_burst integer default 0, p_lane text default '',
  p_lent double precision default 0
)
returns table (granted integer, wait_s double precision, interval_s double precision)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_now timestamptz;
  v_start timestamptz;
  v_until timestamptz;
  v_rate double precision;
begin
  insert into limits.slots as s (scope, bucket, next_at) values (p_scope, p_bucket || p_lane, '-infinity')
  on conflict (scope, bucket) do nothing;
  select s.next_at into v_start from limits.slots s
  where s.scope = p_scope and s.bucket = p_bucket || p_lane for update;
  v_now := clock_timestamp();
  select max(b.blocked_until), p_rate * coalesce(min(limits.share_now(b.share, b.slowed_at, v_now)), 1)
  into v_until, v_rate
  from limits.blocks b where b.scope = p_scope and b.bucket in (p_bucket, '*');
  if p_lane <> '' then
    v_rate := p_rate;
  elsif p_lent > 0 and v_rate = p_rate and not exists (
    select from limits.slots s where s.scope = p_scope and starts_with(s.bucket, p_bucket || ':')
      and s.next_at > v_now - interval '15 seconds'
  ) then
    v_rate := p_rate + p_lent;
  end if;
  interval_s := 1 / v_rate;
  if v_until > v_now then
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
  granted := least(p_calls, greatest(1, floor(v_rate * 0.5)))::integer;
  update limits.slots s set next_at = v_start + make_interval(secs => granted * interval_s)
  where s.scope = p_scope and s.bucket = p_bucket || p_lane;
  return next;
end
$$;

-- Stops a bucket for everyone; a block is only ever prolonged, at most 24 h ahead. Then it goes on
-- at three quarters of the pace before, at a twentieth at least: not after long waits, which are
-- about an allowance that is used up and not about how fast it was; and once for all who are refused
-- together.
create or replace function limits.block(p_scope text, p_bucket text, p_seconds double precision) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_row limits.blocks;
  v_now timestamptz;
begin
  insert into limits.blocks as b (scope, bucket, blocked_until) values (p_scope, p_bucket, '-infinity')
  on conflict (scope, bucket) do nothing;
  select b.* into v_row from limits.blocks b where b.scope = p_scope and b.bucket = p_bucket for update;
  v_now := clock_timestamp();
  if p_seconds <= 60 and v_row.blocked_until <= v_now
      and v_now >= coalesce(v_row.slowed_at, '-infinity') + interval '1 second' then
    v_row.share := greatest(0.05, 0.75 * limits.share_now(v_row.share, v_row.slowed_at, v_now));
    v_row.slowed_at := v_now;
  end if;
  update limits.blocks b
  set share = v_row.share, slowed_at = v_row.slowed_at,
    blocked_until = greatest(b.blocked_until, v_now + make_interval(secs => least(greatest(p_seconds, 0), 86400)))
  where b.scope = p_scope and b.bucket = p_bucket;
end
$$;

revoke execute on function limits.share_now, limits.take from public;
grant execute on function limits.take to contactsync_api, contactsync_poller, contactsync_writer;
