from dataclasses import dataclass, field

import pytest

from libs.common.errors import NeedsReauthError, RateLimitedError, SyncError
from libs.connectors.account import AccountCalls, StaticToken
from libs.connectors.contract import TokenSupply
from libs.connectors.http import Answer, refusal
from tests.connectors.served import RecordingGate
from tests.connectors.talking import Talk, answering, response, speaking


@dataclass
class Supply:
    """A token supply that has another token once one was refused."""

    left: list[str]
    refusals: list[str] = field(default_factory=list)

    async def token(self) -> str:
        return self.left[0]

    async def refused(self, token: str) -> None:
        self.refusals.append(token)
        if len(self.left) > 1:
            self.left.remove(token)


def judge(answer: Answer, bucket: str) -> SyncError:
    return refusal(answer, bucket)


async def call(talk: Talk, tokens: TokenSupply, gate: RecordingGate, status: int = 0) -> Answer:
    async with speaking(talk) as (http, site, _):
        calls = AccountCalls(
            http=http,
            gate=gate,
            tokens=tokens,
            site=site,
            provider="acme",
            authorize=lambda token: {"api-key": token},
            judge=judge,
        )
        return await calls.call("api", "GET", "/x", expect=(status,))


async def test_a_refused_token_is_told_and_the_call_made_with_the_next() -> None:
    """Proves S10: each of the two calls has asked for its slot."""
    seen, talk = answering(response(401), response(200))
    tokens, gate = Supply(["old", "new"]), RecordingGate()

    answer = await call(talk, tokens, gate)

    assert answer.status == 200
    assert [request.lower().count(b"api-key: new") for request in seen] == [0, 1]
    assert tokens.refusals == ["old"]
    assert gate.entered == ["api", "api"]


async def test_a_second_refusal_needs_a_person() -> None:
    seen, talk = answering(response(401), response(401), response(200))

    with pytest.raises(NeedsReauthError):
        await call(talk, Supply(["old", "new"]), RecordingGate())

    assert len(seen) == 2


async def test_a_token_that_never_changes_is_not_tried_again() -> None:
    seen, talk = answering(response(401), response(200))

    with pytest.raises(NeedsReauthError):
        await call(talk, StaticToken("only"), RecordingGate())

    assert len(seen) == 1


async def test_a_limit_is_told_to_the_gate() -> None:
    """Proves S10: whoever hears of a limit stops everybody for as long as it says."""
    _, talk = answering(response(429, retry_after="7"))
    gate = RecordingGate()

    with pytest.raises(RateLimitedError):
        await call(talk, StaticToken("only"), gate)

    assert gate.refusals == [("api", 7.0)]


async def test_a_status_that_is_expected_is_an_answer() -> None:
    _, talk = answering(response(404))

    assert (await call(talk, StaticToken("only"), RecordingGate(), status=404)).status == 404
