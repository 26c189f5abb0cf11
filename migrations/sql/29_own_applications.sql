-- An application of a workspace's own at a provider (PROTOCOL 10; docs/decisions/0165): its calls are
-- counted apart from those of the operator's. Null: the operator's.
alter table config.connections
  add column client_id text,
  add column sealed_client_secret text,
  add constraint connections_client_whole check ((client_id is null) = (sealed_client_secret is null));

-- Divides a day: a tenth for people who wait before a page, the rest evenly between the workspaces
-- that have something running by the application whose day it is: the scope is the provider's name,
-- `application`, and the id of one that is not the operator's. Of a day that was begun without that,
-- what is left is divided.
create or replace function limits.divide_day(p_scope text, p_resets_at timestamptz, p_rest integer, p_limit integer) returns void
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
      and c.provider || ':application' || coalesce(':' || c.client_id, '') = p_scope
    group by i.workspace_id
  ) w
  cross join lateral (
    select coalesce(least(w.part * p_limit, w.part * p_rest / nullif(l.day_left, 0)), 0)::double precision as share
  ) s
$$;
