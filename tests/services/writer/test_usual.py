"""The usual cases, sorted out by columns: who they are, and that `classify` says the same."""

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.events import Effect, Identity, Mapped, Operation, RunMode
from services.writer import classify, usual
from services.writer.account import Account
from services.writer.records import part_of, wanted_in
from services.writer.rows import Rows
from services.writer.usual import Usual, columns, sort_column
from services.writer.values import (
    ContactId,
    Integration,
    IntegrationState,
    Link,
    LinkState,
    Parked,
    Place,
    Run,
    Seen,
    SeenLink,
    Version,
    View,
    Wish,
    digest,
    row_of,
)

ID, RUN = UUID(int=1), UUID(int=2)
ACTIVE = Integration(ID, UUID(int=3), IntegrationState.ACTIVE, True, "single", "7")
SAME, OTHER = b"s" * 16, b"o" * 16


@pytest.fixture(autouse=True)
def batches_of_one_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usual, "USUAL_FROM", 1)


def effect(source_id: str = "a", email: str | None = None, **changes: Any) -> Effect:
    made = Effect(
        id=source_id,
        op=Operation.UPSERT,
        version_ms=20,
        identity=Identity(email=email or f"{source_id}@example.com"),
        attributes=msgspec.Raw(b'{"CITY":"Bonn"}'),
        hash=SAME,
    )
    return msgspec.structs.replace(made, **changes)


def record(*effects: Effect, run_no: int = 2, page: int = 1, **changes: Any) -> Mapped:
    made = Mapped(
        id=UUID(int=9),
        workspace=UUID(int=3),
        integration=ID,
        destination=UUID(int=4),
        run=RUN,
        run_no=run_no,
        mode=RunMode.FULL,
        fencing=1,
        page=page,
        part=0,
        mapping_version=1,
        effects=list(effects),
    )
    return msgspec.structs.replace(made, **changes)


def link(source_id: str = "a", **changes: Any) -> Link:
    made = Link(
        ContactId(ID, source_id),
        LinkState.LINKED,
        Version(10, 1),
        Wish.UPSERT,
        identity=Identity(email=f"{source_id}@example.com"),
        hash=SAME,
        content_hash=digest(b'{"CITY":"Bonn"}'),
    )
    return msgspec.structs.replace(made, **changes)


def account() -> Account:
    return Account(UUID(int=4), UUID(int=3), Mock())


def seen_of(links: Sequence[Link], parked: Sequence[str] = (), asked: Container[str] = ()) -> Seen:
    """Return what the store shows of these links at a glance, if these contacts are asked for."""
    return Seen(
        {
            each.contact.source_id: SeenLink(
                each.version.ms,
                each.version.run_no,
                each.hash or None,
                each.state is LinkState.LINKED
                and each.wish is Wish.UPSERT
                and each.refused is None
                and not each.needs_recheck,
            )
            for each in links
        },
        dict.fromkeys(parked, False),
        {
            each.key
            for each in links
            if each.key is not None
            and (each.state is LinkState.LINKED or each.contact.source_id in asked)
        },
    )


def sorted_out(
    *records: Mapped,
    links: Sequence[Link] = (),
    parked: Sequence[str] = (),
    integration: Integration | None = ACTIVE,
    run: Run | None = None,
    owner: Account | None = None,
    takes_firsts: bool = True,
) -> Usual:
    (column,) = columns(records).values()
    return sort_column(
        column,
        seen_of(links, parked, column.addresses),
        integration,
        {RUN: run} if run is not None else {},
        owner or account(),
        takes_firsts=takes_firsts,
    )


def test_who_stands_there_as_wanted_costs_one_number() -> None:
    found = sorted_out(record(effect("a"), effect("b")), links=[link("a"), link("b")])

    assert list(found.unchanged.values()) == [2]
    assert (found.moved[0].source_ids, found.moved[0].versions_ms) == (["a", "b"], [20, 20])
    assert not found.firsts
    assert not found.rest


def test_who_is_new_becomes_a_row_at_once() -> None:
    found = sorted_out(record(effect("a")))

    (row,) = found.firsts
    assert (row.contact.source_id, row.place.address, row.version_ms) == ("a", "a@example.com", 20)
    assert row.write.join_list
    assert not found.rest


@pytest.mark.parametrize(
    ("effects", "known"),
    [
        ([effect(op=Operation.LEAVE)], {}),
        ([effect(identity=Identity(sms="4917012345"))], {}),
        ([effect(), effect(version_ms=21)], {}),
        ([effect("a", "x@example.com"), effect("b", "X@example.com")], {}),
        ([effect()], {"parked": ["a"]}),
        ([effect()], {"links": [link(hash=OTHER)]}),
        ([effect()], {"links": [link(version=Version(30, 1))]}),
        ([effect()], {"links": [link(version=Version(20, 3))]}),
        ([effect()], {"links": [link(needs_recheck=True)]}),
        ([effect()], {"links": [link(refused="b@example.com")]}),
        ([effect()], {"links": [link(state=LinkState.REMOVED)]}),
        ([effect()], {"links": [link("b", identity=Identity(email="a@example.com"))]}),
        ([effect()], {"integration": None}),
        ([effect()], {"integration": replace(ACTIVE, state=IntegrationState.ARCHIVED)}),
        ([effect()], {"integration": replace(ACTIVE, state=IntegrationState.PAUSED)}),
        ([effect()], {"run": Run(1, False, is_outdated=True)}),
        ([effect()], {"takes_firsts": False}),
    ],
)
def test_everybody_else_needs_a_closer_look(effects: list[Effect], known: dict[str, Any]) -> None:
    found = sorted_out(record(*effects), **known)

    assert len(found.rest) == len(effects)
    assert not found.firsts
    assert not found.moved


def test_whose_unit_is_open_or_whose_address_is_taken_needs_a_closer_look() -> None:
    (row,) = sorted_out(record(effect("a"))).firsts
    (other,) = sorted_out(record(effect("b", "a@example.com"))).firsts
    importing, claimed = account(), account()
    importing.importing.begin(Rows.of([row]))
    claimed.claims[other.place] = "b"

    for owner in (importing, claimed):
        assert not sorted_out(record(effect("a")), owner=owner).firsts


@pytest.mark.parametrize("is_back", [True, False])
def test_an_address_that_a_tombstone_is_back_for_needs_a_closer_look(*, is_back: bool) -> None:
    """Who had it first is judged by the order of the batch; else it is there to take."""
    tombstone = link("a", state=LinkState.REMOVED)
    effects = [effect("a", "new@example.com")] if is_back else []

    found = sorted_out(record(*effects, effect("b", "a@example.com")), links=[tombstone])

    assert [row.contact.source_id for row in found.firsts] == ([] if is_back else ["b"])


def test_rejected_and_filtered_contacts_are_in_their_batch() -> None:
    left_out = record(effect("a"), effect("b"), rejected=[("a", 5, "x")], filtered=[("c", 5)])

    found = sorted_out(left_out)

    assert [row.contact.source_id for row in found.firsts] == ["b"]
    assert [item.contact.source_id for item in found.rest] == ["a", "a", "c"]


def test_a_merge_or_a_small_batch_is_looked_at_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert columns([record(effect(merged_from=["b"]), effect("c"))]) == {}
    monkeypatch.setattr(usual, "USUAL_FROM", 2)
    assert columns([record(effect())]) == {}


def test_who_needs_a_closer_look_is_left_in_the_order_of_the_batch() -> None:
    """Who of two has an address is judged by it (PROTOCOL.md 5)."""
    first, last = effect("a", "x@example.com"), effect("c", "X@example.com")

    found = sorted_out(record(first, effect("b"), last), links=[link("b", hash=OTHER)])

    assert [item.contact.source_id for item in found.rest] == ["a", "b", "c"]


ADDRESSES = st.sampled_from(["a@example.com", "B@example.com", "b@example.com", "c@example.com"])
IDS = st.sampled_from("abcdef")
VERSIONS = st.builds(Version, st.integers(1, 3), st.integers(1, 3))
CONTENTS = st.sampled_from([SAME, OTHER])


def hash_of(content: bytes, email: str | None) -> bytes:
    """Return a hash as the mapper makes it: of the content and the address."""
    return digest(content + (email or "").encode())


EFFECTS = st.builds(
    lambda source_id, email, content, **more: effect(
        source_id, email, hash=hash_of(content, email), **more
    ),
    IDS,
    ADDRESSES,
    CONTENTS,
    version_ms=st.integers(1, 3),
    op=st.sampled_from([Operation.UPSERT, Operation.UPSERT, Operation.UPSERT, Operation.LEAVE]),
)
LINKS = st.builds(
    lambda source_id, email, content, **more: link(
        source_id,
        identity=Identity(email=email),
        hash=hash_of(content, email) if content else b"",
        **more,
    ),
    IDS,
    st.none() | ADDRESSES,
    st.just(b"") | CONTENTS,
    state=st.sampled_from(LinkState),
    version=VERSIONS,
    wish=st.sampled_from(Wish),
    refused=st.none() | ADDRESSES.map(str.lower),
    needs_recheck=st.booleans(),
)


@given(
    pages=st.lists(st.lists(EFFECTS, min_size=1, max_size=4), min_size=1, max_size=3),
    links=st.lists(LINKS, max_size=4, unique_by=lambda each: each.contact),
    parked=st.sets(IDS, max_size=1),
    claimed=st.sets(ADDRESSES.map(str.lower), max_size=1),
    run_no=st.integers(1, 3),
    is_outdated=st.booleans(),
)
def test_the_closer_look_would_have_said_the_same(
    pages: list[list[Effect]],
    links: list[Link],
    parked: set[str],
    claimed: set[str],
    run_no: int,
    is_outdated: bool,
) -> None:
    owner = account()
    owner.claims.update({Place(ID, address): "z" for address in claimed})
    records = [record(*page, run_no=run_no, page=no) for no, page in enumerate(pages)]
    run = Run(1, False, is_outdated=is_outdated)

    found = sorted_out(*records, links=links, parked=list(parked), run=run, owner=owner)

    view = View(
        integrations={ID: ACTIVE},
        runs={RUN: run},
        links={each.contact: each for each in links},
        owners={
            Place(ID, each.key): each.contact.source_id
            for each in links
            if each.state is LinkState.LINKED and each.key is not None
        },
        parked={
            ContactId(ID, each): Parked(Version(9, 9), Wish.UPSERT, "quota", None, None)
            for each in parked
        },
        held=owner.held,
    )
    items = [item for each in records for item in wanted_in(each)]
    newest = classify.newest(items)
    decided = {
        item.contact: classify.classify(item, view)
        for item in items
        if newest[item.contact] is item
    }
    for row in found.firsts:
        decision = decided[row.contact]
        assert isinstance(decision, classify.Effect)
        assert row_of(decision.task) == row
        assert decision.task == row.task
    unchanged = [
        (ContactId(ID, source_id), Version(version_ms, run_no))
        for moved in found.moved
        for source_id, version_ms in zip(moved.source_ids, moved.versions_ms, strict=True)
    ]
    for contact, version in unchanged:
        assert decided[contact] == classify.Unchanged(
            msgspec.structs.replace(view.links[contact], version=version)
        )
    assert len(found.rest) + len(found.firsts) + len(unchanged) == len(items)
    assert sum(found.unchanged.values()) == len(unchanged)
    assert {part_of(each) for each in records} >= found.unchanged.keys()
