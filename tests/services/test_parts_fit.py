"""What one service puts together, the next can take: a part of the poller's once it is mapped."""

from itertools import takewhile
from uuid import UUID, uuid4

import msgspec
import pytest

from libs.common.events import CHANGES_MAX, Change, Changed, Operation, RunMode, encode
from libs.common.topics import MESSAGE_BYTES_MAX
from libs.connectors.contract import FieldType
from services.mapper.map_contact import FieldMapping, MappingVersion, compile_mapping
from services.mapper.map_page import map_page
from services.poller.parts import CONTACT_BYTES_MAX, ID_CHARACTERS_MAX, changes_max, split

HEADERS_BYTES = 4_096
EMAIL = f"{'e' * 64}@{'.'.join(['d' * 60] * 3)}.de"


def pairs(count: int, length: int) -> list[tuple[str, str]]:
    """Return fields, the address among them, and their attributes with names of some length."""
    return [("email", "EMAIL"), *((f"f{n}", f"A{n}".ljust(length, "_")) for n in range(count))]


def longest(count: int) -> list[tuple[str, str]]:
    """Return a mapping of so many fields that is just one under which many travel together."""
    wanted = (pairs(count, length) for length in range(3, 600))
    return list(takewhile(lambda each: changes_max(each) == CHANGES_MAX, wanted))[-1]


@pytest.mark.parametrize("count", [1, 8, 25])
@pytest.mark.parametrize("is_empty", [False, True])
def test_contacts_that_travel_together_fit_together_once_mapped(
    count: int, *, is_empty: bool
) -> None:
    """Proves S1: nobody is refused for the company in which a part was put together."""
    mapped = longest(count)
    given = {"email": EMAIL}
    rest = CONTACT_BYTES_MAX // CHANGES_MAX - len(msgspec.json.encode(given))
    if not is_empty:
        given["f0"] = "v" * (rest - len(',"f0":""'))
    properties = msgspec.Raw(msgspec.json.encode(given))
    changes = [
        Change(
            id=str(number).rjust(ID_CHARACTERS_MAX, "0"),
            op=Operation.UPSERT,
            version_ms=1_800_000_000_000,
            properties=properties,
        )
        for number in range(CHANGES_MAX)
    ]
    [part] = split(changes, changes_max(mapped))
    changed = Changed(
        id=uuid4(),
        workspace=UUID(int=1),
        integration=UUID(int=2),
        run=UUID(int=3),
        run_no=1,
        mode=RunMode.FULL,
        fencing=1,
        page=1,
        part=1,
        mapping_version=1,
        properties=[field for field, _ in mapped],
        changes=part,
    )
    types = {"email": FieldType.EMAIL}
    fields = [FieldMapping(field, name, types.get(field, FieldType.TEXT)) for field, name in mapped]

    done = map_page(
        changed,
        compile_mapping(MappingVersion(fields, None, None), changed.properties),
        destination=uuid4(),
    )

    assert done.rejected == []
    assert len(done.effects) == CHANGES_MAX
    assert len(encode(done)) + HEADERS_BYTES <= MESSAGE_BYTES_MAX
