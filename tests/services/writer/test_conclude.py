"""From decisions and answers to what is stored."""

from uuid import UUID

import msgspec
import pytest

from libs.common.events import Identity
from services.writer.classify import Effect, Parking
from services.writer.conclude import (
    AddressTaken,
    Changes,
    Done,
    Doubt,
    NotSent,
    Refusal,
    Result,
    Tally,
    begin_rows,
    charge_rows,
    conclude,
    conclude_effect,
    conclude_read_back,
    link_rows,
    linked_after,
    park,
)
from services.writer.rows import Rows
from services.writer.values import (
    ContactId,
    Kind,
    Link,
    LinkState,
    Parked,
    PartId,
    Task,
    Unit,
    Version,
    View,
    Wanted,
    Wish,
    row_of,
)

ID, HOLD = UUID(int=1), UUID(int=9)
A = ContactId(ID, "a")
PART = PartId(ID, UUID(int=2), 1, 1, 0)
OLD, NEW = Identity(email="old@example.com"), Identity(email="new@example.com")


def item(**changes: object) -> Wanted:
    made = Wanted(A, Wish.UPSERT, Version(20, 1), PART, 1, identity=NEW)
    return msgspec.structs.replace(made, **changes)


def unit(
    kind: Kind = Kind.UPSERT,
    *,
    in_import: bool = False,
    is_doubtful: bool = False,
    **changes: object,
) -> Unit:
    task = Task(
        integration=ID,
        source_id="a",
        kind=kind,
        wish=Wish.LEAVE if kind is Kind.LEAVE else Wish.UPSERT,
        version_ms=20,
        run_no=1,
        run=PART.run,
        page=1,
        part=0,
        mapping_version=1,
        list_id="7",
        key=b"k" * 16,
        email=NEW.email,
        hash=b"h" * 16,
        content_hash=b"c" * 16,
    )
    return Unit(msgspec.structs.replace(task, **changes), UUID(int=8), HOLD, in_import, is_doubtful)


def link(**changes: object) -> Link:
    made = Link(A, LinkState.LINKED, Version(10, 1), Wish.UPSERT, identity=OLD)
    return msgspec.structs.replace(made, **changes)


def row(ms: int = 20, reason: str = "quota", approved: str | None = None) -> Parked:
    return Parked(Version(ms, 1), Wish.UPSERT, reason, "new@example.com", approved)


def concluded(
    result: Result, own: Unit | None = None, view: View | None = None, wanted: Wanted | None = None
) -> Changes:
    changes = Changes()
    conclude_effect(
        wanted or item(), own or unit(), result, view or View(links={A: link()}), changes
    )
    return changes


def test_done_is_linked_posted_and_counted() -> None:
    changes = concluded(Done("phone_left_out"), view=View(parked={A: row()}))

    assert changes.links[A].identity == NEW
    assert [each.effect_key for each in changes.posts[HOLD]] == [b"k" * 16]
    assert changes.drops == {A: Version(20, 1)}
    assert changes.tallies[PART].created == ["a"]
    assert changes.tallies[PART].warned == [("a", "phone_left_out")]


def test_what_overtook_a_row_of_an_import_stays_parked() -> None:
    view = View(parked={A: row(ms=30, reason="import_running")})

    done = concluded(Done(), unit(in_import=True), view)
    refused = concluded(Refusal("invalid_email"), unit(in_import=True), view)
    away = concluded(NotSent("destination_down"), unit(in_import=True), view)

    assert not done.drops
    assert not refused.drops
    assert not away.parks
    assert away.tallies[PART].superseded == 1


@pytest.mark.parametrize(
    ("own", "released"),
    [
        (unit(), 1),
        (unit(is_doubtful=True), 0),
        (unit(in_import=True, is_doubtful=True), 1),
    ],
)
def test_a_unit_taken_along_is_not_released_for_not_being_sent(own: Unit, released: int) -> None:
    changes = concluded(NotSent("rate_limited"), own)

    assert changes.releases[HOLD] == released
    assert changes.parks[A].reason == "rate_limited"


def test_a_doubt_keeps_its_unit() -> None:
    changes = concluded(Doubt())

    assert not changes.ended
    assert changes.parks[A].reason == "destination_down"


def test_a_refused_contact_remembers_its_version() -> None:
    linked = concluded(Refusal("value_not_accepted"))
    unknown = concluded(Refusal("value_not_accepted"), view=View())

    assert linked.links[A].wish is Wish.REJECTED
    assert linked.links[A].identity == OLD
    assert unknown.links[A].state is LinkState.NONE
    assert linked.tallies[PART].rejected == [("a", "value_not_accepted")]


def test_an_address_that_is_taken_stays_with_the_link_as_refused() -> None:
    approved = item(approved="new@example.com", is_parked=True)
    view = View(
        links={A: link()}, parked={A: row(reason="email_change", approved="new@example.com")}
    )

    changes = concluded(AddressTaken(), unit(Kind.MOVE), view, approved)
    without_row = concluded(AddressTaken(), unit(Kind.MOVE))

    assert changes.links[A].refused == "new@example.com"
    assert changes.parks[A].approved is None
    assert without_row.parks[A].reason == "email_change"


@pytest.mark.parametrize("result", [Refusal("x"), Doubt(), NotSent("quota")])
def test_what_is_beside_a_parked_change_only_gives_its_unit_back(result: Result) -> None:
    changes = concluded(result, unit(Kind.OLD_ADDRESS, is_extra=True))

    assert not changes.parks
    assert not changes.links
    assert changes.releases[HOLD] == (0 if isinstance(result, Doubt) else 1)


def test_what_is_written_beside_a_parked_change_is_counted_apart() -> None:
    view = View(links={A: link(refused="x")}, parked={A: row(reason="email_change")})

    changes = concluded(Done(), unit(Kind.OLD_ADDRESS, is_extra=True, was_linked=True), view)

    assert not changes.drops
    assert changes.extras[PART].updated == ["a"]
    assert changes.tallies == {}
    assert changes.links[A].hash == b""
    assert changes.links[A].refused == "x"


def test_a_row_of_an_import_is_counted_when_it_is_live_only() -> None:
    live, late = Changes(), Changes()

    begin_rows(Rows.of([row_of(unit().task)]), View(), live)
    begin_rows(Rows.of([row_of(unit(is_late=True).task)]), View(), late)

    assert live.tallies[PART].importing == 1
    assert not late.tallies


def test_a_row_of_an_import_settles_what_is_parked_unless_that_is_newer() -> None:
    older, newer = Changes(), Changes()

    begin_rows(Rows.of([row_of(unit().task)]), View(parked={A: row()}), older)
    begin_rows(Rows.of([row_of(unit().task)]), View(parked={A: row(ms=30)}), newer)

    assert older.drops == {A: Version(20, 1)}
    assert not newer.drops


def test_rows_that_are_there_are_linked_charged_and_counted() -> None:
    changes = Changes()

    rows = Rows.of([row_of(unit().task)])
    link_rows(rows, changes)
    charge_rows(rows, HOLD, changes)

    assert [each.contact for each in changes.firsts] == [A]
    assert [(each.effect_key, each.operation) for each in changes.posts[HOLD]] == [
        (b"k" * 16, "upsert")
    ]
    assert changes.tallies[PART].created == ["a"]


def test_a_refused_change_of_address_is_a_warning_on_what_was_written() -> None:
    changes = concluded(Done(), unit(Kind.OLD_ADDRESS, is_refused_change=True, was_linked=True))

    assert changes.tallies[PART].warned == [("a", "bulk_email_change")]


def test_a_removal_keeps_the_address_on_the_tombstone() -> None:
    after = linked_after(unit(Kind.LEAVE).task, link())

    assert (after.state, after.removed_by_us, after.identity) == (LinkState.REMOVED, True, OLD)


def test_a_read_back_never_makes_a_link_older() -> None:
    newer = link(version=Version(99, 1), wish=Wish.REJECTED)
    changes = Changes()

    conclude_read_back(unit(), happened=True, view=View(links={A: newer}), changes=changes)

    assert changes.links[A].version == Version(99, 1)
    assert changes.links[A].identity == NEW
    assert changes.extras[PART].created == ["a"]


def test_a_read_back_that_finds_nothing_gives_the_unit_back() -> None:
    changes = Changes()

    conclude_read_back(unit(), happened=False, view=View(), changes=changes)

    assert changes.releases == {HOLD: 1}
    assert not changes.links


def test_a_row_that_waits_as_it_did_is_not_touched() -> None:
    changes = Changes()

    park(item(is_parked=True), "quota", View(parked={A: row()}), changes)

    assert not changes.parks
    assert not changes.tallies


def test_an_approval_survives_a_newer_version_with_the_same_address() -> None:
    changes = Changes()
    view = View(parked={A: row(approved="new@example.com")})

    park(item(), "quota", view, changes)
    park(item(identity=OLD), "quota", view, other := Changes())

    assert changes.parks[A].approved == "new@example.com"
    assert other.parks[A].approved is None


def test_an_effect_without_a_result_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        conclude(item(), Effect(unit().task), View(), Changes())


def test_a_parked_contact_is_told_with_its_reason() -> None:
    changes = Changes()

    conclude(item(), Parking("paused"), View(), changes)

    told = changes.tallies[PART].settled(PART, UUID(int=3), "direct")
    assert told.parked == [("a", "paused")]
    assert told.id == Tally().settled(PART, UUID(int=3), "direct").id
    assert told.id != Tally().settled(PART, UUID(int=3), "drain:1").id
