-- Has those read who were left out of a run (CC4); returns how many they are. Who was read since, by
-- whatever run, is not among them any more: as the API lists them.
create or replace function sync.replay_left_out(p_run uuid) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_count integer;
begin
  update sync.left_out l set wanted_at = clock_timestamp()
  where l.run_id = p_run and l.wanted_at is null and l.workspace_id = config.current_workspace()
    and not exists (select from delivery.links k where k.integration_id = l.integration_id
                      and k.source_id = l.source_id and k.version_ms >= l.version_ms);
  get diagnostics v_count = row_count;
  if v_count > 0 then
    perform sync.make_due(r.integration_id) from sync.runs r where r.run_id = p_run;
  end if;
  return v_count;
end
$$;
