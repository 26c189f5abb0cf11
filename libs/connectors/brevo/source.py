"""Read contacts from a Brevo account: the way back of a two-way integration.

Brevo lists contacts in the order of their creation, by offset, and by modification time only from
a moment on: there is no upper bound and no other order. Three traps come of that:

* A contact that is deleted, or taken off the list, while pages are read moves all behind it up.
  Ids grow with creation, so each page begins at the last row of the one before: if a greater id
  stands there, rows have moved, and we step back until nobody can be between.
* Whoever is modified while a window is read joins it. If that was before the place where we are,
  the next window has the contact; whoever is later than this window's end is left out.
* Deleted contacts are in no listing. Who is gone, a complete read of all members tells.

Consent (S3): what is read are attributes and the address. Whether somebody unsubscribed is no
field of ours, so nothing can pass it on.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from urllib.parse import quote, urlencode

import msgspec

from libs.common.errors import MisconfiguredError
from libs.common.events import Change
from libs.connectors.account import AccountCalls
from libs.connectors.brevo import facts, payload
from libs.connectors.brevo.refusals import judge
from libs.connectors.contract import (
    Account,
    ContactList,
    Cursor,
    Facts,
    Field,
    FieldType,
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

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MISSING = (400, 404)  # A list's id that is none, and one that belongs to no list.


class BrevoSource:
    """A Brevo account that contacts are read from."""

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
            authorize=lambda token: {"api-key": token},
            judge=judge,
        )
        self._watch = FieldWatch(self._calls.site.host, self._living, by_value)

    async def check(self) -> Account:
        """Return whose account this is; raise the reason if it cannot be read."""
        answer = await self._calls.call(facts.OTHER, "GET", "/account")
        account = answer.decode(payload.ACCOUNT)
        return Account(id=account.organization_id, name=account.company_name or account.email)

    async def describe_fields(self, object_name: str) -> Sequence[Field]:
        """Return every attribute, the e-mail address among them, also those not to be mapped."""
        email = Field(name="EMAIL", label="EMAIL", type=FieldType.EMAIL, unique=True)
        return [email, *(payload.field_of(each) for each in await self._attributes())]

    async def _attributes(self) -> Sequence[payload.AttributeRecord]:
        answer = await self._get("/contacts/attributes")
        return answer.decode(payload.ATTRIBUTE_PAGE).attributes

    async def _living(self, names: Sequence[str]) -> set[str]:
        """Return the attributes there are: a contact names those only that have a value."""
        return {each.name for each in await self._attributes()} | facts.UNIQUE

    async def find_lists(self, object_name: str) -> Sequence[ContactList]:
        """Return every list."""
        found: list[ContactList] = []
        while True:
            query = _paged(facts.FOLDERS_MAX, len(found))
            page = (await self._get(f"/contacts/lists?{query}")).decode(payload.LIST_PAGE).lists
            found += map(payload.list_of, page)
            if len(page) < facts.FOLDERS_MAX:
                return found

    async def find_list(self, object_name: str, list_id: str) -> ContactList:
        """Return a list with a fresh count; raise MisconfiguredError(list_missing) if gone."""
        answer = await self._of_list(f"/contacts/lists/{quote(list_id, safe='')}")
        return payload.list_of(answer.decode(payload.LIST))

    async def count(self, sweep: Sweep) -> int | None:
        """Return Brevo's own total; of changes None: its window has no end, ours has one."""
        if sweep.since_ms is not None:
            return None
        return (await self._rows(sweep.list_id, None, limit=1, offset=0)).count

    async def read_page(self, sweep: Sweep, after: Cursor | None, onward: Onward = alone) -> Page:
        """Return a page of a sweep: every contact that stays is on exactly one."""
        rows, cursor, is_doubtful = await self._turn(sweep.list_id, sweep.since_ms, after)
        changes = [self._change(sweep, row) for row in rows]
        if sweep.since_ms is not None:
            changes = [each for each in changes if _is_within(sweep, each)]
        await self._watch.check(sweep.properties, changes)
        return Page(changes, cursor, is_doubtful=is_doubtful)

    async def read_contacts(self, sweep: Sweep, ids: Sequence[str]) -> Sequence[Change]:
        """Return these contacts as they are now; ids that are gone, or are none, are left out."""
        wanted = [each for each in dict.fromkeys(ids) if each.isdecimal()]
        batches = [
            wanted[start : start + facts.IDS_MAX] for start in range(0, len(wanted), facts.IDS_MAX)
        ]
        found: list[Change] = []
        for start in range(0, len(batches), facts.TOGETHER):
            together = batches[start : start + facts.TOGETHER]
            pages = await asyncio.gather(*map(self._batch, together), return_exceptions=True)
            for page in pages:
                if isinstance(page, BaseException):
                    raise page
                found += [self._change(sweep, row) for row in page]
        await self._watch.check(sweep.properties, found)
        return found

    async def read_members(
        self, object_name: str, list_id: str | None, after: Cursor | None
    ) -> MemberPage:
        """Return a page of a list's member ids; without a list, of all living contacts' ids."""
        rows, cursor, is_doubtful = await self._turn(list_id, None, after)
        return MemberPage([str(row.id) for row in rows], cursor, is_doubtful=is_doubtful)

    async def _turn(
        self, list_id: str | None, since_ms: int | None, after: Cursor | None
    ) -> tuple[list[payload.ChangedContact], Cursor | None, bool]:
        """Return the rows behind a cursor, the next cursor, and whether their order is doubtful.

        A cursor is how many rows were read and the greatest id among them.
        """
        read, _, last = (after or "0:0").partition(":")
        offset, last_id = max(int(read) - 1, 0), int(last)
        limit = facts.CONTACTS_PAGE_MAX if list_id is None else facts.LIST_PAGE_MAX
        page = await self._rows(list_id, since_ms, limit=limit, offset=offset)
        while offset and (not page.contacts or page.contacts[0].id > last_id):
            offset = max(offset - limit + 1, 0)
            page = await self._rows(list_id, since_ms, limit=limit, offset=offset)
        ids = [row.id for row in page.contacts]
        rows = [row for row in page.contacts if row.id > last_id]
        is_doubtful = any(one >= two for one, two in pairwise(ids))
        if len(ids) < limit:
            return rows, None, is_doubtful
        return rows, Cursor(f"{offset + len(ids)}:{max(last_id, *ids)}"), is_doubtful

    async def _rows(
        self, list_id: str | None, since_ms: int | None, *, limit: int, offset: int
    ) -> payload.ChangedContacts:
        query = _paged(limit, offset, since_ms)
        if list_id is None:
            answer = await self._get(f"/contacts?{query}")
        else:
            path = f"/contacts/lists/{quote(list_id, safe='')}/contacts"
            answer = await self._of_list(f"{path}?{query}")
        # A contact with half of a pair in it comes out as one that the mapper rejects.
        return answer.decode(payload.CHANGED_CONTACTS, half=UNUSABLE)

    async def _batch(self, ids: Sequence[str]) -> list[payload.ChangedContact]:
        query = urlencode({"ids": ",".join(ids), "limit": str(facts.IDS_MAX), "sort": "asc"})
        answer = await self._get(f"/contacts?{query}")
        return answer.decode(payload.CHANGED_CONTACTS, half=UNUSABLE).contacts

    async def _of_list(self, path: str) -> Answer:
        """Return an answer about a list; raise MisconfiguredError(list_missing) if it is gone."""
        answer = await self._calls.call(facts.CONTACTS, "GET", path, expect=_MISSING)
        if answer.status in _MISSING:
            raise MisconfiguredError(answer.host, "list_missing")
        return answer

    async def _get(self, path: str) -> Answer:
        return await self._calls.call(facts.CONTACTS, "GET", path)

    def _change(self, sweep: Sweep, row: payload.ChangedContact) -> Change:
        try:
            return payload.change_of(row, sweep.properties)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            host = self._calls.site.host
            raise lost(host, "contact without a readable time", writes=False) from None


def _paged(limit: int, offset: int, since_ms: int | None = None) -> str:
    query = {"limit": str(limit), "offset": str(offset), "sort": "asc"}
    if since_ms is not None:
        query["modifiedSince"] = payload.moment(_EPOCH + timedelta(milliseconds=since_ms))
    return urlencode(query)


def _is_within(sweep: Sweep, change: Change) -> bool:
    return sweep.since_ms is None or sweep.since_ms <= change.version_ms <= sweep.until_ms
