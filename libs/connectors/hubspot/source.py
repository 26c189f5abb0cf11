"""Read contacts from a HubSpot account.

Three ways to the same contacts, each with a position that can be resumed:

* a list's members: ids in the order of their ids, 1,000 at a time, then the contacts themselves;
* all contacts: HubSpot's own list, 100 at a time;
* what changed in a window: a search for ids only, 200 at a time, each query starting after the
  last id. No query is paged, so its limit of 10,000 results is never met, however many contacts
  changed, on one millisecond or over a year.

Contacts found by id are read in batches of 100 with the mapped properties only. A contact that
is edited while a window is read leaves the window; it is in the next one.
"""

import asyncio
import re
from collections.abc import Awaitable, Sequence
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec

from libs.common.errors import MisconfiguredError
from libs.common.events import Change
from libs.connectors.account import AccountCalls
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
from libs.connectors.field_watch import FieldWatch, by_key
from libs.connectors.http import UNUSABLE, Answer, HttpClient, lost
from libs.connectors.hubspot import facts, payload
from libs.connectors.hubspot.refusals import judge

T = TypeVar("T")

_FIRST_ID = "0"
_NUMBER = re.compile(r"[0-9]{1,20}")  # An id of HubSpot's has a dozen digits today.
# HubSpot answers some queries from the very beginning of time with 500 (Estuary's connector).
_SINCE_MS_MIN = 1_000
# Calls for members that make a page: of four, all batch reads are full, and records as well.
_MEMBER_CALLS = 4
_CONTACT_LISTS = "0-1"  # The object type id of contacts.


class HubSpotSource:
    """A HubSpot account that contacts are read from."""

    facts: Facts = facts.FACTS

    def __init__(
        self,
        http: HttpClient,
        gate: Gate,
        tokens: TokenSupply,
        base_url: str,
        account: Account | None = None,
    ) -> None:
        time_zone = account.time_zone if account else "UTC"
        self._calls = AccountCalls(
            http=http,
            gate=gate,
            tokens=tokens,
            site=http.site(base_url, self.facts.hosts),
            provider=self.facts.provider,
            authorize=lambda token: {"authorization": f"Bearer {token}"},
            judge=lambda answer, bucket: judge(answer, bucket, time_zone),
        )
        self._watch = FieldWatch(self._calls.site.host, self._living, by_key)

    async def check(self) -> Account:
        """Return whose account this is; raise the reason if it cannot be read."""
        answer = await self._get(facts.ACCOUNT)
        details = answer.decode(payload.ACCOUNT)
        name = f"HubSpot {details.portal_id} ({details.ui_domain})"
        return Account(id=str(details.portal_id), name=name, time_zone=details.time_zone)

    async def describe_fields(self, object_name: str) -> Sequence[Field]:
        """Return every property, also those that may not be mapped, with the reason."""
        answer = await self._get(facts.PROPERTIES)
        definitions = answer.decode(payload.PROPERTIES).results
        return [payload.field_of(each) for each in definitions if not each.archived]

    async def find_lists(self, object_name: str) -> Sequence[ContactList]:
        """Return every list of contacts; HubSpot shows the first 10,000."""
        found: list[ContactList] = []
        offset = 0
        while offset < facts.LISTS_OFFSET_MAX:
            page = await self._find_lists(offset)
            found += [payload.list_of(each) for each in page.lists]
            if not page.has_more or page.offset <= offset:
                break
            offset = page.offset
        return found

    async def find_list(self, object_name: str, list_id: str) -> ContactList:
        """Return a list with fresh counts; raise MisconfiguredError(list_missing) if it is gone.

        By a search for this one list: only a search's hits tell when somebody joined or left
        last, and it leaves out deleted lists, which a plain GET shows for 90 days.
        """
        page = await self._find_lists(0, [list_id])
        for record in page.lists:
            found = payload.list_of(record)
            if found.id == list_id and not found.is_deleted:
                return found
        raise MisconfiguredError(self._calls.site.host, "list_missing")

    async def count(self, sweep: Sweep) -> int | None:
        """Return HubSpot's own total for a sweep; None where it counts no further."""
        if sweep.since_ms is None and sweep.list_id is not None:
            return (await self._members(sweep.list_id, None, 1)).total
        total = (await self._search(sweep, _FIRST_ID, 1)).total
        return None if total is None or total >= facts.SEARCH_TOTAL_MAX else total

    async def read_page(self, sweep: Sweep, after: Cursor | None, onward: Onward = alone) -> Page:
        """Return a page of a sweep; every contact that matches is on at least one page."""
        if sweep.since_ms is not None:
            found = await self._changed_ids(sweep, after)
        elif sweep.list_id is not None:
            found = await self._listed_ids(sweep.list_id, after)
        elif _fits_address(sweep):
            return await self._scanned_page(sweep, after)
        else:
            found = await self.read_members(sweep.object, None, after)
        await onward(found.cursor)
        return Page(await self.read_contacts(sweep, found.ids), found.cursor)

    async def read_contacts(self, sweep: Sweep, ids: Sequence[str]) -> Sequence[Change]:
        """Return these contacts as they are now; ids that are gone are left out."""
        size = facts.READ_MAX
        batches = [ids[start : start + size] for start in range(0, len(ids), size)]
        read = await _together([self._read_batch(sweep, batch) for batch in batches])
        return _without_doubles([change for changes in read for change in changes])

    async def read_members(
        self, object_name: str, list_id: str | None, after: Cursor | None
    ) -> MemberPage:
        """Return a page of a list's member ids; without a list, of all living contacts' ids."""
        if list_id is None:
            page = await self._scan(("hs_object_id",), after)
            return MemberPage([each.id for each in page.results], _next(page.paging))
        members = await self._members(list_id, after, facts.MEMBERS_MAX)
        return MemberPage([each.record_id for each in members.results], _next(members.paging))

    async def _listed_ids(self, list_id: str, after: Cursor | None) -> MemberPage:
        ids: list[str] = []
        for _ in range(_MEMBER_CALLS):
            members = await self._members(list_id, after, facts.MEMBERS_MAX)
            ids += [each.record_id for each in members.results]
            after = _next(members.paging)
            if after is None:
                break
        return MemberPage(ids, after)

    async def _changed_ids(self, sweep: Sweep, after: Cursor | None) -> MemberPage:
        found = await self._search(sweep, after or _FIRST_ID, facts.SEARCH_MAX)
        ids = [each.id for each in found.results]
        last = self._last(ids) if len(ids) == facts.SEARCH_MAX else None
        return MemberPage(ids, None if last is None else Cursor(last))

    def _last(self, ids: Sequence[str]) -> str:
        """Return the highest id of a page; HubSpot's are numbers, and another starts no query."""
        numbers = [each for each in ids if _NUMBER.fullmatch(each)]
        if not numbers:
            raise lost(self._calls.site.host, "contacts without a number", writes=False)
        return max(numbers, key=int)

    async def _scanned_page(self, sweep: Sweep, after: Cursor | None) -> Page:
        page = await self._scan(_names(sweep), after)
        changes = self._changes(page.results)
        await self._watch.check(sweep.properties, changes)
        return Page(changes, _next(page.paging))

    async def _living(self, names: Sequence[str]) -> set[str]:
        """Return which of these properties there are: HubSpot leaves out others in silence."""
        found: set[str] = set()
        for start in range(0, len(names), facts.READ_MAX):
            inputs = [{"name": each} for each in names[start : start + facts.READ_MAX]]
            body = {"archived": False, "inputs": inputs}
            answer = await self._post(f"{facts.PROPERTIES}/batch/read", body)
            results = answer.decode(payload.PROPERTIES).results
            found |= {each.name for each in results if not each.archived}
        return found

    async def _read_batch(self, sweep: Sweep, ids: Sequence[str]) -> list[Change]:
        """Return up to 100 contacts; each that came under another id says which it was asked as.

        HubSpot does not say which id led to which contact. A survivor names those that were
        merged into it; where it names none, the ids that are missing are asked one at a time.
        """
        results = await self._batch_read(sweep, ids)
        asked, got = set(ids), {each.id for each in results}
        changes = self._changes(results)
        # One answer at a time: a property may be deleted between two of a page.
        await self._watch.check(sweep.properties, changes)
        if got <= asked:
            return changes
        named = {old for change in changes for old in change.merged_from}
        strangers = {
            change.id
            for change in changes
            if change.id not in asked and not asked.intersection(change.merged_from)
        }
        if not strangers:
            return changes
        unexplained = [each for each in ids if each not in got and each not in named]
        return [change for change in changes if change.id not in strangers] + [
            change
            for old in unexplained
            for change in self._changes(await self._batch_read(sweep, [old]), [old])
        ]

    async def _batch_read(self, sweep: Sweep, ids: Sequence[str]) -> list[payload.Record]:
        body = {"properties": _names(sweep), "inputs": [{"id": each} for each in ids]}
        answer = await self._post(f"{facts.CONTACTS}/batch/read", body)
        # A contact with half of a pair in it comes out as one that the mapper rejects.
        return answer.decode(payload.RECORDS, half=UNUSABLE).results

    async def _search(self, sweep: Sweep, after: str, limit: int) -> payload.Records:
        filters = [{"propertyName": "hs_object_id", "operator": "GT", "value": after}]
        if sweep.since_ms is not None:
            since_ms = str(max(sweep.since_ms, _SINCE_MS_MIN))
            filters += [
                {"propertyName": payload.MODIFIED, "operator": "GTE", "value": since_ms},
                {"propertyName": payload.MODIFIED, "operator": "LTE", "value": str(sweep.until_ms)},
            ]
        body = {
            "filterGroups": [{"filters": filters}],
            "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
            "properties": ["hs_object_id"],
            "limit": limit,
        }
        path = f"{facts.CONTACTS}/search"
        answer = await self._calls.call(facts.SEARCH, "POST", path, msgspec.json.encode(body))
        return answer.decode(payload.RECORDS)

    async def _scan(self, names: Sequence[str], after: Cursor | None) -> payload.Records:
        query = {"limit": str(facts.READ_MAX), "properties": ",".join(names), "archived": "false"}
        if after is not None:
            query["after"] = after
        answer = await self._get(f"{facts.CONTACTS}?{urlencode(query)}")
        return answer.decode(payload.RECORDS, half=UNUSABLE)

    async def _members(self, list_id: str, after: Cursor | None, limit: int) -> payload.Members:
        query = {"limit": str(limit)} | ({"after": after} if after is not None else {})
        path = f"{facts.LISTS}/{_quoted(list_id)}/memberships?{urlencode(query)}"
        return (await self._list_call(path)).decode(payload.MEMBERS)

    async def _find_lists(self, offset: int, list_ids: Sequence[str] = ()) -> payload.ListPage:
        body = {
            "query": "",
            "count": facts.LISTS_MAX,
            "offset": offset,
            "objectTypeId": _CONTACT_LISTS,
            "processingTypes": ["MANUAL", "DYNAMIC", "SNAPSHOT"],
            "listIds": list(list_ids),
            "additionalProperties": ["hs_list_size"],
        }
        answer = await self._post(f"{facts.LISTS}/search", body)
        return answer.decode(payload.LIST_PAGE)

    async def _list_call(self, path: str) -> Answer:
        """Return an answer about a list; raise MisconfiguredError(list_missing) if it is gone."""
        answer = await self._calls.call(facts.API, "GET", path, expect=(404,))
        if answer.status == 404:
            raise MisconfiguredError(answer.host, "list_missing")
        return answer

    async def _get(self, path: str) -> Answer:
        return await self._calls.call(facts.API, "GET", path)

    async def _post(self, path: str, body: object) -> Answer:
        return await self._calls.call(facts.API, "POST", path, msgspec.json.encode(body))

    def _changes(
        self, records: Sequence[payload.Record], asked_as: Sequence[str] = ()
    ) -> list[Change]:
        try:
            return payload.changes_of(records, asked_as)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            host = self._calls.site.host
            raise lost(host, "contact without a readable time", writes=False) from None


def _names(sweep: Sweep) -> list[str]:
    """Return the properties to ask for: the mapped ones, and those that we need ourselves."""
    ours = (payload.MODIFIED, payload.MERGED, payload.MERGED_AT)
    return list(dict.fromkeys([*sweep.properties, *ours]))


def _fits_address(sweep: Sweep) -> bool:
    """Return whether the names of all properties fit into the address of a call."""
    return sum(len(name) + 1 for name in _names(sweep)) <= facts.QUERY_CHARACTERS_MAX


def _next(paging: payload.Paging | None) -> Cursor | None:
    return Cursor(paging.next.after) if paging and paging.next else None


def _quoted(list_id: str) -> str:
    return quote(list_id, safe="")


def _without_doubles(changes: list[Change]) -> list[Change]:
    """Return each contact once, with every id that led to it."""
    if len({change.id for change in changes}) == len(changes):
        return changes
    found: dict[str, Change] = {}
    for change in changes:
        known = found.get(change.id)
        if known is not None:
            merged = list(dict.fromkeys([*known.merged_from, *change.merged_from]))
            found[change.id] = msgspec.structs.replace(change, merged_from=merged)
        else:
            found[change.id] = change
    return list(found.values())


async def _together(calls: Sequence[Awaitable[T]]) -> list[T]:
    """Return what several calls return; all have ended when one of them fails."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
