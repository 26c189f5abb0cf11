"""Read contacts from a Constant Contact account.

There is one way to read many contacts: a listing in pages of 500 whose cursors hold an offset, in
an order that is not promised. So rows move up when a contact before them leaves the listing, and
one may be on no page. Each page tells how many there are; where they grow fewer while a listing is
read, its pages say that they are doubtful (docs/decisions/0125).

A contact cannot be asked for together with others by id. Many are picked out of their list's
pages, as long as these are fewer calls; a few are read one by one.

What is compared with the provider's clock is compared here once more: whether its bounds are
inclusive is not documented, and its times are whole seconds.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote, urlencode

import msgspec

from libs.common.errors import MisconfiguredError, SyncError
from libs.common.events import Change
from libs.connectors.account import AccountCalls
from libs.connectors.constant_contact import facts, payload
from libs.connectors.constant_contact.refusals import judge
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
from libs.connectors.field_watch import FieldWatch, by_value
from libs.connectors.http import UNUSABLE, Answer, HttpClient, lost

# An unknown id; and one that is none at all: which of the two answers it gets is not documented.
_GONE = (400, 404)
_SINGLES_MAX = 2  # So few are surely not more calls than a page that shows how long a list is.
_BOUND_MS = 1_000  # More than its own second: wide enough for either reading of a bound.


class ConstantContactSource:
    """A Constant Contact account that contacts are read from."""

    facts: Facts = facts.FACTS

    def __init__(
        self,
        http: HttpClient,
        gate: Gate,
        tokens: TokenSupply,
        base_url: str,
        account: Account | None = None,
    ) -> None:
        self._calls = AccountCalls(
            http=http,
            gate=gate,
            tokens=tokens,
            site=http.site(base_url, self.facts.hosts),
            provider=self.facts.provider,
            authorize=lambda token: {"authorization": f"Bearer {token}"},
            judge=judge,
        )
        self._watch = FieldWatch(self._calls.site.host, self._living, by_value, payload.is_custom)

    async def check(self) -> Account:
        """Return whose account this is; raise the reason if it cannot be read.

        Its time zone is UTC: that is where the day of the limits begins, wherever the account is.
        """
        summary = (await self._get("/account/summary")).decode(payload.SUMMARY)
        name = f"Constant Contact {summary.organization_name or summary.encoded_account_id}"
        return Account(id=summary.encoded_account_id, name=name, time_zone="UTC")

    async def describe_fields(self, object_name: str) -> Sequence[Field]:
        """Return every field, also those that may not be mapped, with the reason."""
        return payload.fields_of(await self._custom_fields())

    async def _custom_fields(self) -> list[payload.CustomField]:
        found: list[payload.CustomField] = []
        query = {"limit": str(facts.FIELDS_PAGE_MAX)}
        while query:
            answer = await self._get(f"/contact_custom_fields?{urlencode(query)}")
            page = answer.decode(payload.CUSTOM_FIELDS)
            found += page.custom_fields
            query = self._following(page.links)
        return found

    async def _living(self, names: Sequence[str]) -> set[str]:
        """Return the custom fields there are: a contact names those only that have a value."""
        return {payload.custom_name(each) for each in await self._custom_fields()}

    async def find_lists(self, object_name: str) -> Sequence[ContactList]:
        """Return every list."""
        found: list[ContactList] = []
        query = {"limit": str(facts.PAGE_MAX), "include_membership_count": "all"}
        while query:
            answer = await self._get(f"/contact_lists?{urlencode(query)}")
            page = answer.decode(payload.LIST_PAGE)
            found += map(payload.list_of, page.lists)
            query = self._following(page.links)
        return found

    async def find_list(self, object_name: str, list_id: str) -> ContactList:
        """Return a list with a fresh count; raise MisconfiguredError(list_missing) if gone."""
        path = f"/contact_lists/{quote(list_id, safe='')}?include_membership_count=all"
        answer = await self._get(path, expect=_GONE)
        found = None if answer.status in _GONE else payload.list_of(answer.decode(payload.LIST))
        if found is None or found.is_deleted:
            raise MisconfiguredError(answer.host, "list_missing")
        return found

    async def count(self, sweep: Sweep) -> int | None:
        """Return the provider's own total; of changes None: its bounds are not exactly ours."""
        if sweep.since_ms is not None:
            return None
        page = await self._list({**_query(sweep.list_id), "limit": "1"})
        return page.contacts_count

    async def read_page(self, sweep: Sweep, after: Cursor | None, onward: Onward = alone) -> Page:
        """Return a page of a sweep; where somebody may be on none of them, it is doubtful."""
        page, following, is_doubtful = await self._turn(_query_of(sweep), after)
        changes = [each for each in self._changes(sweep, page) if _is_within(sweep, each)]
        await self._watch.check(sweep.properties, changes)
        return Page(changes, following, is_doubtful=is_doubtful)

    async def read_contacts(self, sweep: Sweep, ids: Sequence[str]) -> Sequence[Change]:
        """Return these contacts as they are now; ids that are gone are left out."""
        wanted = dict.fromkeys(ids)
        found: dict[str, Change] = {}
        if len(wanted) > _SINGLES_MAX:
            found = await self._picked(sweep, wanted)
        for contact_id in wanted:
            if contact_id not in found:
                change = await self._read_one(sweep, contact_id)
                if change is not None:
                    found[contact_id] = change
        changes = [found[each] for each in wanted if each in found]
        await self._watch.check(sweep.properties, changes)
        return changes

    async def read_members(
        self, object_name: str, list_id: str | None, after: Cursor | None
    ) -> MemberPage:
        """Return a page of a list's member ids; without a list, of all living contacts' ids."""
        page, following, is_doubtful = await self._turn(_query(list_id), after)
        if not page.contacts and list_id is not None:
            # Whether a list that is gone is an error or an empty listing is not documented.
            await self.find_list(object_name, list_id)
        ids = [self._head(each).contact_id for each in page.contacts]
        return MemberPage(ids, following, is_doubtful=is_doubtful)

    async def _picked(self, sweep: Sweep, wanted: Collection[str]) -> dict[str, Change]:
        """Return who of these is on the list's pages, if they are no more than these are."""
        query = _query_of(replace(sweep, since_ms=None))
        found: dict[str, Change] = {}
        after: Cursor | None = None
        while True:
            page, after, _ = await self._turn(query, after)
            found |= {each.id: each for each in self._changes(sweep, page) if each.id in wanted}
            pages = -(-(page.contacts_count or 0) // facts.PAGE_MAX)
            if after is None or pages > len(wanted) or len(found) == len(wanted):
                return found

    async def _read_one(self, sweep: Sweep, contact_id: str) -> Change | None:
        include = ",".join(payload.includes(sweep.properties))
        path = f"/contacts/{quote(contact_id, safe='')}" + (
            f"?include={include}" if include else ""
        )
        answer = await self._get(path, expect=_GONE)
        # A deleted contact is still shown by its id.
        if answer.status in _GONE or answer.decode(_DELETION).deleted_at is not None:
            return None
        return self._change(payload.reader(sweep.properties), msgspec.Raw(answer.body))

    async def _turn(
        self, query: Mapping[str, str], after: Cursor | None
    ) -> tuple[payload.Records, Cursor | None, bool]:
        """Return a page of a listing, where the next starts, and whether rows moved up meanwhile.

        Our cursor is theirs with the number of rows that the listing began with before it.
        """
        counted, _, cursor = (after or "").partition(":")
        page = await self._list({"cursor": cursor} if cursor else query)
        least = int(counted) if counted else (page.contacts_count or 0)
        following = self._following(page.links)
        onward = Cursor(f"{least}:{following['cursor']}") if following else None
        return page, onward, page.contacts_count is not None and page.contacts_count < least

    async def _list(self, query: Mapping[str, str]) -> payload.Records:
        answer = await self._get(f"/contacts?{urlencode(query)}")
        return answer.decode(payload.RECORDS, half=UNUSABLE)

    async def _get(self, path: str, *, expect: Collection[int] = ()) -> Answer:
        return await self._calls.call(facts.API, "GET", path, expect=expect)

    def _following(self, links: payload.Links) -> dict[str, str]:
        """Return the query of the next page; empty after the last."""
        try:
            cursor = payload.cursor_of(links)
        except ValueError:
            host = self._calls.site.host
            raise lost(host, "next page without a cursor", writes=False) from None
        return {} if cursor is None else {"cursor": cursor}

    def _changes(self, sweep: Sweep, page: payload.Records) -> list[Change]:
        read = payload.reader(sweep.properties)
        return [self._change(read, each) for each in page.contacts]

    def _change(self, read: payload.Reader, raw: msgspec.Raw) -> Change:
        try:
            return read(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self._unreadable() from None

    def _head(self, raw: msgspec.Raw) -> payload.Head:
        try:
            return payload.head_of(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self._unreadable() from None

    def _unreadable(self) -> SyncError:
        host = self._calls.site.host
        return lost(host, "contact without a readable id and time", writes=False)


def _query(list_id: str | None) -> dict[str, str]:
    """Return the query of a listing's first page; its cursors carry it to the others."""
    query = {"limit": str(facts.PAGE_MAX), "include_count": "true"}
    return query if list_id is None else {**query, "lists": list_id}


def _query_of(sweep: Sweep) -> dict[str, str]:
    query = _query(sweep.list_id)
    if parts := payload.includes(sweep.properties):
        query["include"] = ",".join(parts)
    if sweep.since_ms is not None:
        query["updated_after"] = payload.moment(max(sweep.since_ms - _BOUND_MS, 0))
        query["updated_before"] = payload.moment(sweep.until_ms + 2 * _BOUND_MS)
    return query


def _is_within(sweep: Sweep, change: Change) -> bool:
    return sweep.since_ms is None or sweep.since_ms <= change.version_ms <= sweep.until_ms


class _Deletion(msgspec.Struct, frozen=True):
    deleted_at: str | None = None


_DELETION = msgspec.json.Decoder(_Deletion)
