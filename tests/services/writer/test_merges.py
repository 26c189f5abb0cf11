"""Merges at the source: the surviving contact takes over what stands at the destination."""

from libs.common.events import Operation
from tests.services.writer.world import LIST, World, crash_at, leave, upsert


async def test_a_survivor_takes_over_the_merged_contacts_link(world: World) -> None:
    await world.begin_run(1)
    await world.begin_run(2)
    writer = world.writer()
    await world.write(writer, world.record(upsert("a", "x@example.com", VORNAME="A")))

    (settled,) = await world.write(
        writer,
        world.record(
            upsert("b", "x@example.com", ms=2000, merged_from=["a"], VORNAME="A"), run_no=2
        ),
    )

    links = await world.links()
    assert settled.unchanged == 1
    assert (links["b"].state, links["b"].identity) == ("linked", "x@example.com")
    assert (links["a"].state, links["a"].identity) == ("removed", None)
    assert await world.posted() == 1


async def test_a_survivor_with_the_address_of_the_merged_contact_updates_it(world: World) -> None:
    await world.begin_run(1)
    await world.begin_run(2)
    writer = world.writer()
    await world.write(
        writer, world.record(upsert("a", "x@example.com"), upsert("b", "y@example.com"))
    )

    (settled,) = await world.write(
        writer,
        world.record(
            upsert("b", "x@example.com", ms=2000, merged_from=["a"], VORNAME="New"), run_no=2
        ),
    )

    assert settled.updated == ["b"]
    assert world.account.contacts["x@example.com"].attributes == {"VORNAME": "New"}
    assert (await world.links())["b"].identity == "x@example.com"


async def test_a_merge_that_waits_is_not_forgotten_for_a_newer_edit(world: World) -> None:
    """Beside an import nothing is taken over yet, and the edit that follows does not tell of it."""
    await world.begin_run(1)
    await world.begin_run(2)
    writer = world.writer()
    await world.write(writer, world.record(*[upsert(f"c{number}") for number in range(60)]))
    survivor = upsert("s", "c0@example.com", ms=2000, merged_from=["c0"])
    await world.write(writer, world.record(survivor, run_no=2))
    edit = upsert("s", "c0@example.com", ms=3000, VORNAME="Edited")
    await world.write(writer, world.record(edit, run_no=2, page=2))
    waiting = await world.parked()

    world.account.land()
    writer.clock.ahead_s += 20.0
    await world.drain(writer)

    assert waiting == {"s": "import_running"}
    assert await world.parked() == {}
    assert world.account.contacts["c0@example.com"].attributes == {"VORNAME": "Edited"}
    assert (await world.links())["c0"].identity is None
    assert await world.posted() == 61
    await world.check_ledger()


async def test_a_merged_contacts_deletion_before_its_survivor_removes_nothing(
    world: World,
) -> None:
    """Both in one batch: the survivor has the address, and membership is not sent again."""
    await world.begin_run(1)
    await world.begin_run(2)
    await world.configure(deletion_policy="remove_from_list")
    writer = world.writer()
    await world.write(writer, world.record(upsert("a", "x@example.com", VORNAME="A")))

    settled = await world.write(
        writer,
        world.record(leave("a", op=Operation.DELETE, ms=2000), run_no=2),
        world.record(
            upsert("b", "x@example.com", ms=2000, merged_from=["a"], VORNAME="B"), run_no=2, page=2
        ),
    )

    assert [(each.filtered, each.updated) for each in settled] == [(1, []), (0, ["b"])]
    assert world.account.contacts["x@example.com"].list_ids == {LIST}
    assert (await world.links())["a"].identity is None
    await world.check_ledger()


async def test_a_merged_contacts_deletion_removes_nothing(world: World) -> None:
    await world.begin_run(1)
    await world.begin_run(2)
    await world.configure(deletion_policy="remove_from_list")
    writer = world.writer()
    await world.write(writer, world.record(upsert("a", "x@example.com")))
    await world.write(
        writer,
        world.record(upsert("b", "x@example.com", ms=2000, merged_from=["a"]), run_no=2),
    )

    (settled,) = await world.write(writer, world.record(leave("a"), run_no=2, page=2))

    assert settled.filtered == 1
    assert world.account.contacts["x@example.com"].list_ids


async def test_a_merged_contacts_parked_row_is_gone(world: World) -> None:
    await world.begin_run(1)
    await world.begin_run(2)
    writer = world.writer()
    await world.write(writer, world.record(upsert("a", "x@example.com")))
    await world.configure(state="paused")
    await world.write(
        writer, world.record(upsert("a", "x@example.com", ms=1500, VORNAME="B"), page=2)
    )
    await world.configure(state="active")

    await world.write(
        writer,
        world.record(
            upsert("b", "x@example.com", ms=2000, merged_from=["a"], VORNAME="C"), run_no=2
        ),
    )
    await world.drain(writer)

    assert await world.parked() == {}
    assert world.account.contacts["x@example.com"].attributes == {"VORNAME": "C"}


async def test_who_was_merged_into_a_row_of_an_import_waits_for_it(world: World) -> None:
    await world.begin_run(1)
    await world.begin_run(2)
    writer = world.writer()
    await world.write(writer, world.record(*[upsert(f"c{n}") for n in range(60)]))

    (settled,) = await world.write(
        writer,
        world.record(upsert("b", "c1@example.com", ms=2000, merged_from=["c1"]), run_no=2),
    )
    world.account.land()
    for _ in range(3):
        writer.clock.ahead_s += 70
        await writer.leases.renew()
        await world.drain(writer)

    assert settled.parked == [("b", "import_running")]
    assert (await world.links())["b"].identity == "c1@example.com"
    assert (await world.links())["c1"].state == "removed"
    assert await world.parked() == {}
    await world.check_ledger()


async def test_a_merged_contact_that_waited_for_an_address_is_not_written_later(
    world: World,
) -> None:
    """Proves S5: its address is the survivor's, as soon as its owner lets go."""
    await world.begin_run(1)
    await world.begin_run(2)
    writer = world.writer()
    await world.write(writer, world.record(upsert("owner", "x@example.com")))
    await world.write(writer, world.record(upsert("a", "x@example.com"), page=2))

    await world.write(
        writer, world.record(upsert("b", "x@example.com", ms=2000, merged_from=["a"]), run_no=2)
    )
    await world.write(writer, world.record(leave("owner", op=Operation.DELETE), run_no=2, page=2))
    await world.drain(writer)

    links = await world.links()
    assert links["b"].identity == "x@example.com"
    assert links["a"].identity is None
    assert await world.parked() == {}
    await world.check_ledger()


async def test_a_survivor_that_is_found_at_the_merged_contacts_address_has_it_alone(
    world: World,
) -> None:
    """Proves X2: killed after the call, and the next version comes before the first is stored.

    A look finds the survivor where the merged contact is linked: two links of one address would be
    refused, each time that the record comes.
    """
    await world.begin_run(1)
    await world.begin_run(2)
    await world.write(world.writer(), world.record(upsert("a", "x@example.com")))
    merged = upsert("b", "x@example.com", ms=2000, merged_from=["a"], VORNAME="B")
    later = upsert("b", "x@example.com", ms=3000, merged_from=["a"], VORNAME="C")
    await world.lapse()
    writer = await world.killed(
        world.writer(reached=crash_at("called")), world.record(merged, run_no=2)
    )

    await world.write(writer, world.record(later, run_no=2, page=2))

    links = await world.links()
    assert (links["b"].state, links["b"].identity) == ("linked", "x@example.com")
    assert (links["a"].state, links["a"].identity) == ("removed", None)
    assert world.account.contacts["x@example.com"].attributes == {"VORNAME": "C"}
    assert await world.posted() == 3
    await world.check_ledger()
