"""A lane's records, from the batch to what is told."""

from libs.common.events import RunRead
from tests.services.writer.world import World, leave, upsert


async def test_new_contacts_are_written_linked_charged_and_told(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()

    (settled,) = await world.write(writer, world.record(upsert("a"), upsert("b")))

    assert settled.created == ["a", "b"]
    assert world.account.keys() == {"a@example.com", "b@example.com"}
    assert {row.identity for row in (await world.links()).values()} == world.account.keys()
    assert await world.posted() == 2
    await world.check_ledger()


async def test_what_is_unchanged_costs_nothing(world: World) -> None:
    """Proves Q6."""
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(upsert("a")))
    await world.begin_run(2)

    (settled,) = await world.write(writer, world.record(upsert("a", ms=2000), run_no=2))

    assert settled.unchanged == 1
    assert len(world.account.applied) == 1
    assert await world.posted() == 1
    assert (await world.links())["a"].version_ms == 2000


async def test_the_end_of_a_run_in_which_no_address_changed_takes_four_statements(
    world: World,
) -> None:
    """Most runs find nothing: the lease, the run, changed addresses, and that there were none."""
    writer, asked = world.writer(), list[str]()
    for run_no in (1, 2):
        await world.begin_run(run_no)
    await world.write(writer, world.run_read(1))  # The destination is owned from here on.
    async with world.sessions.begin() as session:
        session.connection.add_query_logger(lambda query: asked.append(query.query))

    await world.write(writer, world.run_read(2))

    assert len([query for query in asked if not query.startswith(("BEGIN", "COMMIT"))]) == 4
    decided = await world.rows("select email_decision from sync.runs order by run_no")
    assert [row.email_decision for row in decided] == [{"approved": {}, "refused": {}}] * 2


async def test_a_run_read_is_passed_on_last(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()

    await world.write(writer, world.record(upsert("a")), world.run_read())

    assert isinstance(writer.told[-1], RunRead)
    assert len(writer.told) == 2


async def test_a_leave_of_somebody_unknown_is_filtered(world: World) -> None:
    await world.begin_run(1)

    (settled,) = await world.write(world.writer(), world.record(leave("a")))

    assert settled.filtered == 1
    assert await world.posted() == 0
