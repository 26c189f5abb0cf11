"""Notices that a field which is read is not there any more, where the provider does not say so.

Asked for a field that was deleted, some providers answer as for one that is empty: they leave it
out. Read on like that, its value would be emptied at the destination for everybody who is edited
(fault 46). So a page on which nobody has a value for a field is not handed on before its
definition was looked at; a look counts for a while, because some fields are empty for everybody.

One watch belongs to one source object, and so to one run.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from libs.common.errors import MisconfiguredError
from libs.common.events import Change

# A field that nobody has a value for is looked for this often. If it is deleted meanwhile, there is
# nothing of it to be emptied.
LOOKED_FOR_S = 60.0

# Returns those of these fields that the provider has now.
Look = Callable[[Sequence[str]], Awaitable[Collection[str]]]
# Returns whether a contact's properties prove that the provider has a field.
Proves = Callable[[bytes, str], bool]


def by_key(properties: bytes, name: str) -> bool:
    """Return whether a field is named at all: where only fields that are there are named."""
    return f'"{name}":'.encode() in properties


def by_value(properties: bytes, name: str) -> bool:
    """Return whether a field has a value: where we name every field ourselves, null if empty."""
    key = f'"{name}":'.encode()
    return key in properties and key + b"null" not in properties


class FieldWatch:
    """What is known of the fields that one source reads; `watched` says which may vanish."""

    def __init__(
        self, host: str, look: Look, proves: Proves, watched: Callable[[str], bool] = bool
    ) -> None:
        self._host = host
        self._look = look
        self._proves = proves
        self._watched = watched
        self._looked_at: dict[str, float] = {}

    async def check(self, names: Iterable[str], changes: Sequence[Change]) -> None:
        """Raise MisconfiguredError(field_missing) if one of the fields is not there any more.

        `changes` are contacts that were just read with these fields; of nobody nothing is told,
        and nothing can be emptied.
        """
        if not changes:
            return
        doubtful = [
            name
            for name in names
            if self._watched(name)
            and not any(self._proves(bytes(each.properties), name) for each in changes)
        ]
        now_s = asyncio.get_running_loop().time()
        unknown = [name for name in doubtful if self._looked_at.get(name, 0.0) <= now_s]
        if not unknown:
            return
        if not set(unknown) <= set(await self._look(unknown)):
            raise MisconfiguredError(self._host, "field_missing")
        self._looked_at |= dict.fromkeys(unknown, now_s + LOOKED_FOR_S)
