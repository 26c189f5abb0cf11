"""Real processes killed at each step of a change's way, links cut and servers killed, on one stack.

A step strikes once and takes the process that comes there first. After each trial the destination
holds what the source says, every effect is charged once, every run accounts for all it read, and
nothing is left over: `tests.integration.oracle` (X2).
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.proxy import Fault
from tests.faults.trial import LOOK_S, WITHIN_S, WRITERS, Trial, trial
from tests.integration import oracle

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(240),
    pytest.mark.long,
]

EDITED = 20
MANY = 230  # More than a page of changes, and than a turn writes singly.
IMPORTED = 120  # Brevo gets an import for as many as these.
SLOW_PAGES = [{"kind": "latency", "seconds": 0.4}]  # So that each page is published by itself.

BLACK_HOLE_S = 8.0  # Twice a session: members are evicted.
AWAY_S = 2.0  # As long as a link may be away without that.
CUTS = 6
END_WITHIN_S = 25.0  # `ServiceSettings.drain_s`.
BACKENDS = "select pid from pg_stat_activity where usename like 'contactsync_%'"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(tmp_path_factory: pytest.TempPathFactory, embedded: None) -> AsyncIterator[Trial]:
    folder: Path = tmp_path_factory.mktemp("matrix")
    async with trial(folder) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def tried(ground: Trial) -> AsyncIterator[Trial]:
    """Hand out the stack, and end what a trial that failed has left behind."""
    yield ground
    await ground.mend()


async def die(tried: Trial, *steps: str) -> None:
    """Edit contacts, and let a process die at each of these steps, in the order of the way."""
    struck = [tried.arm(step) for step in steps]
    before, deaths = await tried.tasks(), tried.deaths.counts.total()
    await tried.edit(EDITED)
    for each in struck:
        await each()

    assert await tried.judge() == []
    assert await tried.tasks() == before + EDITED
    assert tried.deaths.counts.total() == deaths + len(steps)


async def test_each_service_dies_before_its_effect(tried: Trial) -> None:
    """Faults 1, 5 and 7: a page is read, consumed, classified, and nothing of it is done yet."""
    await die(tried, "poller.read", "mapper.mapped", "writer.classified")


async def test_each_service_dies_after_its_effect(tried: Trial) -> None:
    """Faults 3, 6 and 8: published, not stored; mapped and published, not committed; held."""
    await die(tried, "poller.acknowledged", "mapper.published", "writer.held")


async def test_the_end_of_a_run_is_told_again(tried: Trial) -> None:
    """Faults 3 and 10: the end is told, not stored; the destination answered, nothing is posted."""
    await die(tried, "poller.told", "writer.called")


async def test_what_is_posted_is_told_once(tried: Trial) -> None:
    """Fault 11: posted and stored, not published."""
    await die(tried, "writer.settled")


async def test_what_is_published_comes_again(tried: Trial) -> None:
    """Fault 11: published, its offset not committed."""
    await die(tried, "writer.told")


async def test_a_poller_dies_between_two_pages(tried: Trial) -> None:
    """Fault 2: some pages are published, the position is not stored."""
    before = await tried.tasks()
    await tried.scene.source.plan_faults(SLOW_PAGES)
    struck = tried.arm("poller.sent", "kill@2")
    await tried.edit(MANY)
    await struck()
    await tried.scene.source.plan_faults([])

    assert await tried.judge() == []
    assert await tried.tasks() == before + MANY


async def test_a_writer_dies_between_two_turns(tried: Trial) -> None:
    """Fault 12: the first of several batches is written and told, the next is held."""
    before = await tried.tasks()
    struck = tried.arm("writer.held", "kill@2")
    await tried.edit(MANY)
    await struck()

    assert await tried.judge() == []
    assert await tried.tasks() == before + MANY


async def test_a_writer_dies_with_its_request_under_way(tried: Trial) -> None:
    """Fault 9: the destination has applied what nobody was answered."""
    link, before = tried.links["brevo"], await tried.tasks()
    seen = (await tried.way.destination.calls())["total"]
    link.suffer(Fault(withholds_answers=True))
    await tried.edit(EDITED)
    await _called(tried, more_than=seen)
    for name in WRITERS:
        tried.stack.supervisor.kill(name)

    assert await tried.judge() == []
    assert await tried.tasks() == before + EDITED


async def _called(tried: Trial, *, more_than: int) -> None:
    """Return once the destination has been called again."""
    found = more_than
    while found <= more_than:
        found = (await tried.way.destination.calls())["total"]


@pytest.mark.parametrize("step", ["import_sent", "import_judged", "import_ended"])
async def test_a_writer_dies_while_an_import_is_under_way(tried: Trial, step: str) -> None:
    """Fault 43: an import was accepted, has ended, is told of; its units stay until its end."""
    before = await tried.tasks()
    struck = tried.arm(f"writer.{step}")
    await tried.invite(IMPORTED)
    await struck()

    assert await tried.judge() == []
    assert await tried.tasks() == before + IMPORTED


@pytest.mark.parametrize(
    ("step", "wish"),
    [
        pytest.param("called", "stop", id="stopped_with_its_calls_made"),
        pytest.param("held", "hang:12", id="blocked_before_its_calls"),
    ],
)
async def test_an_evicted_writer_that_wakes_up_changes_nothing(
    tried: Trial, step: str, wish: str
) -> None:
    """Faults 27 and 60: a writer that stands still loses its lease and its partitions.

    Another one goes on, with newer versions too; who wakes up finds its token gone.
    """
    struck = tried.arm(f"writer.{step}", wish)
    token = await _token(tried)
    await tried.edit(EDITED)
    await struck()
    while await _token(tried) == token:  # noqa: ASYNC110  # a row tells nobody that it changed
        await asyncio.sleep(LOOK_S)
    await tried.edit(EDITED)
    left = await oracle.wait_until_quiet(tried.scene, within_s=WITHIN_S)
    tried.wake(WRITERS)

    assert left == []
    assert await tried.judge() == []
    if wish == "stop":
        assert "lease_lost_after_call" in tried.logs(WRITERS)


async def _token(tried: Trial) -> int:
    async with oracle.database(tried.stack) as connection:
        return int(await connection.fetchval("select max(fencing) from delivery.destinations"))


async def test_every_process_is_replaced_one_after_the_other(tried: Trial) -> None:
    """Proves X2 for a roll-out: each ends by itself within its time, with work going on."""
    before, took_s = await tried.tasks(), {}
    for number, name in enumerate(tried.services()):
        await tried.edit_only(EDITED)
        if number % 2:
            await tried.scene.ask_for_runs()
        took_s[name] = await tried.replace(name)

    assert max(took_s.values()) < END_WITHIN_S, took_s
    assert tried.deaths.others == []
    assert await tried.judge() == []
    assert await tried.tasks() > before


async def under_way(tried: Trial, count: int = EDITED) -> int:
    """Edit contacts, and return once some of it is written; return how many tasks there were."""
    before = await tried.tasks()
    await tried.edit(count)
    async with asyncio.timeout(WITHIN_S):
        while await tried.tasks() == before:  # noqa: ASYNC110  # a counter tells nobody
            await asyncio.sleep(LOOK_S)
    return before


async def test_the_broker_is_killed_and_comes_back(tried: Trial) -> None:
    """Fault 22: kill -9 the broker with work under way; it comes back with its data."""
    await under_way(tried)
    killed = tried.stack.supervisor.kill("kafka")
    await tried.edit(EDITED)
    await tried.stack.supervisor.wait_ready("kafka", other_than=killed)

    assert await tried.judge() == []
    assert tried.deaths.counts["kafka"] == 1


async def test_the_broker_is_cut_off_and_refuses(tried: Trial) -> None:
    """Fault 22: every connection is reset, and new ones are refused for a while."""
    await under_way(tried)
    link = tried.links["kafka"]
    link.suffer(Fault(refuses=True))
    cut = link.reset()
    await tried.edit(EDITED)
    await asyncio.sleep(AWAY_S)

    assert cut
    assert await tried.judge() == []


async def test_the_broker_is_a_black_hole(tried: Trial) -> None:
    """Fault 23: half-open connections for longer than a session; members are evicted and rejoin."""
    link = tried.links["kafka"]
    link.suffer(Fault(is_black_hole=True))
    await tried.edit(EDITED)
    passed = link.passed
    await asyncio.sleep(BLACK_HOLE_S)

    assert link.passed == passed
    assert await tried.judge() == []


async def test_every_link_is_slow_and_tears_frames(tried: Trial) -> None:
    """Fault 24: Kafka 250 ms away and more, little bandwidth, connections cut inside a frame."""
    before = await tried.tasks()
    for name in tried.links.names():
        tried.links[name].suffer(Fault(latency_s=0.02, jitter_s=0.02, bytes_per_s=500_000))
    tried.links["kafka"].suffer(Fault(latency_s=0.25, jitter_s=0.1, bytes_per_s=500_000))
    await tried.edit(EDITED)
    async with asyncio.timeout(WITHIN_S):
        while await tried.tasks() == before:  # noqa: ASYNC110  # a counter tells nobody
            await asyncio.sleep(LOOK_S)
    for name in tried.links.names():
        tried.links[name].suffer(Fault(tears_after=20_000))
    await tried.edit(EDITED)
    await asyncio.sleep(AWAY_S)

    assert await tried.judge() == []


async def test_backends_are_ended_again_and_again(tried: Trial) -> None:
    """Fault 33: pg_terminate_backend on every connection of ours, at any statement."""
    await tried.edit(EDITED)
    ended = 0
    async with oracle.database(tried.stack) as connection:
        for _ in range(CUTS):
            ended += len(
                await connection.fetch(f"select pg_terminate_backend(pid) from ({BACKENDS}) ours")
            )
            await tried.edit(1)

    assert ended > CUTS
    assert await tried.judge() == []


async def test_postgresql_crashes_and_recovers(tried: Trial) -> None:
    """Fault 34: kill -9 with transactions open; it recovers from its log and nothing is lost."""
    await under_way(tried)
    killed = tried.stack.supervisor.kill("postgres")
    await tried.stack.supervisor.wait_ready("postgres", other_than=killed)
    await tried.edit(EDITED)

    assert await tried.judge() == []
    assert tried.deaths.counts["postgres"] >= 1


async def test_the_database_takes_reads_only_for_a_while(tried: Trial) -> None:
    """Fault 34: a fail-over to a primary that is read-only yet; services come back."""
    async with oracle.database(tried.stack) as connection:
        await connection.execute("alter system set default_transaction_read_only = on")
        await connection.execute("select pg_reload_conf()")
        try:
            await tried.edit_only(EDITED)
            await asyncio.sleep(AWAY_S)
        finally:
            await connection.execute("set default_transaction_read_only = off")
            await connection.execute("alter system reset default_transaction_read_only")
            await connection.execute("select pg_reload_conf()")

    assert await tried.judge() == []


async def test_answers_of_commits_are_lost(tried: Trial) -> None:
    """Fault 35: what was sent is carried out, the answer never comes, the connection is cut."""
    link = tried.links["postgres"]
    for _ in range(CUTS):
        await tried.edit_only(EDITED)
        link.suffer(Fault(withholds_answers=True))
        await asyncio.sleep(AWAY_S / CUTS)
        assert link.reset()
        link.heal()
        await tried.scene.ask_for_runs()

    assert await tried.judge() == []


async def test_the_destination_is_cut_off_in_the_middle_of_its_answers(tried: Trial) -> None:
    """Faults 9 and 41: answers are lost again and again; what was applied is charged once."""
    link = tried.links["brevo"]
    for _ in range(CUTS):
        await tried.edit(EDITED)
        link.suffer(Fault(withholds_answers=True))
        await asyncio.sleep(AWAY_S / CUTS)
        link.reset()
        link.heal()

    assert await tried.judge() == []


async def test_the_source_is_cut_off_in_the_middle_of_a_page(tried: Trial) -> None:
    """Faults 1 and 41: a page that was read in part is read again."""
    link = tried.links["hubspot"]
    link.suffer(Fault(tears_after=3_000))
    await tried.edit(EDITED)
    await asyncio.sleep(AWAY_S)

    assert await tried.judge() == []
