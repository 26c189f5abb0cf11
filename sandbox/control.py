"""The control interface under /_sandbox/: what tests and demos do to a provider from outside.

This is the part that all providers share: accounts, faults, limits, settings, the clock, calls and
writes. What is about contacts and lists is each provider's own (`Provider.control`). Every call
takes `?account=<id>`; without it the default account is meant. A call that cannot be carried out
is answered 400 `{"error": …}`, which says why.
"""

import random
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from sandbox.exchange import Answer, Request, RequestBodyError, Routes
from sandbox.faults import FaultPlan
from sandbox.limits import SlidingWindow
from sandbox.provider import Account, ControlError, Provider

A = TypeVar("A", bound=Account)


def answer(provider: Provider[A], shared: Routes[A], request: Request) -> Answer:
    """Answer one control call."""
    found = provider.control.find(request.method, request.path) or shared.find(
        request.method, request.path
    )
    if found is None:
        return Answer(404, {"error": f"there is no {request.method} {request.path}"})
    route, arguments = found
    fields = {name: getattr(request, name) for name in request.__dataclass_fields__}
    try:
        account = _account(provider, request)
        return route.handler(account, Request(**{**fields, "arguments": arguments}))
    except (ControlError, RequestBodyError) as error:
        return Answer(400, {"error": str(error)})


def wishes(request: Request) -> dict[str, Any]:
    """Return the JSON object that a control call carries; no body is an empty one."""
    if not request.body:
        return {}
    if not isinstance(request.json, dict):
        message = "the body must be a JSON object"
        raise ControlError(message)
    return request.json


T = TypeVar("T")


def parsed(request: Request, kind: type[T]) -> T:
    """Return the body of a control call as a struct; raises `ControlError` naming what is wrong."""
    try:
        return msgspec.convert(request.json if request.body else {}, kind)
    except msgspec.ValidationError as error:
        raise ControlError(str(error)) from error


def drawn(everyone: Sequence[T], count: int | None, share: float | None, seed: int) -> list[T]:
    """Return some, so many or such a share of them, drawn by a seed, in their order."""
    if (count is None) == (share is None):
        message = "pass one of count and share"
        raise ControlError(message)
    number = count if count is not None else round(len(everyone) * (share or 0))
    if not 0 <= number <= len(everyone):
        message = f"there are only {len(everyone)} contacts to choose {number} from"
        raise ControlError(message)
    chosen = sorted(random.Random(seed).sample(range(len(everyone)), number))
    return [everyone[index] for index in chosen]


def routes(provider: Provider[A]) -> Routes[A]:
    """Return the shared control calls of a provider."""
    table: Routes[A] = Routes()
    _about_the_whole(table, provider)
    _about_calls(table)
    _about_conditions(table, provider)
    return table


def _account(provider: Provider[A], request: Request) -> A:
    wanted = request.parameter("account")
    if not wanted:
        return provider.default
    if wanted not in provider.accounts:
        message = f"there is no account {wanted}; there are: {', '.join(provider.accounts)}"
        raise ControlError(message)
    return provider.accounts[wanted]


def _about_the_whole(table: Routes[A], provider: Provider[A]) -> None:
    @table.add("POST", "/_sandbox/reset")
    def reset(account: A, request: Request) -> Answer:
        seed = wishes(request).get("seed", 1)
        if not isinstance(seed, int):
            message = "seed must be a whole number"
            raise ControlError(message)
        provider.reset(seed)
        return Answer(200, {"seed": seed})

    @table.add("GET", "/_sandbox/accounts")
    def accounts(account: A, request: Request) -> Answer:
        every = [{"account": each.id, "name": each.name} for each in provider.accounts.values()]
        return Answer(200, {"accounts": every})

    @table.add("POST", "/_sandbox/accounts")
    def open_account(account: A, request: Request) -> Answer:
        opened, credentials = provider.open_account(wishes(request))
        return Answer(201, {"account": opened.id, "name": opened.name, **credentials})


def _about_calls(table: Routes[A]) -> None:
    @table.add("GET", "/_sandbox/calls")
    def calls(account: A, request: Request) -> Answer:
        return Answer(200, {**account.calls.report(), "writes": len(account.writes)})

    @table.add("POST", "/_sandbox/calls:reset")
    def reset_calls(account: A, request: Request) -> Answer:
        account.calls.reset()
        return Answer(204)

    @table.add("GET", "/_sandbox/limits")
    def used(account: A, request: Request) -> Answer:
        limits = account.limits
        return Answer(200, {"enabled": limits.enabled, "buckets": limits.report()})

    @table.add("GET", "/_sandbox/writes")
    def writes(account: A, request: Request) -> Answer:
        after = request.parameter("after", "0")
        if not (after.isascii() and after.isdigit()):
            message = "after must be the seq of a write, or 0"
            raise ControlError(message)
        return Answer(200, {"writes": account.writes.after(int(after))})


def _about_conditions(table: Routes[A], provider: Provider[A]) -> None:
    @table.add("GET", "/_sandbox/faults")
    def faults(account: A, request: Request) -> Answer:
        return Answer(200, account.faults.report())

    @table.add("PUT", "/_sandbox/faults")
    def plan_faults(account: A, request: Request) -> Answer:
        try:
            account.faults.plan(parsed(request, list[FaultPlan]))
        except ValueError as error:
            raise ControlError(str(error)) from error
        return Answer(200, account.faults.report())

    @table.add("DELETE", "/_sandbox/faults")
    def clear_faults(account: A, request: Request) -> Answer:
        account.faults.clear()
        return Answer(204)

    @table.add("PUT", "/_sandbox/limits")
    def limits(account: A, request: Request) -> Answer:
        set_limits(account, wishes(request))
        return Answer(200, {"enabled": account.limits.enabled, "buckets": account.limits.names})

    @table.add("PUT", "/_sandbox/settings")
    def settings(account: A, request: Request) -> Answer:
        kind = type(account.settings)
        merged = {**msgspec.to_builtins(account.settings), **wishes(request)}
        try:
            account.settings = msgspec.convert(merged, kind)
        except msgspec.ValidationError as error:
            raise ControlError(str(error)) from error
        return Answer(200, account.settings)

    @table.add("PUT", "/_sandbox/clock")
    def move_clock(account: A, request: Request) -> Answer:
        seconds = wishes(request).get("advance_s")
        if not isinstance(seconds, int | float):
            message = "advance_s must be a number of seconds"
            raise ControlError(message)
        provider.clock.move(seconds)
        return Answer(200, {"now": provider.clock.now().isoformat()})


def set_limits(account: Account, changes: dict[str, Any]) -> None:
    """Change limits: `enabled`, a bucket's window, or what the provider understands."""
    rest = account.set_limits(changes)
    enabled = rest.pop("enabled", account.limits.enabled)
    if not isinstance(enabled, bool):
        message = "enabled must be true or false"
        raise ControlError(message)
    for bucket, window in rest.items():
        if bucket not in account.limits.names:
            message = f"there is no bucket {bucket}; there are: {', '.join(account.limits.names)}"
            raise ControlError(message)
        account.limits.replace(bucket, [_window(bucket, window)])
    account.limits.enabled = enabled


def _window(bucket: str, window: object) -> SlidingWindow:
    match window:
        case {"limit": int(limit), "window_s": int() | float() as window_s} if window_s > 0:
            return SlidingWindow(limit, window_s)
        case _:
            message = f'{bucket} must be {{"limit": calls, "window_s": seconds}}'
            raise ControlError(message)
