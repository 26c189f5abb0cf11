"""Calls to a destination, until each effect has a result that can be concluded (PROTOCOL.md 5).

Promises: an unknown outcome is repeated up to 3 times and stays unknown whatever the repeats are
answered, except success. An effect that may have happened before (its unit was taken along) is
refused only after a read-back said that it is not there. A call that is refused as a whole is cut
in halves down to the contact; if every contact is refused alike, it is the configuration. Nothing
is stored here, and the lease is asked before each call by the destination's gate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import msgspec

from libs.common import logs
from libs.common.errors import (
    LeaseLostError,
    MisconfiguredError,
    NeedsReauthError,
    RateLimitedError,
    RequestRefusedError,
    SyncError,
    UnavailableError,
    UnknownOutcomeError,
)
from libs.common.reasons import Park, Reject
from libs.connectors.contract import (
    Destination,
    Missing,
    NotTried,
    Outcome,
    Records,
    Refused,
    RemoteContact,
    Taken,
    Unknown,
    Write,
    WriteReport,
    Written,
)
from services.writer.conclude import AddressTaken, Done, Doubt, NotSent, Refusal, Result
from services.writer.values import ContactId, Kind, Task, Unit

TRIES_MAX = 3

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a destination takes nothing more for now; `seconds` as the provider asked, or None."""

    reason: str
    seconds: float | None = None
    code: str = ""


def stop_of(error: BaseException) -> Stop:
    """Return what an error of a call means for everything else at the destination."""
    match error:
        case RateLimitedError():
            return Stop(Park.RATE_LIMITED, error.retry_after_s)
        case NeedsReauthError():
            return Stop(Park.NEEDS_REAUTH, code=error.reason)
        case MisconfiguredError():
            is_full = error.what == Park.CONTACT_LIMIT
            return Stop(Park.CONTACT_LIMIT if is_full else Park.CONFIGURATION, code=error.what)
        case RequestRefusedError():
            return Stop(Park.CONFIGURATION, code=error.code)
        case UnavailableError():
            return Stop(Park.DESTINATION_DOWN, error.retry_after_s)
        case UnknownOutcomeError():
            return Stop(Park.DESTINATION_DOWN)
        case _:
            raise error


@dataclass(slots=True)
class Answers:
    """What came of a batch of calls; `stop` is what ended them early, if something did."""

    results: dict[ContactId, Result] = field(default_factory=dict)
    stop: Stop | None = None
    has_answered: bool = False  # The destination took at least one effect, or refused it by name.


class Caller:
    """Writes the effects of one turn; `units` of one integration at a time.

    `sent` are the contacts that a call may have reached, also when a lost lease ended everything.
    """

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self.sent: set[ContactId] = set()
        self._doubted: set[ContactId] = set()

    async def write(self, units: Sequence[Unit], answers: Answers) -> None:
        """Write effects and add their results; what was not sent is `NotSent`."""
        self._doubted |= {unit.task.contact for unit in units if unit.is_doubtful}
        pending = [unit.task for unit in units]
        for _ in range(TRIES_MAX):
            pending = await self._once(pending, answers)
            if not pending or answers.stop is not None:
                break
        if pending and answers.stop is None:
            answers.stop = Stop(Park.DESTINATION_DOWN)
        for task in pending:
            answers.results[task.contact] = self._not_sent(task, answers)

    async def _once(self, tasks: list[Task], answers: Answers) -> list[Task]:
        """Try each effect once; return those to be tried again: held up by one, or unknown.

        Unknown ones come last: a contact whose answer is lost every time holds nobody up.
        """
        again: list[Task] = []
        lost: list[Task] = []
        anew: list[Task] = []
        for task, outcome in await self._bisected(tasks, answers):
            match outcome:
                case Written(warning):
                    answers.has_answered = True
                    answers.results[task.contact] = Done(warning)
                case Unknown():
                    self._doubted.add(task.contact)
                    lost.append(task)
                case NotTried() if answers.stop is None:
                    again.append(task)
                case Missing() if _may_be_created(task):
                    anew.append(task.anew())
                case _:
                    await self._settle(task, outcome, answers)
        if anew and answers.stop is None:
            again += await self._once(anew, answers)
        else:
            again += anew
        return again + lost

    async def _settle(self, task: Task, outcome: Outcome, answers: Answers) -> None:
        if isinstance(outcome, NotTried):
            answers.results[task.contact] = self._not_sent(task, answers)
            return
        answers.has_answered = True
        if task.contact in self._doubted:
            # Its first try may have been the one that made the address taken or the id known.
            answers.results[task.contact] = await self._by_reading(task, outcome, answers)
        else:
            answers.results[task.contact] = _result_of(task, outcome)

    def _not_sent(self, task: Task, answers: Answers) -> Result:
        if task.contact in self._doubted:
            return Doubt()
        return NotSent(answers.stop.reason if answers.stop else Park.DESTINATION_DOWN)

    async def _by_reading(self, task: Task, outcome: Outcome, answers: Answers) -> Result:
        try:
            (happened,) = await look_at(self._destination, [task])
        except SyncError as error:
            answers.stop = stop_of(error)
            return Doubt()
        if happened:
            return Done()
        return _result_of(task, outcome)

    async def _bisected(self, tasks: list[Task], answers: Answers) -> list[tuple[Task, Outcome]]:
        """Return an outcome for each effect, after cutting what is refused as a whole."""
        refused: list[tuple[Task, RequestRefusedError]] = []
        found: list[tuple[Task, Outcome]] = []
        groups = [tasks]
        while groups:
            group = groups.pop(0)
            if answers.stop is not None:
                found += [(task, NotTried()) for task in group]
                continue
            report = await self._report(group)
            rest = self._sort(group, report, found, answers)
            if not isinstance(report.stopped_by, RequestRefusedError):
                found += [(task, NotTried()) for task in rest]
            elif len(rest) > 1:
                middle = len(rest) // 2
                groups[:0] = [rest[:middle], rest[middle:]]
            else:
                refused += [(task, report.stopped_by) for task in rest]
        return found + _alike(refused, found, answers)

    def _sort(
        self,
        group: list[Task],
        report: WriteReport,
        found: list[tuple[Task, Outcome]],
        answers: Answers,
    ) -> list[Task]:
        """Keep the outcomes that are known; return the effects that were not tried."""
        rest: list[Task] = []
        for task, outcome in zip(group, report.outcomes, strict=True):
            if isinstance(outcome, NotTried):
                rest.append(task)
            else:
                self.sent.add(task.contact)
                found.append((task, outcome))
        error = report.stopped_by
        # A lost answer holds the others up, and no more: all are tried again.
        if error is not None and not isinstance(error, RequestRefusedError | UnknownOutcomeError):
            answers.stop = stop_of(error)
        return rest

    async def _report(self, tasks: list[Task]) -> WriteReport:
        try:
            return await self._destination.write([task.write() for task in tasks])
        except LeaseLostError:
            self.sent |= {task.contact for task in tasks}
            raise
        except UnknownOutcomeError as error:
            return WriteReport([Unknown()] * len(tasks), stopped_by=error)
        except SyncError as error:
            return WriteReport([NotTried()] * len(tasks), stopped_by=error)


def _alike(
    refused: list[tuple[Task, RequestRefusedError]],
    found: list[tuple[Task, Outcome]],
    answers: Answers,
) -> list[tuple[Task, Outcome]]:
    """Return what contacts mean that were refused singly.

    Where nothing at all was taken and every refusal is the same, the contacts are not to blame.
    """
    if not refused:
        return []
    codes = {(error.status, error.code) for _, error in refused}
    if len(codes) == 1 and not any(isinstance(outcome, Written) for _, outcome in found):
        answers.stop = stop_of(refused[0][1])
        return [(task, NotTried()) for task, _ in refused]
    return [(task, Refused(Reject.VALUE_NOT_ACCEPTED)) for task, _ in refused]


def _may_be_created(task: Task) -> bool:
    """Return whether somebody who is missing is created: not who was deleted on the other side."""
    return task.known_as is not None and task.kind is not Kind.LEAVE and not task.is_paired


def _result_of(task: Task, outcome: Outcome) -> Result:
    match outcome:
        case Refused(reason):
            return Refusal(reason)
        case Taken():
            return AddressTaken() if task.kind is Kind.MOVE else Refusal(Reject.VALUE_NOT_ACCEPTED)
        case Missing() if task.kind is Kind.LEAVE:
            return Done()  # Gone from the account is off the list.
        case _:
            # Missing although it was to be created: the provider contradicts itself.
            return NotSent(Park.DESTINATION_DOWN)


async def look_at(destination: Destination, tasks: Sequence[Task]) -> list[bool]:
    """Return for each effect whether the destination holds it now, in order.

    A move has happened only if nobody is at the old address any more: at the new one there may
    have been somebody else all the time, who looks the same.
    """
    if any(task.record is not None for task in tasks):
        return await _look_at_records(destination, tasks)
    moves = [(task, task.known_as) for task in tasks if task.kind is Kind.MOVE]
    old = [(task.contact, known) for task, known in moves if known is not None]
    identities = [*(task.identity for task in tasks), *(known for _, known in old)]
    remotes = await destination.read_back(identities)
    unmoved = {
        contact
        for (contact, _), remote in zip(old, remotes[len(tasks) :], strict=True)
        if remote is not None
    }
    return [
        task.contact not in unmoved and has_happened(destination, task, remote)
        for task, remote in zip(tasks, remotes, strict=False)
    ]


async def _look_at_records(destination: Destination, tasks: Sequence[Task]) -> list[bool]:
    """Return the same of effects for records, which have no address; others as ever."""
    records = cast("Records", destination)
    happened: dict[ContactId, bool] = {}
    by_id = [task for task in tasks if task.record is not None]
    for integration in dict.fromkeys(task.integration for task in by_id):
        own = [task for task in by_id if task.integration == integration]
        names = {name for task in own for name in msgspec.json.decode(task.attributes)}
        remotes = await records.read_records([str(task.record) for task in own], sorted(names))
        happened |= {
            task.contact: remote is None
            if task.kind is Kind.LEAVE
            else remote is not None and destination.matches(remote, task.write())
            for task, remote in zip(own, remotes, strict=True)
        }
    others = [task for task in tasks if task.record is None]
    if others:
        stands = await look_at(destination, others)
        happened |= dict(zip([task.contact for task in others], stands, strict=True))
    return [happened[task.contact] for task in tasks]


def has_happened(destination: Destination, task: Task, remote: RemoteContact | None) -> bool:
    """Return whether a contact, as it stands at the destination, holds an effect."""
    if task.kind is Kind.LEAVE:
        return remote is None or task.list_id not in remote.list_ids
    return remote is not None and has_joined(destination, task.write(), remote)


def has_joined(destination: Destination, write: Write, remote: RemoteContact) -> bool:
    """Return whether a contact, as it stands, holds an upsert: on the list if it was to join."""
    if write.join_list and write.list_id not in remote.list_ids:
        return False
    return destination.matches(remote, write)
