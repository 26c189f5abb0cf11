"""Automatic imports share what one external account may bring in a sync (AC5)."""

from uuid import uuid4

import pytest

from libs.common.events import Mapped
from services.writer.settings import WriterSettings
from services.writer.shares import Budget
from tests.fakes import Fault
from tests.services.writer.world import LONG_SLOT, World, crash_at, upsert

# A slot lasts until a test says that it is over: half an hour may end in the midst of one.
SHARES = Budget(5, LONG_SLOT)


@pytest.fixture
async def importer(world: World) -> World:
    """Return a world whose integration is an automatic import, with five shares in a slot."""
    await world.configure(kind="automatic")
    await world.begin_run(1)
    world.budget = SHARES
    return world


def people(world: World, *numbers: int, page: int = 1, ms: int = 1000) -> Mapped:
    return world.record(*[upsert(f"c{n:03}", ms=ms, N=ms) for n in numbers], page=page)


async def next_slot(world: World) -> None:
    """Let the slot be over."""
    for table in ("limits.sync_shares", "limits.sync_budgets"):
        await world.execute(f"update {table} set slot = slot - interval '30 minutes'")


async def used(world: World) -> int:
    return int(await world.one("select coalesce(sum(used), 0) from limits.sync_budgets") or 0)


def written(world: World) -> list[str]:
    return sorted(each.partition("@")[0] for each in world.account.contacts)


def test_it_is_five_hundred_where_nobody_says_otherwise() -> None:
    """Proves AC5: by the writer's settings, and by what it goes by without any."""
    assert Budget().most == 500
    assert WriterSettings.sync_budget == 500


async def test_so_many_in_a_sync_and_the_rest_with_the_next_ones(importer: World) -> None:
    """Proves AC5: nothing lost, nothing charged that waits, the longest waiting first."""
    writer = importer.writer()

    (settled,) = await importer.write(writer, people(importer, *range(12)))
    await importer.drain(writer)
    syncs = [written(importer)]
    for _ in range(2):
        await next_slot(importer)
        await importer.drain(writer)
        syncs.append(written(importer))

    names = [f"c{n:03}" for n in range(12)]
    assert settled.created == names[:5]
    assert settled.parked == [(each, "sync_budget") for each in names[5:]]
    assert syncs == [names[:5], names[:10], names]
    assert await importer.posted() == 12
    await importer.check_ledger()


async def test_an_import_brings_as_many_as_have_a_share(importer: World) -> None:
    """Proves AC5: those that go by import, too."""
    importer.rows_min = 3
    writer = importer.writer()

    (settled,) = await importer.write(writer, people(importer, *range(80)))

    assert settled.importing == 5
    assert len(settled.parked) == 75
    assert [len(each.writes) for each in importer.account.imports] == [5]


async def test_all_importers_of_an_account_share(importer: World) -> None:
    """Proves AC5: also those to another destination; who came later waits behind who waits."""
    second = uuid4()
    await importer.add_integration(second)
    await importer.execute(
        "update config.integrations set kind = 'automatic' where integration_id = :i", i=second
    )
    writer = importer.writer()
    await importer.write(writer, people(importer, 0, 1, 2, 3, 4, 5, 6))
    theirs = importer.record(
        *[upsert(f"x{n}", f"x{n}@example.org") for n in range(6)], integration=second
    )
    (settled,) = await importer.write(writer, theirs)
    await next_slot(importer)
    # A contact that comes now has no better right than those that have waited.
    (late,) = await importer.write(writer, people(importer, 7, 8, page=2))
    await importer.drain(writer)

    assert settled.created == []
    assert late.created == []
    assert sorted(importer.account.contacts) == [
        *[f"c00{n}@example.com" for n in range(7)],
        *[f"x{n}@example.org" for n in range(3)],
    ]


async def test_other_integrations_of_the_account_have_no_part_in_it(importer: World) -> None:
    """Proves AC5: it is about automatic imports."""
    mapped = uuid4()
    await importer.add_integration(mapped)
    writer = importer.writer()
    await importer.write(writer, people(importer, *range(9)))
    theirs = [upsert(f"m{n}", f"m{n}@example.org") for n in range(9)]

    (settled,) = await importer.write(writer, importer.record(*theirs, integration=mapped))

    assert len(settled.created) == 9
    assert await used(importer) == 5


async def test_the_operator_may_lift_it(importer: World) -> None:
    """Proves AC5, liftable: who waits already goes, too."""
    await importer.write(importer.writer(), people(importer, *range(9)))
    await importer.lapse()
    importer.budget = Budget(0)
    writer = importer.writer()

    await importer.drain(writer)
    (settled,) = await importer.write(writer, people(importer, *range(20, 40), page=2))

    assert len(settled.created) == 20
    assert len(written(importer)) == 29
    assert await used(importer) == 5


@pytest.mark.parametrize("step", ["classified", "held", "called"])
async def test_a_crash_gives_no_second_budget(importer: World, step: str) -> None:
    """Proves AC5 and X2: the same contacts have their shares when their record comes again."""
    record = people(importer, *range(8))
    writer = await importer.killed(importer.writer(reached=crash_at(step)), record)
    after_the_crash = await used(importer)

    await importer.write(writer, record)
    await importer.drain(writer)

    assert after_the_crash == await used(importer) == 5
    assert written(importer) == [f"c{n:03}" for n in range(5)]
    assert await importer.posted() == 5
    await importer.check_ledger()


async def test_who_is_refused_gives_no_share_back(importer: World) -> None:
    """Proves AC5."""
    importer.account.refused = {f"c{n:03}@example.com": "value_not_accepted" for n in range(5)}

    (settled,) = await importer.write(importer.writer(), people(importer, *range(7)))

    assert len(settled.rejected) == 5
    assert [reason for _, reason in settled.parked] == ["sync_budget"] * 2
    assert await used(importer) == 5
    assert await importer.posted() == 0


async def test_a_retry_takes_no_second_share(importer: World) -> None:
    """Proves AC5: what was cut off is tried again in the same slot, and edited once more."""
    importer.account.fail(Fault.LIMITED)
    writer = importer.writer()
    (first,) = await importer.write(writer, people(importer, *range(5)))
    await importer.unblock_in_time()
    await importer.drain(writer)
    (again,) = await importer.write(writer, people(importer, *range(6), page=2, ms=2000))

    assert {reason for _, reason in first.parked} == {"rate_limited"}
    assert written(importer) == [f"c{n:03}" for n in range(5)]
    assert again.updated == [f"c{n:03}" for n in range(5)]
    assert again.parked == [("c005", "sync_budget")]
    assert await used(importer) == 5


async def test_a_change_of_address_waits_with_all_its_fields(importer: World) -> None:
    """Proves AC5 and S5: without a share nothing goes to the old address, and nothing is lost."""
    writer = importer.writer()
    await importer.write(writer, people(importer, *range(5)))
    await next_slot(importer)
    await importer.write(writer, people(importer, *range(10, 15), page=2))
    moved = importer.record(upsert("c000", "new@example.com", ms=2000, N=2000), page=3)
    (settled,) = await importer.write(writer, moved, importer.run_read())
    before = dict(importer.account.contacts["c000@example.com"].attributes)
    await next_slot(importer)

    await importer.drain(writer)

    assert settled.parked == [("c000", "email_change")]
    assert before == {"N": 1000}
    assert "c000@example.com" not in importer.account.contacts
    assert importer.account.contacts["new@example.com"].attributes == {"N": 2000}
    await importer.check_ledger()


async def test_what_is_unchanged_needs_no_share(importer: World) -> None:
    """Proves AC5 and Q6."""
    writer = importer.writer()
    await importer.write(writer, people(importer, *range(5)))
    await next_slot(importer)

    (settled,) = await importer.write(writer, people(importer, *range(5), page=2))

    assert settled.unchanged == 5
    assert (
        await importer.one(
            "select count(*) from limits.sync_shares where slot > now() - interval '30 minutes'"
        )
        == 0
    )


async def test_who_waits_for_the_quota_does_not_wait_for_a_share_first(importer: World) -> None:
    """Proves AC5 and Q3: nothing is taken of a sync that writes nothing."""
    await importer.limit(0)

    (settled,) = await importer.write(importer.writer(), people(importer, *range(7)))

    assert {reason for _, reason in settled.parked} == {"quota"}
    assert await used(importer) == 0


async def test_a_deleted_import_keeps_nobody_waiting(importer: World) -> None:
    """Proves AC5 and AC7: its contacts are let go, and the account's others have the shares."""
    second = uuid4()
    await importer.add_integration(second)
    await importer.execute(
        "update config.integrations set kind = 'automatic' where integration_id = :i", i=second
    )
    writer = importer.writer()
    await importer.write(writer, people(importer, *range(30)))
    await importer.configure(state="archived")
    await next_slot(importer)
    theirs = [upsert(f"x{n}", f"x{n}@example.org") for n in range(5)]

    (settled,) = await importer.write(writer, importer.record(*theirs, integration=second))
    await importer.drain(writer)

    assert len(settled.created) == 5
    assert await importer.parked() == {}
    assert len(written(importer)) == 10


async def test_a_block_ends_with_somebody_who_waits_for_a_share(importer: World) -> None:
    """Proves AC5: where all that wait at a blocked destination wait for a sync, one is tried."""
    writer = importer.writer()
    await importer.write(writer, people(importer, *range(7)))
    await importer.execute(
        "update delivery.destinations set block_reason = 'destination_down', block_attempts = 1,"
        " blocked_until = clock_timestamp() - interval '1 s'"
    )
    await importer.drain(writer)
    still = await importer.one("select block_reason from delivery.destinations")
    await next_slot(importer)

    await importer.drain(writer)

    assert still == "destination_down"  # Nobody has a share to be tried with.
    assert await importer.one("select block_reason from delivery.destinations") is None
    assert len(written(importer)) == 7


async def test_two_writers_of_one_account_take_no_share_twice(importer: World) -> None:
    """Proves AC5 with destinations of their own: the row of the slot is waited for in turn."""
    other = uuid4()
    await importer.execute(
        "insert into config.connections (connection_id, workspace_id, provider, name, state,"
        " account_id) values (:c, :w, 'fake', 'Other', 'connected', 'account-2')",
        c=other,
        w=importer.workspace,
    )
    second = uuid4()
    await importer.add_integration(second)
    await importer.execute(
        "update config.integrations set kind = 'automatic', destination_connection_id = :c"
        " where integration_id = :i",
        c=other,
        i=second,
    )
    first_writer, second_writer = importer.writer(), importer.writer()
    theirs = importer.record(
        *[upsert(f"x{n}", f"x{n}@example.org") for n in range(6)], integration=second
    )

    await importer.write(first_writer, people(importer, 0, 1, 2))
    await second_writer.live.handle(other, [theirs])

    assert len(importer.account.contacts) == 5
    assert await used(importer) == 5
