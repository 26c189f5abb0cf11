"""Scenarios on a stack of their own, with a handful of integrations instead of thousands."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__, idle, slow
from benchmarks.accounts import Account
from benchmarks.bench import Bench
from benchmarks.world import World
from local import stack
from local.stack import Options

QUICK = {"RATE_LIMITS": "false"}


@pytest.fixture
async def bench(embedded: None, tmp_path: Path) -> AsyncIterator[Bench]:
    """Return a bench on a stack as `make bench` starts it, without durability."""
    options = Options(tmp_path / "stack", durable=False, environment=QUICK)
    async with stack.running(options, lambda line: None) as made, World.over(made) as world:
        yield Bench(world, 20, tmp_path / "profiles")


async def test_idle_integrations_are_polled_and_write_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "TENANTS", 2)
    monkeypatch.setattr(idle, "INTEGRATIONS", 8)
    monkeypatch.setattr(idle, "INTERVAL_S", 2.0)
    monkeypatch.setattr(idle, "STEADY_S", 3.0)
    monkeypatch.setattr(World, "rested", _until_nobody_is_due(World.rested))

    await idle.idle(bench)

    first, at_once, steady = bench.found
    assert first.contacts == 40
    assert 0 < first.notes["pace"] < 1
    assert [len(await account.writes()) for account in bench.world.accounts] == [20, 20]
    assert at_once.notes["polls"] == 8
    assert at_once.calls == {"hubspot": 16, "brevo": 0}
    assert steady.notes["polls"] == 8


def _until_nobody_is_due(rested: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Let a rest end with all polls that came due in it; a busy machine does them later."""

    async def until_nobody_is_due(world: World, *arguments: Any, **named: Any) -> None:
        await rested(world, *arguments, **named)
        async with asyncio.timeout(60):
            while (await world._standing())["due"]:  # noqa: ASYNC110  # the database must be asked
                await asyncio.sleep(0.1)

    return until_nobody_is_due


async def test_others_are_fresh_beside_an_account_that_is_slow_or_dead(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow, "FAST", 2)
    monkeypatch.setattr(slow, "ROUNDS", 1)
    monkeypatch.setattr(slow, "EDITS", 3)
    monkeypatch.setattr(slow, "BUSY_CONTACTS", 8)
    written: list[int] = []
    for moment in ("die", "recover"):
        monkeypatch.setattr(Account, moment, _counting(getattr(Account, moment), written))

    await slow.slow(bench)

    phases = {each.phase: each for each in bench.found[1:]}
    assert list(phases) == ["without trouble", "beside a slow one", "beside a dead one"]
    assert all(each.contacts == 14 for each in phases.values())
    assert all(each.notes["lag_at_the_end"] == 0 for each in phases.values())
    assert all(0 < each.notes["fresh_s_p50"] < 20 for each in phases.values())
    at_death, at_recovery = written
    assert at_death == at_recovery


def _counting(
    method: Callable[[Account], Awaitable[None]], written: list[int]
) -> Callable[[Account], Awaitable[None]]:
    """Note how much an account has been given before it is called."""

    async def counted(account: Account) -> None:
        written.append(len(await account.writes()))
        await method(account)

    return counted


def test_a_percentile_lies_between_the_values_beside_it() -> None:
    assert slow.percentile([1.0, 2.0, 3.0], 50) == 2.0
    assert slow.percentile([1.0, 3.0], 75) == 2.5


def test_an_unknown_scenario_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["jobs"]) == 1
    assert "there is no scenario jobs" in capsys.readouterr().err
