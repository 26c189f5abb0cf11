"""Rows of imports by columns are the same rows as one by one."""

from collections.abc import Sequence
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from libs.common.events import Identity, Operation
from libs.connectors.contract import Write
from services.writer.rows import Held, Importing, Rows
from services.writer.values import ContactId, Head, ImportRow, PartId, Place

ONE, OTHER = UUID(int=1), UUID(int=2)


def row(
    source_id: str, integration: UUID = ONE, *, run_no: int = 1, page: int = 1, **more: bool
) -> ImportRow:
    address = f"{source_id}@example.com"
    part = PartId(integration, UUID(int=run_no), run_no, page, 1)
    write = Write(Operation.UPSERT, Identity(email=address), b"{}", "7", join_list=True)
    contact, place = ContactId(integration, source_id), Place(integration, address)
    key = source_id.encode() * 16
    return ImportRow(contact, place, Head(part, 1, "7"), write, page, b"h" * 16, key, **more)


ROWS = st.lists(
    st.builds(
        row,
        st.sampled_from("abcdefgh"),
        st.sampled_from([ONE, OTHER]),
        run_no=st.integers(1, 2),
        page=st.integers(1, 3),
        was_linked=st.booleans(),
    ),
    unique_by=lambda each: each.contact,
    max_size=8,
)


@given(ROWS, ROWS, st.data())
def test_columns_have_what_the_rows_had(
    own: list[ImportRow], others: list[ImportRow], data: st.DataObject
) -> None:
    """Proves Q1: the key and the contact of a unit stay together, whatever is left out."""
    rows = Rows.of(own)
    are_in = data.draw(st.lists(st.booleans(), min_size=len(own), max_size=len(own)))
    some = {each.contact for each, is_in in zip(own, are_in, strict=True) if not is_in}
    count = data.draw(st.integers(0, 9))

    assert (len(rows), list(rows), list(rows.contacts())) == (
        len(own),
        own,
        [each.contact for each in own],
    )
    left = [each for each in own if each.contact not in some]
    assert list(rows.compressed(are_in)) == list(rows.without(some)) == left
    assert list(rows.first(count)) == list(rows[:count]) == own[:count]
    assert list(rows.followed_by(others)) == own + others
    assert list(rows) == own  # None of this has changed them.
    assert dict(rows.claims()) == {each.place: each.contact.source_id for each in own}


@given(ROWS)
def test_stretches_and_runs_have_everybody_once_and_in_order(own: list[ImportRow]) -> None:
    rows = Rows.of(own)

    stretches = [(head, each) for head, part in rows.stretches() for each in rows[part]]
    runs = rows.by_run()

    assert stretches == [(each.head, each) for each in own]
    for (integration, run_no), found in runs.items():
        assert list(found) == [
            each
            for each in own
            if (each.head.part.integration, each.head.part.run_no) == (integration, run_no)
        ]
    assert sum(map(len, runs.values())) == len(own)


@given(st.lists(ROWS, max_size=3))
def test_what_is_under_way_is_found_by_contact_and_by_address(
    imports: Sequence[list[ImportRow]],
) -> None:
    importing, taken = Importing(), set[ContactId]()
    for number, own in enumerate(imports):
        fresh = [each for each in own if each.contact not in taken]
        taken |= {each.contact for each in fresh}
        importing.begin(Rows.of(fresh))
        gone = Rows.of([row("z", page=number + 1)])
        importing.begin(gone)
        importing.end(gone)
    known = {each.contact: each for own in imports for each in reversed(own)}
    held = Held({Place(ONE, "unit@example.com"): "u"}, importing)

    assert set(importing) == taken == known.keys()
    assert len(importing) == len(taken)
    for integration in (ONE, OTHER):
        ours = {each.source_id for each in taken if each.integration == integration}
        addresses = {f"{each}@example.com" for each in "abcdefghz"}
        assert importing.among(integration, set("abcdefghz")) == ours
        assert importing.taken(integration, addresses) == {f"{each}@example.com" for each in ours}
    for contact in taken:
        assert importing[contact].contact == contact
        place = Place(contact.integration, f"{contact.source_id}@example.com")
        assert held[place] == contact.source_id
    assert importing.get(ContactId(ONE, "z")) is None
    assert Place(ONE, "z@example.com") not in held
    assert held[Place(ONE, "unit@example.com")] == "u"


def test_rows_that_are_added_are_found_as_well() -> None:
    rows = Rows.of([row("a")])
    assert rows.of_contact(ContactId(ONE, "b")) is None
    assert rows.holder(Place(ONE, "b@example.com")) is None

    rows.extend(Rows.of([row("b")]))

    assert rows.of_contact(ContactId(ONE, "b")) == row("b")
    assert rows.holder(Place(ONE, "b@example.com")) == "b"
