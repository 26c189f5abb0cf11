"""What is to happen with a contact, decided without any I/O."""

import time
from dataclasses import replace
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.events import Identity
from services.writer.agreement import Seen
from services.writer.classify import (
    Decision,
    Effect,
    Importing,
    Parking,
    Remembered,
    Superseded,
    Unchanged,
    classify,
    must_read_back,
    newest,
    take_over,
)
from services.writer.pair_store import Pair
from services.writer.pairing import Heir, Pairs
from services.writer.values import (
    ContactId,
    ImportRow,
    Integration,
    IntegrationState,
    Kind,
    Link,
    LinkState,
    Parked,
    PartId,
    Place,
    Run,
    Task,
    Unit,
    Version,
    View,
    Wanted,
    Wish,
    digest,
    row_of,
)

ID = UUID(int=1)
RUN = UUID(int=2)
A = ContactId(ID, "a")
B = ContactId(ID, "b")
ATTRIBUTES = b'{"VORNAME":"Ada"}'
MAIL = Identity(email="ada@example.com")
OTHER = Identity(email="other@example.com")
ACTIVE = Integration(
    ID,
    UUID(int=3),
    IntegrationState.ACTIVE,
    removes_leavers=True,
    email_change_policy="single",
    list_id="7",
)


def wanted(
    source_id: str = "a",
    *,
    wish: Wish = Wish.UPSERT,
    ms: int = 10,
    run_no: int = 1,
    identity: Identity = MAIL,
    attributes: bytes = ATTRIBUTES,
    **changes: object,
) -> Wanted:
    """Return a contact as it is wanted; `hash` is derived as the mapper does."""
    item = Wanted(
        contact=ContactId(ID, source_id),
        wish=wish,
        version=Version(ms, run_no),
        part=PartId(ID, RUN, run_no, 1, 0),
        mapping_version=1,
        identity=identity if wish is Wish.UPSERT else Identity(),
        attributes=attributes,
        hash=digest(f"{identity}".encode() + attributes) if wish is Wish.UPSERT else b"",
    )
    return msgspec.structs.replace(item, **changes)


def link(item: Wanted | None = None, **changes: object) -> Link:
    """Return the link of a contact that was written as wanted."""
    item = item or wanted()
    made = Link(
        contact=item.contact,
        state=LinkState.LINKED,
        version=item.version,
        wish=Wish.UPSERT,
        identity=item.identity,
        hash=item.hash,
        content_hash=digest(item.attributes),
    )
    return msgspec.structs.replace(made, **changes)


def view(*links: Link, **known: object) -> View:
    """Return what is known: an active integration, and these links."""
    made = View(
        integrations={ID: ACTIVE},
        links={each.contact: each for each in links},
        owners={
            Place(ID, each.key): each.contact.source_id
            for each in links
            if each.state is LinkState.LINKED and each.key is not None
        },
    )
    return replace(made, **known)  # type: ignore[arg-type]  # named fields, checked by replace


def unit(item: Wanted, *, kind: Kind = Kind.UPSERT) -> Unit:
    """Return an open unit for exactly what is wanted."""
    task = Task(
        integration=ID,
        source_id=item.contact.source_id,
        kind=kind,
        wish=item.wish,
        version_ms=item.version.ms,
        run_no=item.version.run_no,
        run=item.part.run,
        page=item.part.page,
        part=item.part.part,
        mapping_version=1,
        list_id="7",
        key=b"k" * 16,
        email=item.identity.email,
        hash=item.hash,
        attributes=msgspec.Raw(item.attributes),
    )
    return Unit(task, UUID(int=8), UUID(int=9), is_doubtful=True)


def row(item: Wanted) -> ImportRow:
    """Return a row of an import for exactly what is wanted."""
    return row_of(unit(item).task)


def task_of(decision: Decision) -> Task:
    """Return the task of an effect."""
    assert isinstance(decision, Effect)
    return decision.task


def test_a_new_contact_is_created_on_the_list() -> None:
    task = task_of(classify(wanted(), view()))

    assert (task.kind, task.join_list, task.was_linked) == (Kind.UPSERT, True, False)
    assert task.known_as is None


def test_an_edited_contact_is_updated_and_membership_left_alone() -> None:
    task = task_of(classify(wanted(ms=20, attributes=b"{}"), view(link())))

    assert (task.kind, task.join_list, task.was_linked) == (Kind.UPSERT, False, True)
    assert task.known_as == MAIL


@pytest.mark.parametrize("older", [{"ms": 9}, {"ms": 9, "run_no": 5}])
def test_what_is_older_than_its_link_is_superseded(older: dict[str, int]) -> None:
    """Fault 16."""
    item = wanted(**older)  # type: ignore[arg-type]  # two integers

    assert classify(item, view(link())) == Superseded()


def test_what_is_older_than_its_parked_row_is_superseded() -> None:
    row = Parked(Version(20, 1), Wish.UPSERT, "quota", "ada@example.com", None)

    assert classify(wanted(), view(parked={A: row})) == Superseded()
    assert isinstance(classify(wanted(is_parked=True), view(parked={A: row})), Effect)


def test_a_deletion_that_does_not_count_is_superseded() -> None:
    item = wanted(wish=Wish.DELETE, counts=False)

    assert classify(item, view(link())) == Superseded()


def test_an_outdated_runs_upserts_are_superseded_and_its_leaves_are_not() -> None:
    known = view(link(), runs={RUN: Run(1, is_abandoned=False, is_outdated=True)})

    assert classify(wanted(ms=20), known) == Superseded()
    assert isinstance(classify(wanted(wish=Wish.LEAVE, ms=20), known), Effect)
    assert isinstance(classify(wanted(ms=20, attributes=b"{}", is_parked=True), known), Effect)


def test_the_same_content_is_unchanged_and_moves_the_version_up() -> None:
    decision = classify(wanted(ms=20), view(link()))

    assert isinstance(decision, Unchanged)
    assert decision.link.version == Version(20, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"needs_recheck": True},
        {"state": LinkState.REMOVED},
        {"hash": b"x", "content_hash": b"y"},
    ],
)
def test_what_may_not_stand_there_is_written_again(changes: dict[str, object]) -> None:
    assert isinstance(classify(wanted(ms=20), view(link(None, **changes))), Effect)


def test_content_alone_is_compared_where_the_hash_is_unknown() -> None:
    assert isinstance(classify(wanted(ms=20), view(link(hash=b""))), Unchanged)


def test_a_contact_with_an_open_unit_is_never_unchanged() -> None:
    item = wanted()

    assert isinstance(classify(item, view(link(), units={A: unit(item)})), Effect)


@pytest.mark.parametrize("wish", [Wish.LEAVE, Wish.DELETE, Wish.FILTERED])
def test_who_leaves_is_taken_off_the_list_by_policy(wish: Wish) -> None:
    """Proves S4 and S11."""
    item = wanted(wish=wish, ms=20)
    keep = view(link(), integrations={ID: replace(ACTIVE, removes_leavers=False)})

    removed, kept = classify(item, view(link())), classify(item, keep)

    assert task_of(removed).kind is Kind.LEAVE
    assert isinstance(kept, Remembered)
    assert kept.reason is None
    assert kept.link is not None
    assert kept.link.version == item.version
    is_tombstone = kept.link.state is LinkState.REMOVED
    assert is_tombstone == (wish is not Wish.FILTERED)


def test_who_was_never_written_needs_no_removal() -> None:
    decision = classify(wanted(wish=Wish.LEAVE), view())

    assert isinstance(decision, Remembered)
    assert decision.link == Link(A, LinkState.NONE, Version(10, 1), Wish.LEAVE)


def test_a_rejected_version_is_remembered_beside_what_stands_there() -> None:
    decision = classify(wanted(wish=Wish.REJECTED, ms=20, reason="invalid_email"), view(link()))

    assert isinstance(decision, Remembered)
    assert decision.reason == "invalid_email"
    assert decision.link is not None
    assert (decision.link.state, decision.link.key) == (LinkState.LINKED, "ada@example.com")


def test_no_address_is_no_identity() -> None:
    decision = classify(wanted(identity=Identity()), view())

    assert isinstance(decision, Remembered)
    assert decision.reason == "no_identity"


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"integrations": {ID: replace(ACTIVE, state=IntegrationState.PAUSED)}}, "paused"),
        ({"integrations": {ID: replace(ACTIVE, state=IntegrationState.DRAFT)}}, "paused"),
        ({"integrations": {ID: replace(ACTIVE, state=IntegrationState.ERROR)}}, "configuration"),
        ({"blocked": "rate_limited"}, "rate_limited"),
        ({"is_open": False}, "quota"),
        (
            {"parked": {A: Parked(Version(5, 1), Wish.UPSERT, "backlog", "x", None)}},
            "backlog",
        ),
    ],
)
def test_a_contact_waits_for_what_stops_it(known: dict[str, object], reason: str) -> None:
    """Proves Q3, among what else may stop it."""
    assert classify(wanted(), view(**known)) == Parking(reason)


def test_a_contact_with_a_unit_does_not_wait_for_the_quota() -> None:
    item = wanted()

    assert isinstance(classify(item, view(units={A: unit(item)}, is_open=False)), Effect)


@pytest.mark.parametrize(
    "integrations", [{}, {ID: replace(ACTIVE, state=IntegrationState.ARCHIVED)}]
)
def test_an_archived_integration_rejects(integrations: dict[UUID, Integration]) -> None:
    decision = classify(wanted(), view(integrations=integrations))

    assert decision == Remembered(None, "integration_archived")


def test_one_address_belongs_to_the_first_of_a_batch() -> None:
    known = view()

    first = classify(wanted("a"), known)
    second = classify(wanted("b", identity=Identity(email="ADA@example.com")), known)

    assert isinstance(first, Effect)
    assert second == Parking("duplicate_identity")


def test_an_open_unit_owns_its_address() -> None:
    known = view(units={A: unit(wanted("a"))})

    assert classify(wanted("b"), known) == Parking("duplicate_identity")


def test_a_tombstone_lets_its_address_go_to_who_claims_it() -> None:
    stone = link(state=LinkState.REMOVED, wish=Wish.LEAVE)
    known = view(stone, link(wanted("b", run_no=2)))

    back = classify(wanted("a", ms=20, run_no=3, identity=OTHER), known)

    assert task_of(back).known_as is None
    assert task_of(back).join_list


def test_a_tombstone_waits_while_it_is_open_who_gets_its_address() -> None:
    """Who claims it may be refused: a contact made anew would leave the old one behind (S5)."""
    stone = link(state=LinkState.REMOVED, wish=Wish.LEAVE)
    back = wanted("a", ms=20, run_no=3, identity=OTHER)
    called_for = view(stone, units={B: unit(wanted("b"))})
    in_one_batch = view(stone)
    classify(wanted("b", run_no=3), in_one_batch)

    assert classify(back, called_for) == Parking("duplicate_identity")
    assert classify(back, in_one_batch) == Parking("duplicate_identity")


def test_a_tombstone_that_moves_keeps_its_old_address_until_then() -> None:
    """Who is written there meanwhile would be moved in its place, should the call come late."""
    stone = link(state=LinkState.REMOVED, wish=Wish.LEAVE)
    moving = wanted("a", ms=20, run_no=3, identity=OTHER, approved="other@example.com")
    in_one_batch = view(stone)
    move = task_of(classify(moving, in_one_batch))
    called_for = view(stone, units={A: Unit(move, UUID(int=8), UUID(int=9))})
    newcomer = wanted("b", run_no=3)

    assert move.kind is Kind.MOVE
    assert classify(newcomer, in_one_batch) == Parking("duplicate_identity")
    assert classify(newcomer, called_for) == Parking("duplicate_identity")


def test_back_with_another_address_is_a_change_of_address() -> None:
    stone = link(state=LinkState.REMOVED, wish=Wish.LEAVE)

    back = classify(wanted("a", ms=20, run_no=3, identity=OTHER), view(stone))

    assert isinstance(back, Parking)
    assert back.reason == "email_change"
    assert back.extra is not None


def test_a_changed_address_waits_and_the_other_fields_go_at_once() -> None:
    """Proves S5."""
    item = wanted(ms=20, identity=OTHER, attributes=b'{"VORNAME":"Eve"}')

    decision = classify(item, view(link()))

    assert isinstance(decision, Parking)
    assert decision.reason == "email_change"
    assert decision.extra is not None
    assert decision.extra.identity == MAIL
    assert decision.extra.is_extra


def test_only_the_address_changed_is_only_a_wait() -> None:
    """Proves Q6: nothing is written for it."""
    assert classify(wanted(ms=20, identity=OTHER), view(link())) == Parking("email_change")


def test_other_fields_wait_too_while_nothing_can_be_written() -> None:
    item = wanted(ms=20, identity=OTHER, attributes=b"{}")

    assert classify(item, view(link(), blocked="destination_down")) == Parking("email_change")


def test_an_approved_change_moves_the_contact() -> None:
    item = wanted(ms=20, identity=OTHER, approved="other@example.com", is_parked=True)

    task = task_of(classify(item, view(link())))

    assert (task.kind, task.known_as, task.identity) == (Kind.MOVE, MAIL, OTHER)


def test_an_approved_change_to_a_taken_address_waits() -> None:
    item = wanted(ms=20, identity=OTHER, approved="other@example.com", is_parked=True)
    holder = link(wanted("b", identity=OTHER))

    assert classify(item, view(link(), holder)) == Parking("duplicate_identity")


def test_an_approval_is_for_one_address_only() -> None:
    item = wanted(ms=20, identity=OTHER, approved="third@example.com", is_parked=True)

    assert classify(item, view(link())) == Parking("email_change")


def test_a_refused_change_is_an_ordinary_update_of_the_old_address() -> None:
    known = view(link(refused="other@example.com"))

    same = classify(wanted(ms=20, identity=OTHER), known)
    edited = classify(wanted(ms=20, identity=OTHER, attributes=b"{}"), known)

    assert isinstance(same, Unchanged)
    assert same.is_refused_change
    assert task_of(edited).kind is Kind.OLD_ADDRESS
    assert task_of(edited).is_refused_change


def test_a_change_behind_another_wait_keeps_that_reason() -> None:
    row = Parked(Version(5, 1), Wish.UPSERT, "quota", "ada@example.com", None)
    item = wanted(ms=20, identity=OTHER, attributes=b"{}")

    assert classify(item, view(link(), parked={A: row})) == Parking("quota")


def test_an_approved_change_that_waits_writes_nothing_to_the_old_address() -> None:
    row = Parked(Version(15, 1), Wish.UPSERT, "email_change", "x", "other@example.com")
    item = wanted(ms=20, identity=OTHER, attributes=b"{}")

    assert classify(item, view(link(), parked={A: row})) == Parking("email_change")


def test_a_change_that_was_taken_back_is_an_ordinary_contact_again() -> None:
    row = Parked(Version(15, 1), Wish.UPSERT, "email_change", "other@example.com", None)
    item = wanted(ms=20, attributes=b"{}")

    assert task_of(classify(item, view(link(), parked={A: row}))).kind is Kind.UPSERT


def test_a_row_of_an_import_is_importing_for_its_own_record_only() -> None:
    item = wanted()
    known = view(importing={A: row(item)})

    assert classify(item, known) == Importing()
    assert (
        classify(
            msgspec.structs.replace(item, part=msgspec.structs.replace(item.part, page=2)), known
        )
        == Superseded()
    )
    assert classify(wanted(ms=20), known) == Parking("import_running")
    assert classify(wanted(ms=5), known) == Superseded()


def test_a_rejected_version_beside_an_import_is_remembered() -> None:
    """The row's own version must not come back over it once the import has ended."""
    known = view(importing={A: row(wanted())})

    decision = classify(wanted(wish=Wish.REJECTED, ms=20, reason="x"), known)

    assert decision == Remembered(Link(A, LinkState.NONE, Version(20, 1), Wish.REJECTED), "x")


def test_only_the_very_same_effect_is_repeated_without_a_look() -> None:
    item = wanted()
    known = view(units={A: unit(item)})

    assert must_read_back([item], known) == []
    for other in (
        wanted(ms=20),
        wanted(wish=Wish.LEAVE),
        wanted(wish=Wish.REJECTED),
        wanted(identity=OTHER),
    ):
        assert must_read_back([other], known) == [known.units[A]]
    assert must_read_back([item], view(units={A: unit(item, kind=Kind.MOVE)}))
    assert must_read_back([item], replace(known, integrations={}))
    assert not must_read_back([wanted(ms=20)], view(importing={A: row(item)}))
    assert must_read_back([wanted("b", merged_from=("a",))], known)


def test_of_a_contacts_states_in_a_batch_the_newest_counts() -> None:
    first, second = wanted(ms=20), wanted(ms=10)
    stale = wanted(wish=Wish.LEAVE, run_no=9, counts=False)

    assert newest([first, second]) == {A: first}
    assert newest([second, first]) == {A: first}
    assert newest([first, stale]) == {A: first}
    assert newest([stale, first]) == {A: first}
    assert newest([first, msgspec.structs.replace(first)])[A] is not first


def test_a_merge_hands_over_the_link_and_leaves_a_tombstone() -> None:
    item = wanted("b", ms=20, merged_from=("a",))
    known = view(link())

    changed = take_over(item, known)

    assert [(each.contact.source_id, each.state, each.key) for each in changed] == [
        ("b", LinkState.LINKED, "ada@example.com"),
        ("a", LinkState.REMOVED, None),
    ]
    assert isinstance(classify(item, known), Unchanged)


def test_a_survivor_keeps_a_link_of_its_own() -> None:
    item = wanted("b", ms=20, identity=OTHER, merged_from=("a",))
    known = view(link(), link(wanted("b", identity=OTHER)))

    changed = take_over(item, known)

    assert [each.contact.source_id for each in changed] == ["a"]
    assert known.links[ContactId(ID, "b")].key == "other@example.com"


def test_who_was_merged_twice_within_a_turn_hands_over_the_pair_that_is_stored() -> None:
    known, pairs = view(link()), Pairs()
    for survivor, merged in (("b", ("a",)), ("c", ("a", "b"))):
        for changed in take_over(wanted(survivor, ms=20, merged_from=merged), known):
            pairs.follow(changed, had_own=False)

    pair = pairs.pair_of(ContactId(ID, "c"), {"a": Pair("a", "7", Seen(remote=b"agreed"))})

    assert pair == Pair("c", "7", Seen(remote=b"agreed"))
    assert pairs.heirs == {ContactId(ID, "c"): Heir("a", had_own=False)}
    assert pairs.merged == {ID: ["a", "b"]}


@pytest.mark.parametrize(
    "known",
    [
        view(),
        view(link(identity=Identity(), state=LinkState.REMOVED)),
        view(link(), importing={A: row(wanted())}),
        view(link(), link(wanted("b", ms=99))),
    ],
)
def test_without_anything_to_take_over_nothing_changes(known: View) -> None:
    assert take_over(wanted("b", merged_from=("a", "b")), known) == []


@given(
    st.lists(
        st.builds(
            wanted,
            st.sampled_from("abc"),
            wish=st.sampled_from([Wish.UPSERT, Wish.LEAVE]),
            ms=st.integers(1, 30),
            run_no=st.integers(1, 3),
            identity=st.sampled_from([MAIL, OTHER]),
            attributes=st.sampled_from([ATTRIBUTES, b"{}"]),
        ),
        max_size=6,
    )
)
def test_no_address_is_written_for_two_contacts_of_a_batch(items: list[Wanted]) -> None:
    known = view(link())

    decisions = [classify(item, known) for item in newest(items).values()]

    tasks = [each.task for each in decisions if isinstance(each, Effect)]
    addresses = [each.email for each in tasks if each.kind is not Kind.LEAVE]
    assert len(addresses) == len(set(addresses))


def test_a_decision_takes_microseconds() -> None:
    known = view(link())
    items = [wanted(ms=20 + number) for number in range(500)]

    began = time.process_time()
    for item in items:
        classify(item, known)

    assert (time.process_time() - began) / len(items) < 0.000_5
