"""What a thousand integrations cost in which nothing is new: their polls, and all that follows.

Twenty of them are made as persons make them and have their first run; the others are copies of
their rows, each with its own schedule, mapping, position and members, at the same accounts. Fifty
integrations to an account are more than anybody has; a poll costs the same.
"""

import uuid

from benchmarks import fleet
from benchmarks.bench import Bench
from benchmarks.world import World

TENANTS = 20
INTEGRATIONS = 1_000
INTERVAL_S = 300.0  # The shortest there is.
STEADY_S = 30.0

# Of integrations that nobody reads now. `$1`: the copies' ids; `$2`: whose copy each is.
COPIES = """
with copy as (
  select * from unnest($1::uuid[], $2::uuid[]) c (copy_id, integration_id)
), integration as (
  insert into config.integrations
  select i.* from copy c join config.integrations o using (integration_id),
    jsonb_populate_record(o, jsonb_build_object('integration_id', c.copy_id)) i
  returning integration_id
), mapping as (
  insert into config.field_mappings
  select m.* from copy c join config.field_mappings o using (integration_id),
    jsonb_populate_record(o, jsonb_build_object('integration_id', c.copy_id)) m
), position as (
  insert into sync.positions
  select p.* from copy c join sync.positions o using (integration_id),
    jsonb_populate_record(o, jsonb_build_object('integration_id', c.copy_id)) p
), member as (
  insert into sync.members
  select m.* from copy c join sync.members o using (integration_id),
    jsonb_populate_record(o, jsonb_build_object('integration_id', c.copy_id)) m
)
insert into sync.schedules
select s.* from copy c join sync.schedules o using (integration_id),
  jsonb_populate_record(o, jsonb_build_object('integration_id', c.copy_id)) s
"""

# Spread over the interval, as a thousand integrations that were made at a thousand times are.
_SPREAD = """
update sync.schedules s
set next_due_at = clock_timestamp() + make_interval(secs => $1 * n.number / n.count)
from (select integration_id, row_number() over (order by integration_id) as number,
        count(*) over () as count from sync.schedules) n
where n.integration_id = s.integration_id
"""
_TRANSACTIONS = "select xact_commit from pg_stat_database where datname = current_database()"
_POLLS = "select count(*) from sync.runs where state = 'read'"


async def idle(bench: Bench) -> None:
    """Poll all at once, then as their intervals would have it; `contacts` are on the list."""
    world = bench.world
    await world.fill(bench.contacts)
    tenants = await fleet.settle(world, TENANTS)
    await bench.phase(
        "idle", "first runs", bench.contacts * TENANTS, lambda: fleet.activate(tenants)
    )
    await _copy(world, INTEGRATIONS - TENANTS)
    await _all_at_once(bench)
    await _steadily(bench)


async def _all_at_once(bench: Bench) -> None:
    world = bench.world
    before = await world.database.fetchval(_TRANSACTIONS)
    found = await bench.phase("idle", "all at once", 0, lambda: world.make_due(world.integrations))
    poller_ms = 1_000 * found.cpu_s["poller-hubspot"]
    bench.note(
        polls=INTEGRATIONS,
        poller_ms_per_poll=poller_ms / INTEGRATIONS,
        poller_ms_per_call=poller_ms / found.calls["hubspot"],
        all_of_ours_ms_per_poll=1_000 * found.own_cpu_s / INTEGRATIONS,
        transactions_per_poll=(await world.database.fetchval(_TRANSACTIONS) - before)
        / INTEGRATIONS,
    )


async def _steadily(bench: Bench) -> None:
    world = bench.world
    await world.database.execute(_SPREAD, INTERVAL_S)
    before = await world.database.fetchval(_POLLS)
    await world.rested("idle", STEADY_S, bench.found, phase="steady")
    found = bench.found[-1]
    bench.note(
        polls=await world.database.fetchval(_POLLS) - before,
        own_cpu_ms_per_second=1_000 * found.own_cpu_s / STEADY_S,
        cpu_ms_per_second=1_000 * sum(found.cpu_s.values()) / STEADY_S,
    )


async def _copy(world: World, count: int) -> None:
    """Make so many copies of the world's integrations, which nobody may be reading."""
    originals = [uuid.UUID(each.rpartition("_")[2]) for each in world.integrations]
    copies = [uuid.uuid4() for _ in range(count)]
    of = [originals[number % len(originals)] for number in range(count)]
    await world.database.execute(COPIES, copies, of)
    world.integrations += map(str, copies)
