"""The search index: it finds what a plain look at every contact finds, at any size, in no time."""

import time
from collections.abc import Callable
from random import Random

import pytest

from sandbox.hubspot import search
from sandbox.hubspot.contacts import Contact
from sandbox.hubspot.properties import Properties
from sandbox.hubspot.search import Filter, FilterGroup, Index, Query, Sort
from tests.sandbox.hubspot.served import Served

PROPERTIES = Properties(0)
ASCENDING = Sort("hs_object_id")


def contact(contact_id: int, at_ms: int, **properties: str) -> Contact:
    return Contact(contact_id, properties, 0, at_ms)


def filters(*wanted: tuple[str, str, str]) -> list[FilterGroup]:
    return [FilterGroup([Filter(name, operator, value) for name, operator, value in wanted])]


def everyone(index: Index, groups: list[FilterGroup], sort: Sort = ASCENDING) -> list[int]:
    """Return the ids of every page."""
    ids: list[int] = []
    after: int | None = 0
    total = -1
    while after is not None:
        query = Query(filter_groups=groups, sorts=[sort], limit=7, after=after)
        page, total, after = index.find(query, PROPERTIES)
        ids += [each.id for each in page]
    assert total == len(ids)
    return ids


@pytest.mark.parametrize("seed", range(20))
def test_the_index_finds_what_a_look_at_every_contact_finds(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "LOG_SLACK", 10)  # So that the log is tidied now and then.
    draw = Random(seed)
    index, truth = Index(), dict[int, Contact]()
    for step in range(300):
        contact_id = draw.randint(1, 60)
        # Times repeat, and now and then go back, as a clock's may.
        changed = contact(contact_id, step // 5 - draw.choice((0, 0, 0, 9)))
        kept = None if draw.random() < 0.1 else changed
        truth.pop(contact_id, None)
        if kept:
            truth[contact_id] = kept
        index.put(contact_id, kept, visible_ms=0)
        if draw.random() < 0.2:
            index.catch_up(0)
    index.catch_up(0)

    low, high, above = draw.randint(0, 30), draw.randint(30, 60), draw.randint(0, 60)
    checks: dict[tuple[str, str, str], Callable[[Contact], bool]] = {
        ("lastmodifieddate", "GTE", str(low)): lambda each: each.updated_ms >= low,
        ("lastmodifieddate", "GT", str(low)): lambda each: each.updated_ms > low,
        ("lastmodifieddate", "LTE", str(high)): lambda each: each.updated_ms <= high,
        ("lastmodifieddate", "LT", str(high)): lambda each: each.updated_ms < high,
        ("lastmodifieddate", "NEQ", str(low)): lambda each: each.updated_ms != low,
        ("lastmodifieddate", "EQ", str(high)): lambda each: each.updated_ms == high,
        ("hs_object_id", "GT", str(above)): lambda each: each.id > above,
        ("hs_object_id", "GTE", str(above)): lambda each: each.id >= above,
    }
    for _ in range(20):
        chosen = draw.sample(list(checks), draw.randint(0, 4))
        wanted = [each for each in truth.values() if all(checks[name](each) for name in chosen)]

        found = everyone(index, filters(*chosen))
        by_time = everyone(index, filters(*chosen), Sort("lastmodifieddate", "DESCENDING"))

        assert found == sorted(each.id for each in wanted)
        assert by_time == [
            each.id for each in sorted(wanted, key=lambda each: (-each.updated_ms, each.id))
        ]


def test_a_range_of_times_includes_its_ends() -> None:
    index = Index()
    for contact_id in range(1, 9):
        index.put(contact_id, contact(contact_id, contact_id), visible_ms=0)
    index.catch_up(0)

    between = Filter("lastmodifieddate", "BETWEEN", 3, 6)

    assert everyone(index, [FilterGroup([between])]) == [3, 4, 5, 6]


def test_groups_are_alternatives_and_a_contact_is_found_once() -> None:
    index = Index()
    for contact_id, city in enumerate(("Leeds", "York", "Bonn"), start=1):
        index.put(contact_id, contact(contact_id, 0, city=city), visible_ms=0)
    index.catch_up(0)
    groups = filters(("city", "EQ", "leeds")) + filters(("hs_object_id", "LT", "3"))

    assert everyone(index, groups) == [1, 2]


def test_a_contact_is_seen_as_it_was_until_its_change_is_due() -> None:
    index = Index()
    index.put(1, contact(1, 0, city="Leeds"), visible_ms=0)
    index.put(1, contact(1, 5, city="York"), visible_ms=30)
    index.put(1, None, visible_ms=60)

    def found_at(now_ms: int) -> list[str]:
        index.catch_up(now_ms)
        page, *_ = index.find(Query(), PROPERTIES)
        return [each.properties["city"] for each in page]

    assert [found_at(at) for at in (0, 29, 30, 59, 60)] == [
        ["Leeds"],
        ["Leeds"],
        ["York"],
        ["York"],
        [],
    ]


def test_a_hundred_thousand_contacts_are_filled_in_and_searched_without_growing_slower(
    served: Served,
) -> None:
    # In processor time of this process, which is also the sandbox's: others may be busy here.
    served.control("PUT", "limits", {"enabled": False})

    def fill(count: int) -> float:
        started_s = time.process_time()
        wish = {"count": count, "list": f"The {count}", "seed": count}
        assert served.http.post("/_sandbox/contacts:fill", json=wish).json()["count"] == count
        return time.process_time() - started_s

    few_s, many_s = fill(6_000), fill(94_000)

    def page(last: int) -> list[int]:
        wish = {
            "filters": [
                {"propertyName": "lastmodifieddate", "operator": "GTE", "value": "1000"},
                {"propertyName": "hs_object_id", "operator": "GT", "value": str(last)},
            ],
            "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
            "limit": 200,
        }
        body = served.http.post("/crm/objects/2026-09/contacts/search", json=wish).json()
        return [int(each["id"]) for each in body["results"]]

    # Page through the last tenth by the last id seen, as a reader of changes does.
    started_s = time.process_time()
    ids = page(90_100)
    first_s = time.process_time() - started_s
    while following := page(ids[-1]):
        ids += following
    searched_s = time.process_time() - started_s

    assert ids == list(range(90_101, 100_101))
    # By the square the rest would cost 277 times as much. Others on the machine may make it twice
    # as slow meanwhile.
    assert many_s < 64 * few_s
    # The first page looks at every contact; if each did, 51 would cost 51 times as much.
    assert searched_s < 15 * first_s
