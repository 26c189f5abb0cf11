"""The newest changes of a sweep, whatever the order of its pages (CC4)."""

from hypothesis import given
from hypothesis import strategies as st

from libs.common.events import Change, Operation
from services.poller.newest import Newest


def change(contact_id: str, version_ms: int) -> Change:
    return Change(id=contact_id, op=Operation.UPSERT, version_ms=version_ms)


def kept(newest: Newest) -> list[tuple[int, str]]:
    return [(each.version_ms, each.id) for each in newest.changes()]


SEEN = st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abcdefgh")), max_size=30)


@given(seen=SEEN, most=st.integers(1, 5))
def test_the_newest_are_kept_and_the_others_counted(seen: list[tuple[int, str]], most: int) -> None:
    """Proves CC4: the newest, each contact once; of one millisecond always the same ones."""
    newest = Newest(most)
    last: dict[str, int] = {}
    for version_ms, contact_id in seen:
        newest.add([change(contact_id, version_ms)])
        last[contact_id] = max(version_ms, last.get(contact_id, -1))

    everyone = sorted((version_ms, contact_id) for contact_id, version_ms in last.items())
    assert kept(newest) == everyone[-most:]
    assert newest.left_out == len(last) - len(newest.changes())
    assert newest.has_doubles == (len(seen) > len(last))


def test_a_contact_that_is_met_again_is_kept_as_it_is_now() -> None:
    newest = Newest(2)

    newest.add([change("a", 1), change("b", 2), change("a", 3), change("b", 1)])

    assert kept(newest) == [(2, "b"), (3, "a")]
    assert newest.left_out == 0
    assert newest.has_doubles
