"""Imports: sent once, believed only when read back (PROTOCOL.md 6)."""

from collections import Counter

import pytest

from libs.common.errors import (
    MisconfiguredError,
    RateLimitedError,
    SyncError,
    UnavailableError,
)
from libs.common.events import Effect, Identity, Operation
from libs.connectors.contract import ImportState, Write
from services.writer.drain import DRAINED_SINGLY_MAX
from services.writer.plan import SINGLES_MAX
from tests.fakes import CrashError, Fault
from tests.services.writer.world import World, Writer, crash_at, leave, upsert

COUNT = 60


def many(count: int = COUNT, *, ms: int = 1000) -> list[Effect]:
    return [upsert(f"c{number:03}", ms=ms) for number in range(count)]


async def imported(world: World, writer: Writer) -> None:
    """Let time pass until open imports have been looked at."""
    for _ in range(6):
        writer.clock.ahead_s += 70.0
        await renewed(writer)
        await world.drain(writer)


async def renewed(writer: Writer) -> None:
    await writer.leases.renew()


async def test_many_contacts_go_by_one_import(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()

    (settled,) = await world.write(writer, world.record(*many()))
    world.account.land()
    await imported(world, writer)

    (ended,) = await world.later()
    assert settled.importing == COUNT
    assert len(ended.created) == COUNT
    assert ended.stage.startswith("import:")
    assert (ended.page, ended.part, ended.run) == (settled.page, settled.part, settled.run)
    assert "write" not in world.account.calls
    assert await world.posted() == COUNT
    await world.check_ledger()


async def test_new_contacts_of_a_second_reading_are_outside_of_their_runs_sum(
    world: World,
) -> None:
    """Proves W8: a page that was read again has more contacts, and these go by an import."""
    await world.begin_run(1)
    writer = world.writer()

    first, second = await world.write(
        writer, world.record(upsert("a")), world.record(*many(), fencing=2)
    )
    world.account.land()
    await imported(world, writer)

    assert (first.stage, first.created) == ("direct", ["a"])
    assert (second.importing, second.parked) == (0, [])
    (ended,) = await world.later()
    assert ended.stage.startswith("drain:")
    assert len(ended.created) == COUNT


async def test_an_import_that_is_all_there_is_not_asked_about(world: World) -> None:
    """What costs one of a hundred asks an hour is asked only if rows stay away."""
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(*many()))
    world.account.land()

    await imported(world, writer)

    assert await world.posted() == COUNT
    assert "find_imports" not in world.account.calls
    assert "import_status" not in world.account.calls


async def test_rows_that_are_not_there_yet_are_waited_for(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(*many()))

    await imported(world, writer)
    before = await world.posted()
    world.account.land()
    await imported(world, writer)

    assert before == 0
    assert await world.posted() == COUNT
    assert len(world.account.imports) == 1


async def test_silent_failures_are_written_singly(world: World) -> None:
    """Fault 43. An import that completes with silent failures is not believed."""
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(*many()))
    world.account.land(silently_lost=["c007@example.com", "c008@example.com"])

    await imported(world, writer)

    singles = [each.key for each in world.account.applied if not each.by_import]
    assert sorted(singles) == ["c007@example.com", "c008@example.com"]
    assert len(world.account.contacts) == COUNT
    assert await world.posted() == COUNT
    assert await world.parked() == {}
    await world.check_ledger()


async def test_rows_that_the_provider_refuses_are_rejected(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(*many()))
    world.account.land(refused={"c007@example.com": "invalid_email"})

    await imported(world, writer)

    (ended,) = await world.later()
    assert ended.rejected == [("c007", "invalid_email")]
    assert len(ended.created) == COUNT - 1
    assert await world.posted() == COUNT - 1
    await world.check_ledger()


async def test_an_import_that_fails_is_written_singly(world: World) -> None:
    """Fault 43."""
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(*many()))
    world.account.land(
        silently_lost=[f"c{number:03}@example.com" for number in range(30)],
        state=ImportState.FAILED,
    )

    await imported(world, writer)

    assert len(world.account.contacts) == COUNT
    assert await world.posted() == COUNT
    await world.check_ledger()


async def test_an_accepted_import_whose_answer_was_lost_is_not_sent_again(world: World) -> None:
    """Fault 43."""
    await world.begin_run(1)
    writer = world.writer()
    world.account.lose_import_answer = True

    (settled,) = await world.write(writer, world.record(*many()))
    world.account.land()
    await imported(world, writer)

    assert settled.importing == COUNT
    assert len(world.account.imports) == 1
    assert await world.posted() == COUNT
    assert not [each for each in world.account.applied if not each.by_import]
    await world.check_ledger()


async def test_a_later_owner_finds_an_import_that_was_perhaps_sent(world: World) -> None:
    """The writer dies between the transaction and the answer: only the rows tell."""
    await world.begin_run(1)
    writer = await world.killed(world.writer(reached=crash_at("settled")), world.record(*many()))

    (settled,) = await world.write(writer, world.record(*many()))
    await imported(world, writer)

    assert settled.importing == COUNT  # As it was told before.
    assert len(world.account.contacts) == COUNT
    assert await world.posted() == COUNT
    await world.check_ledger()


async def test_an_import_that_can_not_be_ruled_out_is_waited_for(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()
    world.account.lose_import_answer = True
    world.account.finds_imports = False
    await world.write(writer, world.record(*many()))

    await imported(world, writer)

    assert await world.posted() == 0
    assert await world.held() == COUNT
    assert len(world.account.imports) == 1


async def test_after_a_day_the_rows_alone_decide(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(*many()))
    await world.lapse()
    await world.execute("update delivery.intents set sent_at = sent_at - interval '25 hours'")

    await imported(world, world.writer())

    assert len(world.account.contacts) == COUNT
    assert await world.posted() == COUNT
    await world.check_ledger()


@pytest.mark.parametrize(
    ("error", "days"),
    [
        (MisconfiguredError("fake.example", "not_found"), 0),
        (UnavailableError("fake.example", "HTTP 503"), 1),
    ],
)
async def test_an_import_that_can_not_be_asked_about_ends(
    world: World, error: SyncError, days: int
) -> None:
    """One that the provider has forgotten, or does not speak of: its rows decide, late at worst."""
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(*many()))
    world.account.land(silently_lost=["c001@example.com"])
    world.account.imports.clear()
    world.account.status_error = error
    await world.execute(
        "update delivery.intents set sent_at = sent_at - make_interval(hours => :h)", h=25 * days
    )
    await world.lapse()

    await imported(world, world.writer())

    assert await world.held() == 0
    assert await world.posted() == COUNT
    assert len(world.account.contacts) == COUNT
    await world.check_ledger()


@pytest.mark.parametrize("at", ["list", "status"])
async def test_what_is_not_known_of_an_import_does_not_end_it(world: World, at: str) -> None:
    """A key that may not look any more says nothing of rows or of an import."""
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(*many()))
    refused = MisconfiguredError("fake.example", "scope_missing")
    if at == "list":
        world.account.list_error = refused
    else:
        world.account.imports.clear()
        world.account.status_error = refused

    await imported(world, writer)

    assert await world.held() == COUNT
    assert await world.parked() == {}


async def test_an_import_into_a_list_that_is_deleted_meanwhile_ends(world: World) -> None:
    """Its units are given back, and the integration is put into error by the single writes."""
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(*many()))
    world.account.land()
    world.account.list_error = MisconfiguredError("fake.example", "list_missing")
    world.account.fail(Fault.MISCONFIGURED)

    await imported(world, writer)

    assert await world.held() == 0
    assert await world.posted() == 0
    reasons = Counter((await world.parked()).values())
    # Who was not in the first turn of single writes waits on as it did.
    assert reasons == {"configuration": DRAINED_SINGLY_MAX, "destination_down": 20}
    assert await world.one("select state from config.integrations") == "error"
    await world.check_ledger()


async def test_singles_beside_an_import_are_charged_once_after_a_crash(world: World) -> None:
    """Singles beside an import in one batch, crash between."""
    await world.begin_run(1)
    await world.write(world.writer(), world.record(upsert("old")))
    await world.lapse()
    await world.begin_run(2)
    record = world.record(upsert("old", ms=2000, VORNAME="B"), *many(ms=2000), run_no=2)

    writer = await world.killed(world.writer(reached=crash_at("called")), record)
    (settled,) = await world.write(writer, record)
    if world.account.imports:
        world.account.land()
    await imported(world, writer)

    assert settled.updated == ["old"]
    assert await world.posted() == 2 + COUNT
    assert len(world.account.contacts) == 1 + COUNT
    await world.check_ledger()


async def test_a_newer_version_waits_for_the_import(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(*many()))

    (settled,) = await world.write(
        writer, world.record(upsert("c001", ms=2000, VORNAME="Edited"), page=2)
    )
    world.account.land()
    await imported(world, writer)

    assert settled.parked == [("c001", "import_running")]
    assert world.account.contacts["c001@example.com"].attributes == {"VORNAME": "Edited"}
    assert await world.posted() == COUNT + 1
    await world.check_ledger()


async def test_a_row_that_failed_does_not_overwrite_the_newer_version_that_waits(
    world: World,
) -> None:
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(*many()))
    await world.write(writer, world.record(upsert("c001", ms=2000, VORNAME="Edited"), page=2))
    world.account.land(silently_lost=["c001@example.com"])

    await imported(world, writer)

    ended = next(each for each in await world.later() if each.stage.startswith("import:"))
    assert ended.superseded == 1
    assert world.account.contacts["c001@example.com"].attributes == {"VORNAME": "Edited"}
    assert len(world.account.writes_of("c001@example.com")) == 1
    await world.check_ledger()


async def test_a_contact_that_leaves_while_it_is_imported_is_removed_after_it(
    world: World,
) -> None:
    await world.begin_run(1)
    await world.configure(deletion_policy="remove_from_list")
    await world.begin_run(2)
    writer = world.writer()
    await world.write(writer, world.record(*many()))
    await world.write(writer, world.record(leave("c001"), run_no=2))
    world.account.land()

    await imported(world, writer)

    assert world.account.contacts["c001@example.com"].list_ids == set()
    assert (await world.links())["c001"].state == "removed"


async def test_addresses_that_the_account_has_go_singly(world: World) -> None:
    """Proves S3: who is there already is looked at, and an import looks at nobody."""
    await world.begin_run(1)
    world.account.put(upsert_write("c001@example.com"))
    writer = world.writer()

    (settled,) = await world.write(writer, world.record(*many(61)))

    assert settled.created == ["c001"]
    assert settled.importing == COUNT


def upsert_write(email: str) -> Write:
    return Write(Operation.UPSERT, Identity(email=email), b"{}", "9")


async def test_rows_beyond_one_import_wait_for_the_next(world: World) -> None:
    """Singly they would cost calls of their own: ActiveCampaign takes 250 rows at a time."""
    world.rows_min, world.rows_max = 10, COUNT // 2
    await world.begin_run(1)
    writer = world.writer()

    await world.write(writer, world.record(*many()))
    first = await world.parked()
    await world.drain(writer)
    world.account.land()
    world.account.land()
    await imported(world, writer)

    assert set(first.values()) == {"backlog"}
    assert len(first) == COUNT - COUNT // 2
    assert {each.by_import for each in world.account.applied} == {True}
    assert [len(each.writes) for each in world.account.imports] == [COUNT // 2] * 2
    assert await world.posted() == COUNT
    assert await world.parked() == {}
    await world.check_ledger()


async def test_no_more_than_four_imports_are_open(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()
    for page in range(6):
        effects = [upsert(f"p{page}c{number}") for number in range(COUNT)]
        await world.write(writer, world.record(*effects, page=page + 1))

    open_imports = len(world.account.imports)
    waiting = await world.parked()
    for _ in range(4):
        world.account.land()
    await imported(world, writer)
    while any(each.state is ImportState.RUNNING for each in world.account.imports):
        world.account.land()
    await imported(world, writer)

    assert open_imports == 4
    assert set(waiting.values()) == {"backlog"}
    assert await world.posted() == 6 * COUNT
    assert await world.parked() == {}
    await world.check_ledger()


async def test_a_large_batch_waits_a_moment_for_one_of_four_imports_to_end(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()
    await _open_imports(world, writer, 4)
    world.account.land()

    (settled,) = await world.write(writer, world.record(*_group(4), page=5))

    assert settled.importing == COUNT
    assert len(world.account.imports) == 5
    # Who came was seen where the batch had to look anyway.
    assert "read_list" not in world.account.calls


@pytest.mark.parametrize(
    ("fails", "reasons"),
    [("list_error", {"backlog"}), ("screen_error", {"destination_down", "backlog"})],
)
async def test_a_look_that_fails_while_it_waits_parks_the_batch(
    world: World, fails: str, reasons: set[str]
) -> None:
    await world.begin_run(1)
    writer = world.writer()
    await _open_imports(world, writer, 4)
    setattr(world.account, fails, UnavailableError("fake.example", "HTTP 503"))

    (settled,) = await world.write(writer, world.record(*_group(4), page=5))

    assert {reason for _, reason in settled.parked} <= reasons
    assert len(world.account.imports) == 4
    await world.check_ledger()


def _group(number: int) -> list[Effect]:
    return [upsert(f"g{number}c{each:03}") for each in range(COUNT)]


async def _open_imports(world: World, writer: Writer, count: int) -> None:
    for number in range(count):
        await world.write(writer, world.record(*_group(number), page=number + 1))


async def test_drained_rows_of_an_import_are_outside_the_runs_sum(world: World) -> None:
    await world.begin_run(1)
    await world.configure(state="paused")
    writer = world.writer()
    await world.write(writer, world.record(*many()))
    await world.configure(state="active")

    await world.drain(writer)
    world.account.land()
    await imported(world, writer)

    stages = {each.stage.split(":")[0] for each in await world.later()}
    assert stages == {"drain"}
    assert sum(len(each.created) for each in await world.later()) == COUNT
    await world.check_ledger()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnavailableError("fake.example", "HTTP 503"), "destination_down"),
        (RateLimitedError("contacts", 5.0), "rate_limited"),
        (MisconfiguredError("fake.example", "list_missing"), "configuration"),
    ],
)
async def test_an_import_that_was_surely_not_sent_gives_its_units_back(
    world: World, error: SyncError, reason: str
) -> None:
    await world.begin_run(1)
    world.account.import_error = error

    await world.write(world.writer(), world.record(*many()))

    assert await world.held() == 0
    assert set((await world.parked()).values()) == {reason}
    await world.check_ledger()


async def test_a_crash_before_an_import_is_written_down_leaves_doubtful_singles(
    world: World,
) -> None:
    await world.begin_run(1)
    record = world.record(*many())

    writer = await world.killed(world.writer(reached=crash_at("held")), record)
    (settled,) = await world.write(writer, record)

    assert len(settled.created) == COUNT
    assert await world.posted() == COUNT
    await world.check_ledger()


@pytest.mark.parametrize("is_live", [True, False])
async def test_doubtful_singles_are_few_a_turn(world: World, is_live: bool) -> None:
    """The rest of them waits with its units: a turn must end before others notice it."""
    await world.begin_run(1)
    record = world.record(*many(250))
    if not is_live:
        await world.configure(state="paused")
        await world.write(world.writer(), record)
        await world.lapse()
        await world.configure(state="active")
    writer = world.writer(reached=crash_at("held"))
    with pytest.raises(CrashError):
        await (world.write(writer, record) if is_live else world.drain(writer))
    await world.lapse()
    writer = world.writer()

    if is_live:
        await world.write(writer, record)
    else:
        await writer.drain.drain(world.destination, world.workspace)
    in_one_turn = len(world.account.contacts)
    held = await world.held()
    await world.drain(writer)

    assert in_one_turn == (SINGLES_MAX if is_live else DRAINED_SINGLY_MAX)
    assert held == 250 - in_one_turn
    assert await world.posted() == len(world.account.contacts) == 250
    assert await world.parked() == {}
    await world.check_ledger()


async def test_an_import_that_did_not_get_there_is_sent_anew(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()
    world.account.import_error = UnavailableError("fake.example", "HTTP 503")
    await world.write(writer, world.record(*many()))
    world.account.import_error = None

    await world.drain(writer)
    world.account.land()
    await imported(world, writer)

    assert len(world.account.imports) == 1
    assert "write" not in world.account.calls
    assert await world.posted() == COUNT
    await world.check_ledger()


async def test_a_look_that_fails_is_repeated_later(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(*many()))
    world.account.land(silently_lost=["c001@example.com"])
    world.account.finds_imports = False

    await imported(world, writer)
    waiting = await world.held()
    world.account.finds_imports = True
    await imported(world, writer)

    assert waiting == COUNT
    assert await world.posted() == COUNT
    await world.check_ledger()


async def test_the_provider_is_asked_seldom(world: World) -> None:
    """S10 for the scarcest of buckets: at most once in `import_poll_s`."""
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(*many()))

    for _ in range(30):
        writer.clock.ahead_s += 2.0
        await renewed(writer)
        await world.drain(writer)

    assert world.account.calls["find_imports"] <= 2


async def test_an_import_of_which_everybody_was_come_across_ends_without_a_look_at_its_rows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.begin_run(1)
    writer = world.writer()
    monkeypatch.setattr(writer.imports, "_check_first_s", 60.0)
    await world.write(writer, world.record(*many()))
    world.account.land()

    await world.write(writer, world.record(*_group(1), page=2))
    await world.drain(writer)

    assert world.account.calls["screen_import"] == 2
    assert "read_list" not in world.account.calls
    assert await world.posted() == COUNT
    await world.check_ledger()


async def test_who_is_missing_at_a_look_at_the_account_is_looked_for_later_but_not_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that never comes must not keep its import open while batches follow one another."""
    await world.begin_run(1)
    writer = world.writer()
    monkeypatch.setattr(writer.imports, "_check_first_s", 20.0)
    await world.write(writer, world.record(*many()))
    looks: list[int] = []

    for number in range(1, 5):
        world.account.land(silently_lost=["c001@example.com"])
        writer.clock.ahead_s += 15.0
        await renewed(writer)
        await world.write(writer, world.record(*_group(number), page=number + 1))
        await world.drain(writer)
        looks.append(world.account.calls.get("read_list", 0))

    assert looks[:2] == [0, 0]
    assert looks[-1] > 0
    await world.check_ledger()


async def test_a_look_at_the_account_that_shows_nobody_puts_nothing_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every destination tells whom it came across."""
    await world.begin_run(1)
    writer = world.writer()
    monkeypatch.setattr(writer.imports, "_check_first_s", 20.0)
    await world.write(writer, world.record(*many()))
    writer.clock.ahead_s += 15.0
    await world.write(writer, world.record(*_group(1), page=2))

    writer.clock.ahead_s += 6.0
    await world.drain(writer)

    assert world.account.calls["read_list"] == 1


async def test_an_import_whose_call_may_be_under_way_still_is_not_ended_by_a_look_at_the_account(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.begin_run(1)
    writer = world.writer()
    monkeypatch.setattr(writer.imports, "_late_call_s", 30.0)
    monkeypatch.setattr(writer.imports, "_check_first_s", 20.0)
    world.account.lose_import_answer = True
    await world.write(writer, world.record(*many()))
    world.account.lose_import_answer = False
    world.account.land()

    await world.write(writer, world.record(*_group(1), page=2))
    await world.drain(writer)

    assert world.account.calls["screen_import"] == 2
    assert await world.posted() == 0


async def test_a_screening_that_fails_sends_nothing(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()
    world.account.screen_error = RateLimitedError("contacts", 7.0)

    (settled,) = await world.write(writer, world.record(*many()))

    assert {reason for _, reason in settled.parked} <= {"rate_limited", "backlog"}
    assert not world.account.imports
    assert await world.held() == 0
    await world.check_ledger()


async def test_only_the_look_that_decides_goes_far_back(world: World) -> None:
    """A provider's clock may differ; reading minutes of a busy list at every look costs calls."""
    await world.begin_run(1)
    writer = world.writer()
    began = writer.clock.now()
    await world.write(writer, world.record(*many()))
    world.account.land(silently_lost=["c001@example.com"])

    await imported(world, writer)

    before = [(began - since).total_seconds() for since in world.account.read_since if since]
    assert before[0] < 20
    assert before[-1] > 290
    assert await world.posted() == COUNT
