from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import msgspec

from libs.common.events import Change, Changed, Effect, Operation, RunMode
from libs.common.reasons import Filter, Reject
from services.mapper.map_contact import Outcome
from services.mapper.map_page import fit, map_page, reject_page

DESTINATION = uuid4()


def part(*ids: str, **fields: Any) -> Changed:
    return Changed(
        **{
            "id": UUID(int=1),
            "workspace": UUID(int=2),
            "integration": UUID(int=3),
            "run": UUID(int=4),
            "run_no": 5,
            "mode": RunMode.FULL,
            "fencing": 6,
            "page": 7,
            "part": 8,
            "mapping_version": 9,
            "properties": ["email"],
            "changes": [Change(id=id_, op=Operation.UPSERT, version_ms=int(id_)) for id_ in ids],
            **fields,
        }
    )


def by_id(changes: Sequence[Change]) -> Sequence[Outcome]:
    """Map 1 to an effect, filter 2, reject 3."""
    others: dict[str, Outcome] = {"2": Filter.CRITERIA, "3": Reject.INVALID_EMAIL}
    return [
        others.get(change.id) or Effect(id=change.id, op=change.op, version_ms=change.version_ms)
        for change in changes
    ]


def test_every_contact_comes_out_once_and_one_mistake_stays_one() -> None:
    mapped = map_page(part("1", "2", "3", "4"), by_id, destination=DESTINATION)

    assert [effect.id for effect in mapped.effects] == ["1", "4"]
    assert mapped.filtered == [("2", 2)]
    assert mapped.rejected == [("3", 3, "invalid_email")]


def test_the_head_goes_on_unchanged() -> None:
    changed = part("1")

    mapped = map_page(changed, by_id, destination=DESTINATION)

    head = ("id", "workspace", "integration", "run", "run_no", "mode", "fencing", "page", "part")
    assert [getattr(mapped, name) for name in head] == [getattr(changed, name) for name in head]
    assert (mapped.mapping_version, mapped.destination) == (9, DESTINATION)


def test_a_part_can_be_rejected_as_a_whole() -> None:
    mapped = reject_page(part("1", "2"), Reject.INTEGRATION_ARCHIVED, destination=DESTINATION)

    assert mapped.effects == []
    assert mapped.rejected == [("1", 1, "integration_archived"), ("2", 2, "integration_archived")]


def test_the_heaviest_are_rejected_until_the_rest_fits() -> None:
    def effect(id_: str, size: int) -> Effect:
        attributes = msgspec.Raw(msgspec.json.encode("x" * size))
        return Effect(id=id_, op=Operation.UPSERT, version_ms=1, attributes=attributes)

    effects = [effect("1", 100), effect("2", 5_000), effect("3", 200), effect("4", 9_000)]

    kept, rejected = fit(effects, bytes_max=7_000)

    assert [effect.id for effect in kept] == ["1", "2", "3"]
    assert rejected == [("4", 1, "value_too_long")]
