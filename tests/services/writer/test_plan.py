"""How the effects of a turn go out."""

from typing import Any
from uuid import UUID

import msgspec
import pytest

from services.writer.plan import Way, plan, rows_that_fit, way
from services.writer.rows import Rows
from services.writer.values import Kind, Task, Wish, row_of

HEAVY = 6_000_000  # More bytes than any import of these tests has, but those that shall.


def tasks(count: int, *, list_id: str = "7", weight: int = 2) -> list[Task]:
    return [
        Task(
            integration=UUID(int=1),
            source_id=f"{list_id}-{number}",
            kind=Kind.UPSERT,
            wish=Wish.UPSERT,
            version_ms=1,
            run_no=1,
            run=UUID(int=2),
            page=1,
            part=0,
            mapping_version=1,
            list_id=list_id,
            email=f"{list_id}-{number}@example.com",
            key=b"",
            attributes=msgspec.Raw(b"{" + b" " * (weight - 2) + b"}"),
        )
        for number in range(count)
    ]


def rows(count: int, **kind: Any) -> Rows:
    return Rows.of(map(row_of, tasks(count, **kind)))


@pytest.mark.parametrize(
    ("rows", "open_imports", "is_late", "expected"),
    [
        (49, 0, False, Way.SINGLY),
        (50, 0, False, Way.GATHER),
        (499, 0, True, Way.SINGLY),
        (500, 0, False, Way.IMPORT),
        (500, 3, True, Way.IMPORT),
        (500, 4, False, Way.GATHER),
        (500, 4, True, Way.SINGLY),
    ],
)
def test_many_go_by_import_few_singly_and_between_they_gather(
    rows: int, open_imports: int, *, is_late: bool, expected: Way
) -> None:
    assert way(rows, rows_min=500, open_imports=open_imports, is_late=is_late) is expected


def test_an_import_holds_one_list_and_is_bounded() -> None:
    mixed = Rows.of([*rows(3), *rows(2, list_id="8"), *rows(1)])

    assert {row.write.list_id for row in rows_that_fit(mixed, 10, HEAVY)} == {"7"}
    apart = Rows.of([*rows(3), *rows(2, list_id="8")])
    assert rows_that_fit(apart, 10, HEAVY) == apart[:3]
    assert rows_that_fit(apart[:3], 10, HEAVY) == apart[:3]
    assert len(rows_that_fit(rows(5), 3, HEAVY)) == 3
    heavy = rows_that_fit(rows(5, weight=HEAVY // 2), 100, HEAVY)
    assert len(heavy) == 1
    assert len(rows_that_fit(rows(1, weight=HEAVY * 2), 100, HEAVY)) == 1
    assert rows_that_fit(Rows(), 5, HEAVY) == Rows()


def test_an_import_has_an_address_once() -> None:
    """Two integrations with one list may have the same person."""
    first, other = (
        msgspec.structs.replace(task, integration=UUID(int=number), email="Ada@example.com")
        for number, task in enumerate(tasks(2))
    )

    both = Rows.of([row_of(first), row_of(other)])
    assert list(rows_that_fit(both, 10, HEAVY)) == [row_of(first)]


def test_what_is_too_much_for_now_is_left_for_later() -> None:
    all_tasks = tasks(10)
    imported = Rows.of(map(row_of, all_tasks[:4]))
    gathered = [task.contact for task in all_tasks[4:6]]

    planned = plan(all_tasks, rows=imported, gathered=gathered, singles_max=3)

    assert list(planned.singles) == all_tasks[6:9]
    assert planned.rows == imported
    assert list(planned.later) == [all_tasks[9].contact, *gathered]
