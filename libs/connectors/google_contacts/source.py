"""Read contacts from a Google account.

Everything is read from one listing, in pages of 1,000, that ends with a sync token. With that token
the same listing tells what changed since: edits, deletions, and by each contact's memberships who
is in a group and who is not any more. So a run of changes mostly is one call, for a group as well.

The token is good for one way of asking only, so that is always the same: a digest of it stands
before the token, and another version of this file reads everything once more. A token that Google
does not take (any more) is a `PositionLostError`.

How the pages of a listing hang together is not documented. If rows can move up while it is read, a
contact may be on no page: a page says that it is doubtful where fewer contacts are counted than at
the beginning, or where one was edited since (docs/decisions/0125).
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlencode

import msgspec

from libs.common.errors import (
    MisconfiguredError,
    PositionLostError,
    RequestRefusedError,
    SyncError,
    UnavailableError,
)
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
from libs.connectors.google_contacts import facts, payload
from libs.connectors.google_contacts.refusals import judge
from libs.connectors.http import UNUSABLE, Answer, HttpClient, lost

# An unknown id; and one that is none at all: which of the two answers it gets is not documented.
_GONE = (400, 404)
_NOT_FOUND = 5  # Of google.rpc.Code, for one of a batch.
# The contacts that the user keeps, without what Google knows of the same people by their profiles.
_OWN = ("sources", "READ_SOURCE_TYPE_CONTACT")
_LISTING = (
    ("personFields", ",".join(payload.MASK)),
    ("pageSize", str(facts.PAGE_MAX)),
    ("requestSyncToken", "true"),
    _OWN,
)
_ASKED = hashlib.blake2b(urlencode(_LISTING).encode(), digest_size=4).hexdigest()
_IDS = (("personFields", "metadata"), ("pageSize", str(facts.PAGE_MAX)), _OWN)
_NEWEST = (
    ("personFields", "userDefined,metadata"),
    ("pageSize", str(facts.PAGE_MAX)),
    ("sortOrder", "LAST_MODIFIED_DESCENDING"),
    _OWN,
)

Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Turn:
    """A page of a listing, where the next one starts, and whether rows may have moved."""

    page: payload.Connections
    cursor: Cursor | None
    is_doubtful: bool
    began_ms: int


class GoogleContactsSource:
    """A Google account that contacts are read from."""

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

    async def check(self) -> Account:
        """Return whose account this is; raise the reason if it cannot be read.

        Asks for groups as well: people can untick the right to read contacts, and are told who they
        are without it.
        """
        query = urlencode({"personFields": "names,emailAddresses,metadata"})
        answer = await self._get(facts.READS, f"/v1/people/me?{query}")
        me = answer.decode(payload.PERSON)
        await self._groups("1", None)
        known_by = [each.value for each in me.email_addresses if each.value]
        id_ = payload.id_of(me.resource_name)
        return Account(id=id_, name=f"Google {known_by[0] if known_by else id_}", time_zone="UTC")

    async def describe_fields(self, object_name: str) -> Sequence[Field]:
        """Return every field, also those that may not be mapped, with the reason.

        Fields that people made up have no definition: they are found with the 1,000 contacts that
        were changed last.
        """
        page = await self._connections(_NEWEST)
        return payload.fields_of(payload.custom_keys(page.connections))

    async def find_lists(self, object_name: str) -> Sequence[ContactList]:
        """Return every contact group that may be chosen."""
        found: list[ContactList] = []
        token: str | None = None
        while True:
            page = await self._groups(str(facts.PAGE_MAX), token)
            found += map(payload.list_of, filter(payload.is_list, page.contact_groups))
            token = page.next_page_token
            if not token:
                return found

    async def find_list(self, object_name: str, list_id: str) -> ContactList:
        """Return a group with a fresh count; raise MisconfiguredError(list_missing) if gone."""
        return payload.list_of(await self._group(list_id, 0))

    async def count(self, sweep: Sweep) -> int | None:
        """Return Google's own total; of changes None."""
        if sweep.since_ms is not None:
            return None
        if sweep.list_id is not None:
            return (await self.find_list(sweep.object, sweep.list_id)).size
        one = [*(each for each in _IDS if each[0] != "pageSize"), ("pageSize", "1")]
        return (await self._connections(one)).total_items

    async def read_page(self, sweep: Sweep, after: Cursor | None, onward: Onward = alone) -> Page:
        """Return a page of a sweep: from its position on if it has one, else of everything.

        Without a position a window of changes is picked out of everything: it tells of nobody who
        is gone.
        """
        if sweep.since_ms is not None and sweep.position is not None:
            return await self._changed(sweep, sweep.position, after)
        turn = await self._turn(_LISTING, after)
        sights = self._sights(sweep, turn.page)
        changes = [each.change for each in sights if each.change and _concerns(sweep, each)]
        was_edited = any(each.change and each.change.version_ms > turn.began_ms for each in sights)
        return Page(
            [each for each in changes if _is_within(sweep, each)],
            turn.cursor,
            is_doubtful=turn.is_doubtful or was_edited,
            position=_position(turn.page),
        )

    async def read_contacts(self, sweep: Sweep, ids: Sequence[str]) -> Sequence[Change]:
        """Return these contacts as they are now; ids that are gone are left out."""
        wanted = list(dict.fromkeys(ids))
        found: dict[str, Change] = {}
        for start in range(0, len(wanted), facts.READ_MAX):
            for change in await self._read_batch(sweep, wanted[start : start + facts.READ_MAX]):
                found[change.id] = change
        return list(found.values())

    async def read_members(
        self, object_name: str, list_id: str | None, after: Cursor | None
    ) -> MemberPage:
        """Return all of a group's member ids at once; without one a page of all contacts' ids."""
        if list_id is not None:
            group = await self._group(list_id, facts.MEMBERS_MAX)
            ids = [payload.id_of(each) for each in group.member_resource_names]
            return MemberPage(ids, None, is_doubtful=len(ids) < group.member_count)
        turn = await self._turn(_IDS, after)
        heads = [self._head(each) for each in turn.page.connections]
        ids = [payload.id_of(each.resource_name) for each in heads]
        return MemberPage(ids, turn.cursor, is_doubtful=turn.is_doubtful)

    async def _changed(self, sweep: Sweep, position: str, after: Cursor | None) -> Page:
        """Return what changed since a position."""
        asked, _, token = position.partition(":")
        host = self._calls.site.host
        if asked != _ASKED:
            raise PositionLostError(host, "asked for in another way")
        query = [*_LISTING, ("syncToken", token)]
        try:
            page = await self._connections([*query, ("pageToken", after)] if after else query)
        except RequestRefusedError as refused:
            # Of another account, or unreadable: no reason says so, and no later call is answered
            # otherwise. If everything is refused as well, that is told.
            raise PositionLostError(host, refused.code) from None
        sights = self._sights(sweep, page)
        there = [each for each in sights if each.change and _concerns(sweep, each)]
        names = {each.id for each in there}
        return Page(
            [each.change for each in there if each.change],
            Cursor(page.next_page_token) if page.next_page_token else None,
            gone=[each.id for each in sights if each.id not in names],
            is_narrowed=sweep.list_id is not None,
            position=_position(page),
        )

    async def _turn(self, query: Query, after: Cursor | None) -> _Turn:
        """Return a page of a listing.

        Our cursor is theirs with how many contacts the listing began with, and when it began.
        """
        counted, began, token = (after or "::").split(":", 2)
        try:
            answer = await self._list([*query, ("pageToken", token)] if token else query)
        except RequestRefusedError as refused:
            if not token:
                raise
            reason = f"page token refused: {refused.code}"
            raise UnavailableError(self._calls.site.host, reason) from None
        page = answer.decode(payload.CONNECTIONS, half=UNUSABLE)
        least = int(counted) if counted else page.total_items
        began_ms = int(began) if began else _end_of_second_ms(answer)
        following = page.next_page_token
        cursor = Cursor(f"{least}:{began_ms}:{following}") if following else None
        return _Turn(page, cursor, page.total_items < least, began_ms)

    async def _read_batch(self, sweep: Sweep, ids: Sequence[str]) -> list[Change]:
        query = [
            ("personFields", ",".join(payload.MASK)),
            _OWN,
            *(("resourceNames", f"{payload.PEOPLE}{each}") for each in ids),
        ]
        answer = await self._get(facts.READS, f"/v1/people:batchGet?{urlencode(query)}")
        read = payload.reader(sweep.properties)
        changes = []
        for each in answer.decode(payload.BATCH, half=UNUSABLE).responses:
            if each.status.code not in (0, _NOT_FOUND):
                raise lost(answer.host, f"one of a batch: code {each.status.code}", writes=False)
            change = None if each.status.code else self._sight(read, each.person).change
            if change is not None:
                changes.append(_asked_as(change, payload.id_of(each.requested_resource_name)))
        return changes

    async def _connections(self, query: Query) -> payload.Connections:
        return (await self._list(query)).decode(payload.CONNECTIONS, half=UNUSABLE)

    async def _list(self, query: Query) -> Answer:
        return await self._get(facts.READS, f"{facts.CONNECTIONS}?{urlencode(query)}")

    async def _groups(self, size: str, token: str | None) -> payload.GroupPage:
        query = {"pageSize": size, "groupFields": "name,groupType,memberCount,metadata"}
        if token:
            query["pageToken"] = token
        answer = await self._get(facts.GROUP_READS, f"{facts.GROUPS}?{urlencode(query)}")
        return answer.decode(payload.GROUP_PAGE)

    async def _group(self, list_id: str, members: int) -> payload.Group:
        path = f"{facts.GROUPS}/{quote(list_id, safe='')}?{urlencode({'maxMembers': members})}"
        answer = await self._get(facts.GROUP_READS, path, expect=_GONE)
        group = None if answer.status in _GONE else answer.decode(payload.GROUP)
        if group is None or group.metadata.deleted:
            raise MisconfiguredError(answer.host, "list_missing")
        return group

    async def _get(self, bucket: str, path: str, *, expect: Collection[int] = ()) -> Answer:
        return await self._calls.call(bucket, "GET", path, expect=expect)

    def _sights(self, sweep: Sweep, page: payload.Connections) -> list[payload.Sight]:
        read = payload.reader(sweep.properties)
        return [self._sight(read, each) for each in page.connections]

    def _sight(self, read: payload.Reader, raw: msgspec.Raw) -> payload.Sight:
        try:
            return read(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
            raise self._unreadable() from None

    def _head(self, raw: msgspec.Raw) -> payload.Head:
        try:
            return payload.head_of(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self._unreadable() from None

    def _unreadable(self) -> SyncError:
        host = self._calls.site.host
        return lost(host, "contact without a readable name and time", writes=False)


def _position(page: payload.Connections) -> str | None:
    return f"{_ASKED}:{page.next_sync_token}" if page.next_sync_token else None


def _end_of_second_ms(answer: Answer) -> int:
    """Return when an answer was given, by the provider's clock, to the end of its second.

    The far future where it does not say: then only the count tells that rows moved.
    """
    headers: Mapping[str, str] = answer.headers
    try:
        given = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError, TypeError):
        return 2**53
    return (int(given.timestamp()) + 1) * 1000


def _concerns(sweep: Sweep, sight: payload.Sight) -> bool:
    return sweep.list_id is None or sweep.list_id in sight.groups


def _is_within(sweep: Sweep, change: Change) -> bool:
    return sweep.since_ms is None or sweep.since_ms <= change.version_ms <= sweep.until_ms


def _asked_as(change: Change, asked: str) -> Change:
    """Return a change that says under which other id it was asked for, if it was."""
    if not asked or asked in (change.id, *change.merged_from):
        return change
    return msgspec.structs.replace(change, merged_from=[*change.merged_from, asked])
