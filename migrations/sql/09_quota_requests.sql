-- Asking for more (Q4), and reading the ledger to the last task.

-- The ledger is read newest first, and counted by day; a partition made later gets it as well.
create index postings_by_time on ledger.postings (workspace_id, posted_at, effect_key);

-- Tasks of each UTC day on which there were any: today and the `p_days` days before it. Every task
-- counts on the day it was written, whichever month it is charged to. Who calls sees what row-level
-- security lets him see: the API's role no other workspace (X3).
create function ledger.use_per_day(p_workspace uuid, p_days integer) returns table (day date, used bigint)
language sql volatile set search_path = pg_catalog, pg_temp as $$
  with today as materialized (select (ledger.now() at time zone 'UTC')::date as day)
  select (p.posted_at at time zone 'UTC')::date, count(*)
  from ledger.postings p
  where p.workspace_id = p_workspace
    and p.posted_at >= ((select t.day from today t) - p_days)::timestamp at time zone 'UTC'
  group by 1 order by 1
$$;
revoke execute on function ledger.use_per_day from public;
grant execute on function ledger.use_per_day to contactsync_api, contactsync_operator, contactsync_notifier;
-- The notifier counts, but does not see whose contact a task was (X4).
grant select (workspace_id, period, posted_at, integration_id) on ledger.postings to contactsync_notifier;
