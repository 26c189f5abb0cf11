"""Decide what an error while reading means for the integration: when to come back, whom to tell.

Pure. Retrying lives in the schedule and nowhere below it (STYLE 2.5): nothing here waits.
"""

from dataclasses import dataclass

from libs.common.backoff import ASKED_MAX_S
from libs.common.errors import (
    ConfigurationError,
    MisconfiguredError,
    NeedsReauthError,
    PositionLostError,
    RateLimitedError,
    RequestRefusedError,
    TransientError,
)

BACKOFF_FIRST_S = 10.0  # PROTOCOL.md 7: 10 s doubling to 15 min.
BACKOFF_MOST_S = 900.0
DOUBLINGS_MAX = 10
# Somebody has to act: asking every few minutes would only use up the account's calls.
PATIENCE_MOST_S = 6 * 3_600.0
# What the source is to blame for; a destination's trouble is the writer's to report and to end.
SOURCE_TROUBLE = "source_"

NEEDS_REAUTH = "needs_reauth"


@dataclass(frozen=True, slots=True)
class Setback:
    """What follows from an error.

    `retry_after_s` is when to try again. `counts` says that it makes the next wait longer.
    `report` is the trouble a person must hear of; `failed_check` the credentials that were refused
    (three of them in a row make the connection `needs_reauth`). `ends_run`: nothing of this run can
    be gone on with. `forgets_position`: the next run reads everything.
    """

    code: str
    retry_after_s: float
    counts: bool = True
    report: str | None = None
    failed_check: str | None = None
    ends_run: bool = False
    forgets_position: bool = False


def judge(
    error: TransientError | ConfigurationError, *, failures: int, interval_s: float, share: float
) -> Setback:
    """Return what an error means; `share` (0 to 1) is drawn by the caller, to spread the crowd."""
    match error:
        case RateLimitedError():
            # Not a failure: the provider, or our own budget, says when. A day at most.
            wait_s = min(error.retry_after_s or BACKOFF_FIRST_S, ASKED_MAX_S)
            return Setback("rate_limited", wait_s + share, counts=False)
        case PositionLostError():
            # Nothing is wrong: the run that reads everything instead may begin at once.
            return Setback("position_lost", 0.0, counts=False, forgets_position=True)
        case NeedsReauthError():
            return Setback(
                NEEDS_REAUTH, _backoff_s(failures, share), failed_check=str(error.reason)
            )
        case MisconfiguredError():
            return _misconfigured(error.what, failures, interval_s)
        case TransientError():
            asked_s = min(error.retry_after_s or 0.0, ASKED_MAX_S)
            return Setback("source_down", max(asked_s, _backoff_s(failures, share)))
        case _:
            is_refused = isinstance(error, RequestRefusedError)
            what = "request_refused" if is_refused else "configuration"
            return _misconfigured(what, failures, interval_s)


def _misconfigured(what: str, failures: int, interval_s: float) -> Setback:
    wait_s = interval_s * 2.0 ** min(failures, DOUBLINGS_MAX)
    return Setback(
        what,
        min(wait_s, max(PATIENCE_MOST_S, interval_s)),
        report=f"{SOURCE_TROUBLE}{what}",
        ends_run=True,
    )


def _backoff_s(failures: int, share: float) -> float:
    highest = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2.0 ** min(failures, DOUBLINGS_MAX))
    # Half of it fixed, so that the third failed check is not half a second after the first.
    return highest * (1 + share) / 2
