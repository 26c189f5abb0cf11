"""A field that vanished is told from one that is empty for everybody."""

import asyncio
from collections.abc import Collection, Sequence

import msgspec
import pytest

from libs.common.errors import MisconfiguredError
from libs.common.events import Change, Operation
from libs.connectors import field_watch
from libs.connectors.field_watch import FieldWatch, Proves, by_key, by_value


class Provider:
    """Who tells which fields there are, and counts how often."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.looks: list[list[str]] = []

    async def look(self, names: Sequence[str]) -> Collection[str]:
        self.looks.append(list(names))
        return self.names

    def watch(self, proves: Proves = by_value) -> FieldWatch:
        return FieldWatch("acme.example", self.look, proves, lambda name: name != "email")


def contact(properties: bytes) -> Change:
    return Change(id="1", op=Operation.UPSERT, version_ms=1, properties=msgspec.Raw(properties))


EMPTY, FILLED = contact(b'{"email":"a@b.de","city":null}'), contact(b'{"city":"Bonn"}')
MALFORMED = contact(b"[]")


async def test_a_field_that_is_gone_is_missed_before_anything_is_emptied() -> None:
    """Fault 46."""
    with pytest.raises(MisconfiguredError, match="field_missing"):
        await Provider("street").watch().check(["email", "city"], [EMPTY])


@pytest.mark.parametrize("changes", [[], [EMPTY, FILLED], [FILLED]])
async def test_whoever_has_a_value_proves_that_the_field_is_there(changes: list[Change]) -> None:
    provider = Provider()

    await provider.watch().check(["email", "city"], changes)

    assert provider.looks == []


async def test_who_cannot_be_read_proves_nothing() -> None:
    with pytest.raises(MisconfiguredError):
        await Provider().watch().check(["city"], [MALFORMED])


async def test_where_fields_are_named_a_name_is_enough() -> None:
    provider = Provider()

    await provider.watch(by_key).check(["city"], [EMPTY])
    with pytest.raises(MisconfiguredError):
        await provider.watch(by_key).check(["street"], [EMPTY])


async def test_a_field_that_is_empty_for_everybody_is_looked_for_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Provider("city", "street")
    watch = provider.watch()

    await watch.check(["city"], [EMPTY])
    await watch.check(["city", "street"], [EMPTY])
    later_s = asyncio.get_running_loop().time() + field_watch.LOOKED_FOR_S
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: later_s)
    await watch.check(["city"], [EMPTY])

    assert provider.looks == [["city"], ["street"], ["city"]]
