"""What a test does to a poller that must not say farewell."""

from collections.abc import Callable, Sequence

from services.poller.plan import Assignment, Sweeping
from services.poller.poll import Run


class KilledError(RuntimeError):
    """What a test does to a poller."""


async def killed_when(
    run: Run, happened: Callable[[], bool], *, after_member: str | None = None
) -> None:
    """Let a run live until something has happened, then end it as a kill would: no farewell."""
    store = run._store
    advance = store.advance

    async def dying(assignment: Assignment, sweeping: Sweeping, **who: Sequence[str]) -> object:
        if after_member is None and happened():
            raise KilledError
        answer = await advance(assignment, sweeping, **who)
        if after_member is not None and after_member in who["present"]:
            raise KilledError
        return answer

    store.advance = dying  # type: ignore[assignment,method-assign]  # a kill, not a behaviour
    await run.poll()


async def killed_at_the_end(run: Run) -> None:
    """Let a run tell of everything but its end, then end it as a kill would."""

    async def dying(assignment: Assignment) -> None:
        raise KilledError

    run._store.check_lease = dying  # type: ignore[method-assign]  # a kill, not a behaviour
    await run.poll()
