"""When the demo takes a phase for over: the API is asked look by look, and the pipeline goes on."""

from collections import Counter
from typing import cast

import pytest

from local.api import Api, Json
from local.demo import _Job, _Totals

WAITING = 490
WRITTEN = 500


class Moments:
    """The API of a pipeline whose parked contacts leave for the destination after some look.

    They hold their units while they are on their way, and no look shows them as parked then.
    """

    def __init__(self, *, leaves_after: int) -> None:
        self._leaves_after = leaves_after
        self.looks = 0

    async def get(self, path: str, **_: str | int) -> Json:
        """Answer one look."""
        has_left = self.looks >= self._leaves_after
        self.looks += 1
        if path == "/v1/quota":
            return {"used": WRITTEN, "held": WAITING if has_left else 0, "left": 1}
        return {"items": [] if has_left else [{"source_id": "1"}]}


def job(api: Moments) -> _Job:
    """Return a job of which nothing but its API is asked."""
    made = _Job.__new__(_Job)
    made.api = cast("Api", api)
    made.integration = "int"
    return made


def totals() -> _Totals:
    return _Totals(runs=1, is_over=True, ended={1: "complete"}, counts=Counter(created=WRITTEN))


@pytest.mark.parametrize("leaves_after", [0, 1, 2])
async def test_contacts_that_leave_between_two_looks_still_wait(leaves_after: int) -> None:
    """Parked when the quota is asked, on their way when the parked ones are: not over."""
    api = Moments(leaves_after=leaves_after)

    assert not await job(api)._nothing_waits(totals(), totals(), 0.0)


class AtRest(Moments):
    """All has arrived; nothing is held for it."""

    async def get(self, path: str, **parameters: str | int) -> Json:
        """Answer one look."""
        answer = await super().get(path, **parameters)
        return {**answer, "held": 0} if path == "/v1/quota" else answer


async def test_it_is_over_when_nobody_waits_and_nothing_is_held() -> None:
    assert await job(AtRest(leaves_after=0))._nothing_waits(totals(), totals(), 0.0)
