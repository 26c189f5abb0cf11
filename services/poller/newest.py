"""Keep the newest changes of a sweep, where no more of them may be fetched (CC4).

Pure. A sweep has to be known to its end before anybody can say which of it is newest, so what is
kept waits in memory: as many contacts as the cap allows, and of the others their ids.
"""

import heapq
from collections.abc import Iterable, Sequence

from libs.common.events import Change


class Newest:
    """The newest changes so far, one for each contact."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._versions: dict[str, int] = {}  # Of everyone who was met.
        self._kept: dict[str, Change] = {}
        # Oldest first, of one millisecond the lowest id: the same ones are kept whatever the order
        # of the pages. An entry whose change was replaced since is passed over.
        self._oldest: list[tuple[int, str]] = []
        self.has_doubles = False

    def add(self, changes: Iterable[Change]) -> None:
        """Take changes in; what is older than enough others is dropped."""
        for change in changes:
            known = self._versions.get(change.id)
            if known is not None:
                self.has_doubles = True
                if change.version_ms <= known:
                    continue
            self._versions[change.id] = change.version_ms
            self._kept[change.id] = change
            heapq.heappush(self._oldest, (change.version_ms, change.id))
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        while len(self._kept) > self._most:
            version_ms, contact_id = heapq.heappop(self._oldest)
            kept = self._kept.get(contact_id)
            if kept is not None and kept.version_ms == version_ms:
                del self._kept[contact_id]

    @property
    def left_out(self) -> int:
        """Return how many contacts were met and are not kept."""
        return len(self._versions) - len(self._kept)

    def dropped(self) -> dict[str, int]:
        """Return who was met and is not kept, with the newest version that was met."""
        return {
            contact: version_ms
            for contact, version_ms in self._versions.items()
            if contact not in self._kept
        }

    def changes(self) -> Sequence[Change]:
        """Return what is kept, oldest first."""
        return sorted(self._kept.values(), key=lambda each: (each.version_ms, each.id))
