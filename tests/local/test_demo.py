"""When the demo takes a phase for over: the API is asked look by look, and the pipeline goes on."""

from collections import Counter
from typing import cast

import pytest

from local import verify
from local.api import Api, Json
from local.demo import _Job, _Totals
from local.outcome import Outcome, Phase, Wishes
from local.providers import Provider
from local.verify import Wanted

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


class Filled:
    """A source with two contacts."""

    async def state(self) -> Json:
        return {}


async def test_the_quota_is_raised_once_it_was_mailed_that_it_is_used_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A notifier that is slow must not be told before that its mail is pointless."""
    done: list[str] = []

    async def phase(_job: _Job, name: str, *_: object) -> Phase:
        done.append(name)
        return Phase(name)

    async def mails(_job: _Job) -> tuple[list[Json], list[str]]:
        done.append("mails")
        return [], []

    async def status(_job: _Job, _wanted: str) -> None:
        return

    monkeypatch.setattr(_Job, "_phase", phase)
    monkeypatch.setattr(_Job, "_mails", mails)
    monkeypatch.setattr(_Job, "_expect_status", status)
    monkeypatch.setattr(verify, "wanted_of", lambda *_: Wanted({"1": {}, "2": {}}, {}))
    made = job(Moments(leaves_after=0))
    made.wishes = Wishes(contacts=2, quota=1)
    made.source, made.outcome = cast("Provider", Filled()), Outcome(made.wishes)
    made.edited = 0

    await made._phases()

    assert done == ["full", "mails", "raised", "unchanged", "changed"]
