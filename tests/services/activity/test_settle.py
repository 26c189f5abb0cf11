"""The read model on the real database: every part once, however it is delivered."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from libs.common import ids
from libs.common.consumer import Batch, Record
from libs.common.database import SessionMaker, transactions_of
from libs.common.events import Event, RunMode, RunRead, Settled, Topic
from libs.common.postgres import Transactions, create_pool, fetch_alone
from services.activity.__main__ import weigh
from services.activity.settle import Projection

WORKSPACE, INTEGRATION, RUN = UUID(int=1), UUID(int=2), UUID(int=3)


@pytest.fixture
async def activity(role_url: Callable[[str], str]) -> AsyncIterator[Transactions]:
    pool = create_pool(role_url("activity"), size_max=2, application_name="test")
    yield Transactions(pool)
    await pool.close()


def batch(*events: Event) -> Batch:
    return Batch(
        key=str(INTEGRATION),
        topic=Topic.CONTACTS_SETTLED,
        partition=0,
        records=[
            Record(
                event=event,
                topic=Topic.CONTACTS_SETTLED,
                partition=0,
                offset=offset,
                key=str(INTEGRATION),
            )
            for offset, event in enumerate(events)
        ],
    )


def settled(page: int, stage: str = "direct", **kinds: Any) -> Settled:
    return Settled(
        id=ids.computed(page, stage),
        workspace=WORKSPACE,
        integration=INTEGRATION,
        run=RUN,
        run_no=1,
        page=page,
        part=0,
        stage=stage,
        **kinds,
    )


def run_read(*, parts: int, read: int, complete: bool = True, fencing: int = 1) -> RunRead:
    return RunRead(
        id=ids.computed("read"),
        workspace=WORKSPACE,
        integration=INTEGRATION,
        run=RUN,
        run_no=1,
        mode=RunMode.FULL,
        fencing=fencing,
        mapping_version=1,
        pages=parts,
        parts=parts,
        read=read,
        total_before=read,
        total_after=read,
        complete=complete,
    )


async def rows(transactions: Transactions, query: str) -> Sequence[Any]:
    return [dict(row) for row in await fetch_alone(transactions, query)]


EVENTS = (
    settled(1, created=["1", "2"], rejected=[("3", "invalid_email")], importing=2),
    settled(2, unchanged=3, parked=[("9", "quota")]),
    settled(1, "import:a", updated=["4", "5"]),
    settled(2, "drain:b", created=["9"]),
)


@pytest.mark.parametrize("cuts", [[4], [1, 3], [1, 1, 1, 1], [2, 2]])
async def test_counts_are_the_same_however_the_records_are_cut_and_repeated(
    activity: Transactions, cuts: list[int]
) -> None:
    """Fault 15. Proves X2 for the read model: a part counts once."""
    projection = Projection(activity)
    for _ in range(2):
        start = 0
        for cut in cuts:
            await projection(batch(*EVENTS[start : start + cut]))
            start += cut
        await projection(batch(run_read(parts=2, read=9)))

    [run] = await rows(activity, "select * from activity.runs")
    contacts = await rows(
        activity, "select source_id, status, reason from activity.contacts order by 1"
    )

    assert (run["state"], run["verdict"]) == ("complete", "complete")
    assert {name: run[name] for name in ("created", "updated", "unchanged", "rejected")} == {
        "created": 2,
        "updated": 2,
        "unchanged": 3,
        "rejected": 1,
    }
    assert json.loads(run["settled_later"]) == {"created": 1}
    assert json.loads(run["rejected_by_reason"]) == {"invalid_email": 1}
    assert json.loads(run["parked_by_reason"]) == {"quota": 1}
    assert [(row["source_id"], row["status"]) for row in contacts] == [
        ("1", "created"),
        ("2", "created"),
        ("3", "rejected"),
        ("4", "updated"),
        ("5", "updated"),
        ("9", "created"),
    ]


def test_a_record_weighs_the_contacts_whose_status_it_changes() -> None:
    """A transaction is bounded by contacts, not by records: those may be full or nearly empty."""
    told = settled(1, created=["1", "2"], removed=["3"], parked=[("4", "quota")], unchanged=200)

    assert weigh(told) == 4


async def test_a_run_that_found_nothing_is_stored_and_ended_by_two_statements(
    activity: Transactions,
) -> None:
    asked: list[str] = []
    async with activity.begin() as session:
        session.connection.add_query_logger(lambda query: asked.append(query.query))

    await Projection(activity)(batch(run_read(parts=0, read=0)))

    assert len([query for query in asked if not query.startswith(("BEGIN", "COMMIT"))]) == 2
    assert await rows(activity, "select verdict from activity.runs") == [{"verdict": "complete"}]


async def test_a_run_that_was_not_read_to_its_end_is_incomplete(activity: Transactions) -> None:
    await Projection(activity)(
        batch(settled(1, unchanged=1), run_read(parts=1, read=1, complete=False))
    )

    [run] = await rows(activity, "select state, verdict from activity.runs")
    assert run == {"state": "incomplete", "verdict": "incomplete"}


async def test_a_run_that_another_poller_read_on_is_judged_by_what_that_one_says(
    activity: Transactions,
) -> None:
    """The first one stalled before it told; its word comes before the other's, or after it."""
    early, late = run_read(parts=0, read=0), run_read(parts=2, read=3, fencing=2)
    projection = Projection(activity)

    await projection(batch(settled(1, unchanged=1), early))
    [run] = await rows(activity, "select state from activity.runs")
    assert run == {"state": "incomplete"}
    await projection(batch(settled(2, unchanged=2), late))
    await projection(batch(early))

    [run] = await rows(activity, "select state, verdict, parts, read from activity.runs")
    assert run == {"state": "complete", "verdict": "complete", "parts": 2, "read": 3}


async def test_two_words_about_a_run_in_one_batch_are_judged_by_the_newer_claim(
    activity: Transactions,
) -> None:
    """Proves X2: whoever stalled may be heard last, and before the other one's word is judged."""
    projection = Projection(activity)

    await projection(
        batch(
            settled(1, unchanged=1),
            run_read(parts=1, read=1, fencing=2),
            run_read(parts=0, read=0),
        )
    )

    [run] = await rows(activity, "select state, parts, read from activity.runs")
    assert run == {"state": "complete", "parts": 1, "read": 1}


async def test_a_run_is_settling_until_its_import_ends(activity: Transactions) -> None:
    projection = Projection(activity)
    await projection(batch(settled(1, importing=2), run_read(parts=1, read=2)))

    [run] = await rows(activity, "select state from activity.runs")
    assert run == {"state": "settling"}

    await projection(batch(settled(1, "import:a", created=["1", "2"])))
    [run] = await rows(activity, "select state from activity.runs")
    assert run == {"state": "complete"}


async def test_unsettled_counts_what_was_read_and_not_told_of(
    sessions: SessionMaker, activity: Transactions
) -> None:
    async with sessions.begin() as session:
        await session.execute(
            text(
                "insert into sync.runs (run_id, integration_id, workspace_id, run_no, mode, "
                "mapping_version, fencing, read) values (:r, :i, :w, 1, 'full', 1, 1, 10)"
            ),
            {"r": RUN, "i": INTEGRATION, "w": WORKSPACE},
        )
    await Projection(activity)(batch(settled(1, created=["1"], unchanged=3)))

    [row] = await rows(
        transactions_of(sessions), f"select activity.unsettled('{INTEGRATION}') as waiting"
    )

    assert row == {"waiting": 6}
