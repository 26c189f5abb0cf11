"""Read contacts or leads of a Salesforce organisation, all of them or those of a campaign.

Every page is a query of its own that starts behind the last record: in the order of ids, which no
edit changes; all that changed in a window in the order of (SystemModstamp, Id), so that any number
of records may have one second. A record that is edited meanwhile moves on in its window or into the
next one. Being in a campaign is a condition of the query, a join; whether Salesforce takes one
beside an OR is not documented, so what changed in a campaign is read in the order of ids as well.

Whoever is deleted stays in the recycle bin for 15 days, where `queryAll` finds it: a sweep of
changes tells of them (`Page.gone`), and of leads that became contacts. Who was merged into another
names that one there, and is told of with it (`merged_from`).

Salesforce's times are whole seconds; a window is asked for by whole seconds and compared once more.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import TypeVar

import msgspec

from libs.common.errors import MisconfiguredError, SyncError
from libs.common.events import Change
from libs.connectors.contract import (
    Account,
    ContactList,
    Cursor,
    Facts,
    Field,
    Gate,
    MemberPage,
    Onward,
    Page,
    Sweep,
    TokenSupply,
    alone,
)
from libs.connectors.http import UNUSABLE, HttpClient, lost
from libs.connectors.salesforce import facts, payload, soql
from libs.connectors.salesforce.calls import Calls
from libs.connectors.salesforce.facts import Kind
from libs.connectors.salesforce.payload import Identified, Record
from libs.connectors.salesforce.soql import ID, MASTER, STAMP

T = TypeVar("T")

_IN_BIN = "IsDeleted = true"
_MERGED = f"{MASTER} != null"
# A merge of a merge of a merge: each look follows them one further.
_MERGES_MAX = 5


class SalesforceSource:
    """A Salesforce organisation that contacts or leads are read from."""

    facts: Facts = facts.FACTS

    def __init__(
        self,
        http: HttpClient,
        gate: Gate,
        tokens: TokenSupply,
        base_url: str,
        account: Account | None = None,
    ) -> None:
        self._calls = Calls(http, gate, tokens, base_url)

    async def check(self) -> Account:
        """Return whose account this is; raise the reason if it cannot be read.

        A query, which an organisation without its API refuses (SF2). Its limit is of the last 24
        hours, so the day begins nowhere: in UTC as well as anywhere.
        """
        fields = (ID, "Name", "OrganizationType")
        answer = await self._calls.query(soql.select(fields, "Organization", limit=1))
        found = answer.decode(payload.ORGANIZATIONS).records
        if not found:
            raise lost(self._calls.host, "organisation without a name", writes=False)
        return Account(
            id=found[0].id,
            name=f"Salesforce {found[0].name or found[0].id}",
            time_zone="UTC",
            tier=_known_tier(payload.tier_of(found[0])),
        )

    async def describe_fields(self, object_name: str) -> Sequence[Field]:
        """Return every field that the person may see, those not offered with the reason."""
        path = f"/sobjects/{facts.KINDS[object_name].sobject}/describe"
        answer = await self._calls.call("GET", path)
        return [payload.field_of(each) for each in answer.decode(payload.DESCRIBED).fields]

    async def find_lists(self, object_name: str) -> Sequence[ContactList]:
        """Return every campaign."""
        found: list[ContactList] = []
        fields = (ID, "Name", "NumberOfContacts", "NumberOfLeads")
        after: str | None = None
        while True:
            query = soql.select(fields, "Campaign", [soql.after_id(after)])
            page = (await self._calls.query(query)).decode(payload.CAMPAIGNS)
            found += [payload.list_of(each, object_name) for each in page.records]
            if self._ends(len(page.records), done=page.done):
                return found
            after = page.records[-1].id

    async def find_list(self, object_name: str, list_id: str) -> ContactList:
        """Return a campaign with fresh counts; raise MisconfiguredError(list_missing) if gone.

        Its size is counted: Salesforce's own numbers are of converted leads too. With the time of
        the newest member it changes whenever somebody joins or leaves.
        """
        campaign = await self._campaign(list_id)
        kind = facts.KINDS[object_name]
        size = await self._count(kind, [soql.members_of(kind, list_id)])
        return ContactList(
            campaign.id, campaign.name, size, await self._newest_member(kind, list_id)
        )

    async def count(self, sweep: Sweep) -> int | None:
        """Return the number of records that a sweep would read."""
        kind = facts.KINDS[sweep.object]
        number = await self._count(
            kind, [soql.members_of(kind, sweep.list_id), soql.window_of(sweep)]
        )
        if not number and sweep.list_id is not None:
            await self._campaign(sweep.list_id)  # One that is gone has no members, and no end.
        return number

    async def read_page(self, sweep: Sweep, after: Cursor | None, onward: Onward = alone) -> Page:
        """Return a page of a sweep; every record that matches is on at least one page."""
        page = await self._read(self._page_query(sweep, after))
        records = [self._record(each) for each in page.records]
        following = self._following(sweep, page, records)
        await onward(following)
        if not records and sweep.list_id is not None:
            await self._campaign(sweep.list_id)
        survivors, gone = await self._look_into_bin(sweep, is_last=following is None)
        merged = payload.merged_into(survivors)
        changes = [self._change(each, merged) for each in page.records]
        return Page([each for each in changes if _is_within(sweep, each)], following, gone=gone)

    async def read_contacts(self, sweep: Sweep, ids: Sequence[str]) -> Sequence[Change]:
        """Return these records as they are now; ids that are gone are left out."""
        wanted = [each for each in dict.fromkeys(ids) if soql.is_id(each)]
        found = await self._by_id(sweep, wanted)
        missing = [each for each in wanted if each not in found]
        survivors = dict(await self._merged_into(sweep, list(found)))
        if missing:
            survivors |= await self._survivors_of(sweep, missing)
        merged = payload.merged_into(survivors)
        found |= await self._by_id(sweep, [each for each in merged if each not in found])
        return [
            msgspec.structs.replace(each, merged_from=sorted(merged.get(each.id, ())))
            for each in found.values()
        ]

    async def read_members(
        self, object_name: str, list_id: str | None, after: Cursor | None
    ) -> MemberPage:
        """Return a page of a campaign's member ids; without one, of all living records' ids."""
        kind = facts.KINDS[object_name]
        if list_id is not None and not soql.is_id(list_id):
            raise self._no_list()
        conditions = [kind.living, soql.members_of(kind, list_id), soql.after_id(after)]
        query = soql.select((ID,), kind.sobject, conditions)
        page = (await self._calls.query(query)).decode(payload.IDS)
        ids = [each.id for each in page.records]
        is_last = self._ends(len(ids), done=page.done)
        if not ids and list_id is not None:
            await self._campaign(list_id)
        return MemberPage(ids, None if is_last else Cursor(ids[-1]))

    async def _campaign(self, list_id: str) -> payload.Campaign:
        if not soql.is_id(list_id):
            raise self._no_list()
        query = soql.select((ID, "Name"), "Campaign", [soql.one_of(ID, [list_id])], limit=1)
        found = (await self._calls.query(query)).decode(payload.CAMPAIGNS).records
        if not found:
            raise self._no_list()
        return found[0]

    def _no_list(self) -> SyncError:
        return MisconfiguredError(self._calls.host, "list_missing")

    async def _count(self, kind: Kind, conditions: Sequence[str | None]) -> int:
        page = await self._read(soql.count(kind.sobject, [kind.living, *conditions]))
        return page.total_size

    async def _newest_member(self, kind: Kind, list_id: str) -> int | None:
        conditions = [f"CampaignId = {soql.quoted(list_id)}", f"{kind.member} != null"]
        newest = (f"{STAMP} DESC",)
        query = soql.select((ID, STAMP), "CampaignMember", conditions, by=newest, limit=1)
        records = (await self._read(query)).records
        return self._change(records[0], {}).version_ms if records else None

    async def _look_into_bin(
        self, sweep: Sweep, *, is_last: bool
    ) -> tuple[Mapping[str, str | None], Sequence[str]]:
        """Return who lives on in which other, and, with the last page of changes, who is gone.

        A merge touches its survivor as well, so both are in one window; where everything is read,
        every merge that the bin still knows is of interest.
        """
        kind, window = facts.KINDS[sweep.object], soql.window_of(sweep)
        if window is None or not is_last:
            return payload.survivors_of(await self._bin(kind, [window, _MERGED])), ()
        survivors = payload.survivors_of(await self._bin(kind, [window]))
        gone = [each for each, survivor in survivors.items() if survivor is None]
        return survivors, [*gone, *await self._converted(kind, window)]

    async def _bin(self, kind: Kind, conditions: Sequence[str | None]) -> list[Identified]:
        conditions = [_IN_BIN, *conditions]
        return [each async for each in self._ids(kind, conditions, with_deleted=True)]

    async def _converted(self, kind: Kind, window: str) -> list[str]:
        """Return who is another kind of record by now."""
        if kind.left is None:
            return []
        left = self._ids(kind, [kind.left, window], with_deleted=False)
        return [each.id async for each in left]

    async def _ids(
        self, kind: Kind, conditions: Sequence[str | None], *, with_deleted: bool
    ) -> AsyncIterator[Identified]:
        after: str | None = None
        while True:
            query = soql.select((ID, MASTER), kind.sobject, [*conditions, soql.after_id(after)])
            answer = await self._calls.query(query, with_deleted=with_deleted)
            page = answer.decode(payload.IDS)
            for each in page.records:
                yield each
            if self._ends(len(page.records), done=page.done):
                return
            after = page.records[-1].id

    async def _survivors_of(self, sweep: Sweep, ids: Sequence[str]) -> Mapping[str, str | None]:
        """Return in whom each of these lives on who was merged, however often."""
        kind = facts.KINDS[sweep.object]
        found: list[Identified] = []
        looked: set[str] = set()
        look: Collection[str] = ids
        for _ in range(_MERGES_MAX):
            looked.update(look)
            for batch in soql.batches(list(look), (ID, MASTER)):
                found += await self._bin(kind, [soql.one_of(ID, batch), _MERGED])
            look = {each.master_record_id for each in found if each.master_record_id} - looked
            if not look:
                break
        asked = set(ids)
        survivors = payload.survivors_of(found)
        return {old: survivor for old, survivor in survivors.items() if old in asked}

    async def _merged_into(
        self, sweep: Sweep, survivors: Sequence[str]
    ) -> Mapping[str, str | None]:
        """Return who was merged into these, as far as the bin still knows, however indirectly.

        A survivor may be met by its id alone, before any window tells of the merge: who lives on in
        it must not be taken for gone.
        """
        kind = facts.KINDS[sweep.object]
        found: list[Identified] = []
        look: Collection[str] = survivors
        for _ in range(_MERGES_MAX):
            masters = list(look)
            look = set()
            for batch in soql.batches(masters, (ID, MASTER)):
                merged = await self._bin(kind, [soql.one_of(MASTER, batch)])
                found += merged
                look |= {each.id for each in merged}
            if not look:
                break
        return payload.survivors_of(found)

    async def _by_id(self, sweep: Sweep, ids: Sequence[str]) -> dict[str, Change]:
        kind, fields = facts.KINDS[sweep.object], self._fields(sweep)
        found: dict[str, Change] = {}
        for batch in soql.batches(ids, fields):
            query = soql.select(fields, kind.sobject, [kind.living, soql.one_of(ID, batch)])
            page = await self._read(query)
            found |= {each.id: each for each in (self._change(raw, {}) for raw in page.records)}
        return found

    def _page_query(self, sweep: Sweep, after: Cursor | None) -> str:
        kind = facts.KINDS[sweep.object]
        conditions = [kind.living, soql.members_of(kind, sweep.list_id), soql.window_of(sweep)]
        by_time = _goes_by_time(sweep)
        conditions.append(soql.after_stamp(after) if by_time else soql.after_id(after))
        order = (STAMP, ID) if by_time else (ID,)
        return soql.select(self._fields(sweep), kind.sobject, conditions, by=order)

    def _fields(self, sweep: Sweep) -> list[str]:
        """Return what to select; a name that can be none is a field that is not there."""
        if not all(map(soql.is_name, sweep.properties)):
            raise MisconfiguredError(self._calls.host, "field_missing")
        return soql.fields_of(sweep.properties)

    def _following(
        self, sweep: Sweep, page: payload.Page, records: Sequence[Record]
    ) -> Cursor | None:
        """Return where the next page starts; None after the last."""
        if self._ends(len(records), done=page.done):
            return None
        last = records[-1]
        if not _goes_by_time(sweep):
            return Cursor(last.id)
        return self._readable(lambda: Cursor(soql.stamp_position(last.id, last.system_modstamp)))

    def _ends(self, count: int, *, done: bool) -> bool:
        """Return whether an answer is the last: it may hold fewer records than were asked for."""
        if not count and not done:
            raise lost(self._calls.host, "a page of nobody before the last", writes=False)
        return done and count < facts.PAGE_MAX

    async def _read(self, query: str) -> payload.Page:
        return (await self._calls.query(query)).decode(payload.PAGE, half=UNUSABLE)

    def _record(self, raw: msgspec.Raw) -> Record:
        return self._readable(lambda: payload.record_of(raw))

    def _change(self, raw: msgspec.Raw, merged: Mapping[str, Sequence[str]]) -> Change:
        return self._readable(lambda: payload.change_of(raw, merged))

    def _readable(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except (msgspec.MsgspecError, UnicodeDecodeError):
            host = self._calls.host
            raise lost(host, "record without a readable id and time", writes=False) from None


def _goes_by_time(sweep: Sweep) -> bool:
    """Return whether pages are in the order of time: a window may hold everybody."""
    return sweep.since_ms is not None and sweep.list_id is None


def _is_within(sweep: Sweep, change: Change) -> bool:
    return sweep.since_ms is None or sweep.since_ms <= change.version_ms <= sweep.until_ms


def _known_tier(edition: str | None) -> str | None:
    return edition if edition in facts.CALLS_A_DAY else None
