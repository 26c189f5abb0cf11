"""One call of `write`: look at every contact, then hand in one import for all that need it.

Order of effects: the lists are looked for, everybody is looked at, contacts are deleted and moved,
rows are imported, and whoever was new is read back. What was only looked at when something stops
the call is untouched; a contact that was moved or handed in, and not seen to be there, is Unknown.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from libs.common.errors import (
    MisconfiguredError,
    RequestRefusedError,
    SyncError,
    UnknownOutcomeError,
)
from libs.common.events import Operation
from libs.common.reasons import Reject
from libs.connectors.activecampaign import facts, payload
from libs.connectors.activecampaign.calls import Calls
from libs.connectors.activecampaign.importing import Importer, chunks_of
from libs.connectors.activecampaign.payload import CustomFields, ImportInfo, Row, Sighting
from libs.connectors.activecampaign.reading import Reader
from libs.connectors.activecampaign.refusals import Fault, fault_of
from libs.connectors.contract import (
    Missing,
    NotTried,
    Outcome,
    Refused,
    Taken,
    Unknown,
    Write,
    WriteReport,
    Written,
)
from libs.connectors.http import Answer

# Looks of one account at a time; the gate holds the rate.
_TOGETHER = 4


@dataclass(frozen=True, slots=True)
class Remove:
    """The contact with this id is deleted."""

    contact_id: str


@dataclass(frozen=True, slots=True)
class Move:
    """The contact with this id takes another address; its other values follow by a row."""

    contact_id: str
    row: Row


@dataclass(frozen=True, slots=True)
class Send:
    """A row for the importer."""

    row: Row
    is_new: bool = False


Step = Outcome | Remove | Move | Send


@dataclass(slots=True)
class _Handed:
    """A row on its way, and whose it is."""

    place: int
    write: Write
    row: Row
    is_new: bool

    @property
    def email(self) -> str:
        return self.row.email.lower()


def decide(write: Write, sighting: Sighting | None, fields: CustomFields) -> Step:
    """Return what a write takes to be done for a contact as it was seen; None: it is not there."""
    match write.op:
        case Operation.DELETE:
            return Written() if sighting is None else Remove(sighting.id)
        case Operation.LEAVE:
            return _leaving(write, sighting)
        case _ if sighting is None and write.known_as is not None:
            return Missing()
        case _:
            return _upserting(write, sighting, fields)


def _leaving(write: Write, sighting: Sighting | None) -> Step:
    if sighting is None or write.list_id not in sighting.remote.list_ids:
        return Written()
    return Send(payload.leaving(sighting.remote.identity.email or "", write.list_id))


def _upserting(write: Write, sighting: Sighting | None, fields: CustomFields) -> Step:
    if write.identity.email is None and sighting is not None:
        # The address is gone at the source; here a contact cannot be without one.
        write = replace(write, identity=sighting.remote.identity)
    email = write.identity.email
    if email is None:
        return Refused(Reject.NO_IDENTITY)
    if not payload.is_address(email):
        return Refused(Reject.INVALID_EMAIL)
    if sighting is None:
        row = payload.row_of(write, fields, subscribes=write.join_list, is_new=True)
        return Send(row, is_new=True)
    subscribes = write.join_list and sighting.may_join(write.list_id)
    row = payload.row_of(write, fields, subscribes=subscribes)
    if (sighting.remote.identity.email or "").lower() != email.lower():
        return Move(sighting.id, row)
    return Written() if holds(sighting, write) else Send(row)


def holds(sighting: Sighting, write: Write) -> bool:
    """Return whether a contact that is there holds what an upsert wants."""
    if write.join_list and sighting.may_join(write.list_id):
        return False
    there = sighting.remote.attributes
    return all(
        name == payload.EMAIL or payload.same(value, there.get(name))
        for name, value in payload.attributes_of(write.attributes).items()
    )


class Writing:
    """What is done for whom, and what came of it."""

    def __init__(
        self, calls: Calls, reader: Reader, importer: Importer, writes: Sequence[Write]
    ) -> None:
        self._calls = calls
        self._reader = reader
        self._importer = importer
        self._writes = writes
        self._outcomes: list[Outcome] = [NotTried()] * len(writes)
        self._rows: list[_Handed] = []
        self._stopped_by: SyncError | None = None

    async def run(self) -> WriteReport:
        """Do all of it; what stops it is in the report."""
        try:
            fields = await self._prepared()
            steps = await self._looked(fields)
            for place, step in enumerate(steps):
                await self._take(place, step)
            await self._import()
        except SyncError as error:
            return WriteReport(self._outcomes, error)
        return WriteReport(self._outcomes, self._stopped_by)

    async def _prepared(self) -> CustomFields:
        """Make sure that lists and attributes are there; return the custom fields."""
        for list_id in {write.list_id for write in self._writes if write.join_list}:
            await self._reader.check_list(list_id)
        upserts = [write for write in self._writes if write.op is Operation.UPSERT]
        names = {name for write in upserts for name in payload.attributes_of(write.attributes)}
        return await self._reader.fields(names)

    async def _looked(self, fields: CustomFields) -> Sequence[Step]:
        """Look at every contact; return what is to be done for each."""
        steps: list[Step] = [NotTried()] * len(self._writes)
        errors: list[SyncError] = []
        waiting = iter(enumerate(self._writes))

        async def work() -> None:
            for place, write in waiting:
                try:
                    steps[place] = decide(write, await self._sighting(write), fields)
                except SyncError as error:
                    errors.append(error)
                if errors:
                    return

        workers = min(_TOGETHER, len(self._writes))
        await asyncio.gather(*(work() for _ in range(workers)))
        if errors:
            raise errors[0]
        return steps

    async def _sighting(self, write: Write) -> Sighting | None:
        email = (write.known_as or write.identity).email
        if email is None or not payload.is_address(email):
            return None
        return await self._reader.find(email)

    async def _take(self, place: int, step: Step) -> None:
        """Do what goes singly; gather the rows of the others."""
        match step:
            case Remove():
                await self._remove(place, step)
            case Move():
                await self._move(place, step)
            case Send():
                self._gather(place, step.row, is_new=step.is_new)
            case _:
                self._outcomes[place] = step

    async def _remove(self, place: int, step: Remove) -> None:
        await self._single(place, "DELETE", step.contact_id, None, expect=(404,))
        self._outcomes[place] = Written()

    async def _move(self, place: int, step: Move) -> None:
        """Give a contact another address: the one change that no import can make.

        Nothing else is in the call, which cannot be told to be silent.
        """
        email = step.row.email
        if await self._reader.find(email) is not None:
            self._outcomes[place] = Taken()
            return
        body = msgspec.json.encode({"contact": {"email": email}})
        answer = await self._single(place, "PUT", step.contact_id, body, expect=(400, 404, 422))
        if answer.status < 300:
            self._outcomes[place] = Unknown()  # It has moved, and its values have yet to follow.
            self._gather(place, step.row, is_new=False)
        elif answer.status == 404:
            self._outcomes[place] = Missing()
        else:
            is_taken = fault_of(answer.body).is_duplicate
            self._outcomes[place] = Taken() if is_taken else Refused(Reject.INVALID_EMAIL)

    async def _single(
        self,
        place: int,
        method: str,
        contact_id: str,
        body: bytes | None,
        *,
        expect: tuple[int, ...],
    ) -> Answer:
        path = f"/contacts/{quote(contact_id)}"
        try:
            answer = await self._calls.call(
                facts.API, method, path, body, writes=True, expect=expect
            )
            if method == "PUT" and answer.status < 300:
                answer.decode(payload.CONTACT)  # Without the contact it is no success.
        except UnknownOutcomeError:
            self._outcomes[place] = Unknown()
            raise
        return answer

    def _gather(self, place: int, row: Row, *, is_new: bool) -> None:
        self._rows.append(_Handed(place, self._writes[place], row, is_new))

    async def _import(self) -> None:
        """Import what was gathered: those who are there first, for them there is always room."""
        rows = sorted(self._rows, key=lambda each: each.is_new)
        for chunk in chunks_of([each.row for each in rows]):
            await self._hand_in(rows[chunk])
            if self._stopped_by is not None:
                return

    async def _hand_in(self, handed: Sequence[_Handed]) -> None:
        """Hand in rows and wait for their end; those that the importer refuses are left out."""
        if not handed:
            return
        try:
            queued = await self._importer.start([each.row for each in handed])
        except UnknownOutcomeError:
            self._settle(handed, Unknown())
            raise
        if isinstance(queued, Fault):
            await self._hand_in(self._accepted(handed, queued))
            return
        # From here on they may be there, whatever stops us.
        self._settle(handed, Unknown())
        info = await self._importer.wait(queued.batch_id)
        await self._conclude(handed, info)
        told = len(handed) if queued.queued_contacts is None else queued.queued_contacts
        failed = [each for each in handed if each.email in info.failed]
        await self._judge(failed, skipped=len(handed) - told)

    def _accepted(self, handed: Sequence[_Handed], fault: Fault) -> Sequence[_Handed]:
        """Settle the rows that the importer names; return the others."""
        refused = {at: why for at, why in fault.refused_rows.items() if 0 <= at < len(handed)}
        if not refused:
            raise RequestRefusedError(self._calls.host, 400, fault.code or "import_refused")
        for at, reason in refused.items():
            self._settle([handed[at]], Refused(reason))
        return [each for at, each in enumerate(handed) if at not in refused]

    async def _conclude(self, handed: Sequence[_Handed], info: ImportInfo) -> None:
        """Settle the rows that have arrived: an import that says so is looked after."""
        seen = {
            (each.remote.identity.email or "").lower(): each
            for each in await self._reader.with_ids(info.ids)
        }
        for each in handed:
            if each.email in info.failed:
                continue
            sighting = seen.get(each.email) or await self._reader.find(each.email)
            is_told = each.email in seen
            if sighting is not None and has_arrived(each.row, each.write, sighting, is_told):
                self._settle([each], Written())
            else:
                self._stopped_by = UnknownOutcomeError(self._calls.host, "import not applied")

    async def _judge(self, failed: Sequence[_Handed], *, skipped: int) -> None:
        """Settle the rows that failed. The importer tells which, and never why.

        One who is there has left a list meanwhile, or is somebody that the account does not want.
        A new one is on the exclusion list, or there is no room (AC6): those on the list are
        already missing from the rows that were queued. Where both may be, halves are tried.
        """
        for each in failed:
            if not each.is_new:
                await self._judge_known(each)
        new = [each for each in failed if each.is_new]
        if not new:
            return
        if len(failed) <= skipped:
            self._settle(new, Refused(Reject.NOT_A_TASK_TARGET))
        elif skipped <= 0:
            self._settle(new, NotTried())
            self._stopped_by = MisconfiguredError(self._calls.host, "contact_limit")
        else:
            middle = (len(new) + 1) // 2
            await self._hand_in(new[:middle])
            await self._hand_in(new[middle:])

    async def _judge_known(self, each: _Handed) -> None:
        sighting = await self._reader.find(each.email)
        has_left = sighting is not None and not sighting.may_join(each.write.list_id)
        if each.row.subscribe and has_left:
            await self._hand_in([_without_list(each)])
        else:
            self._settle([each], Refused(Reject.NOT_A_TASK_TARGET))

    def _settle(self, handed: Sequence[_Handed], outcome: Outcome) -> None:
        for each in handed:
            self._outcomes[each.place] = outcome


def has_arrived(row: Row, write: Write, sighting: Sighting, is_told: bool) -> bool:
    """Return whether a row's contact stands as it should.

    If the importer names the contact, its values are what ActiveCampaign made of ours.
    """
    remote = sighting.remote
    if row.unsubscribe:
        return write.list_id not in remote.list_ids
    if row.subscribe and write.list_id not in remote.list_ids:
        return False
    return is_told or holds(sighting, write)


def _without_list(handed: _Handed) -> _Handed:
    row = replace(handed.row, subscribe=())
    return _Handed(handed.place, handed.write, row, handed.is_new)
