"""Write contacts to an ActiveCampaign account.

What each write costs: a look, and a share of an import and of the looks at its end. An e-mail
change costs two calls more, a deletion one. Everything but these two goes through the bulk
importer, because single calls set off automations, webhooks and mails (AC3).

Consent (S3): nobody is subscribed who ever was on the list and is not now, or who was on lists and
is active on none of them. Membership is sent when the writer says so, and only to join or to leave.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from libs.common.errors import RequestRefusedError
from libs.common.events import Identity, Operation
from libs.connectors.activecampaign import facts, payload
from libs.connectors.activecampaign.calls import ME, Calls
from libs.connectors.activecampaign.importing import Importer
from libs.connectors.activecampaign.known import KEPT_MAX, KnownAddresses
from libs.connectors.activecampaign.payload import FieldRecord, Sighting
from libs.connectors.activecampaign.reading import Reader
from libs.connectors.activecampaign.refusals import Fault, fault_of, judge
from libs.connectors.activecampaign.writing import Writing
from libs.connectors.contract import (
    Account,
    Awaited,
    ContactList,
    Cursor,
    Facts,
    Field,
    FieldType,
    FoundImport,
    Gate,
    ImportState,
    ImportStatus,
    ListPage,
    RemoteContact,
    Screening,
    TokenSupply,
    Write,
    WriteReport,
    identity_key,
)
from libs.connectors.http import Answer, HttpClient

# Why a list's members get mails from it: ActiveCampaign asks for it when a list is made, and shows
# it in mails. People may word it anew.
_REMINDER = "You are a contact of ours, or asked us to stay in touch."
_OUTSTANDING = "outstanding"  # Stands for whatever waits in the queue, which tells no ids.
# `updated_after` takes a day of the account's own zone, which is at most 14 hours from UTC's.
_DAY = timedelta(days=1)


class ActiveCampaignDestination:
    """An ActiveCampaign account that contacts are written to."""

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
        self._reader = Reader(self._calls)
        self._importer = Importer(self._calls)
        self._known = KnownAddresses()

    async def check(self) -> Account:
        """Return whose account this is: it is known by the name in its address."""
        user = (await self._calls.get(ME)).decode(payload.ME).user
        host = _own_host(user.links) or self._calls.host
        return Account(id=host, name=host)

    async def describe_attributes(self) -> Sequence[Field]:
        """Return every attribute by its personalisation tag, the e-mail address among them."""
        return (await self._reader.fresh_fields()).described()

    async def make_attribute(self, name: str, type_: FieldType) -> None:
        """Create a custom field, shown for all lists; return quietly if it exists with this type.

        Its title is the name, and its tag the name in capitals.
        """
        wanted = payload.FIELD_TYPES.get(type_)
        if wanted is None:
            raise RequestRefusedError(self._calls.host, 400, "attribute_type")
        made = await self._field(name) or await self._new_field(name, wanted)
        if made.type != wanted:
            raise RequestRefusedError(self._calls.host, 422, "duplicate")
        if not made.relations:
            # One that was made and not related, because we ended in between, is shown nowhere.
            body = {"fieldRel": {"field": int(made.id), "relid": payload.ALL_LISTS}}
            await self._post("/fieldRels", body)

    async def _new_field(self, name: str, type_: str) -> FieldRecord:
        body = {"title": name, "type": type_, "perstag": payload.tag_for(name), "visible": 1}
        answer = await self._calls.call(
            facts.API,
            "POST",
            "/fields",
            msgspec.json.encode({"field": body}),
            writes=True,
            expect=(422,),
        )
        if answer.status != 422:
            return answer.decode(payload.FIELD_MADE).field
        made = await self._field(name) if fault_of(answer.body).is_duplicate else None
        if made is None:
            raise judge(answer, facts.API)
        return made

    async def _field(self, name: str) -> FieldRecord | None:
        """Return the custom field with a title or tag; None if there is none."""
        by_tag = (await self._reader.fresh_fields()).by_tag
        titled = (each for each in by_tag.values() if each.title.casefold() == name.casefold())
        return by_tag.get(name.upper()) or next(titled, None)

    async def find_lists(self) -> Sequence[ContactList]:
        """Return every list."""
        return [payload.list_of(each) for each in await self._reader.lists()]

    async def make_list(self, name: str) -> ContactList:
        """Create a list and return it."""
        digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        wanted = {
            "name": name,
            "stringid": f"contactsync-{digest}",
            "sender_url": f"https://{self._calls.host}",
            "sender_reminder": _REMINDER,
            "send_last_broadcast": 0,  # Else whoever joins is mailed the last campaign.
        }
        answer = await self._post("/lists", {"list": wanted})
        return payload.list_of(answer.decode(payload.LIST_MADE).list)

    async def write(self, writes: Sequence[Write]) -> WriteReport:
        """Apply single effects by one import for all of them; stop at the first error for all."""
        return await Writing(self._calls, self._reader, self._importer, writes).run()

    async def read_back(self, identities: Sequence[Identity]) -> Sequence[RemoteContact | None]:
        """Return each contact as it is now, in the order asked; None for one that is absent."""
        return [await self._remote(identity) for identity in identities]

    async def _remote(self, identity: Identity) -> RemoteContact | None:
        if identity.email is None or not payload.is_address(identity.email):
            return None
        found = await self._reader.find(identity.email)
        return None if found is None else found.remote

    async def read_list(
        self,
        list_id: str,
        after: Cursor | None,
        since: datetime | None = None,
        *,
        awaited: Awaited,
        newest_first: bool = False,
        hoped: int = 0,
    ) -> ListPage:
        """Return who of those awaited is on a list, read in the order of their creation."""
        query: dict[str, object] = {
            "listid": list_id,
            "status": payload.ACTIVE,
            "limit": facts.PAGE_MAX,
            "orders[id]": "DESC" if newest_first else "ASC",
        }
        if after is not None:
            query["id_less" if newest_first else "id_greater"] = after
        if since is not None:
            query["filters[updated_after]"] = (since.astimezone(UTC) - _DAY).date().isoformat()
        found = await self._reader.contacts(query)
        if not found and after is None:
            await self._reader.check_list(list_id)  # Nobody is on one that is gone, too.
        is_last = len(found) < facts.PAGE_MAX
        cursor = None if is_last else Cursor(found[-1].id)
        return ListPage([self._arrived(found, rows) for rows in awaited], cursor)

    def _arrived(self, found: Sequence[Sighting], rows: Mapping[str, Write]) -> list[str]:
        """Return which rows of an import stand on their list, as they were sent."""
        arrived: list[str] = []
        for each in found:
            key = identity_key(each.remote.identity)
            write = rows.get(key)
            is_there = write is not None and write.list_id in each.remote.list_ids
            if write is not None and is_there and self.matches(each.remote, write):
                arrived.append(key)
        return arrived

    def matches(self, remote: RemoteContact, write: Write) -> bool:
        """Return whether the contact holds what the write wanted, by ActiveCampaign's own forms."""
        if write.op is not Operation.UPSERT:
            return write.list_id not in remote.list_ids
        list_id = write.list_id
        may_stay_off = remote.is_blocked or list_id in remote.left_list_ids
        if write.join_list and list_id not in remote.list_ids and not may_stay_off:
            return False
        email = write.identity.email
        if email is not None and email.lower() != (remote.identity.email or "").lower():
            return False
        return all(
            name == payload.EMAIL or payload.same(value, remote.attributes.get(name))
            for name, value in payload.attributes_of(write.attributes).items()
        )

    def importable(self, writes: Sequence[Write]) -> Sequence[bool]:
        """Return of each write whether an import could do it: a first link by a good address."""
        return [
            write.op is Operation.UPSERT
            and write.known_as is None
            and write.join_list
            and write.identity.email is not None
            and payload.is_address(write.identity.email)
            for write in writes
        ]

    async def screen_import(self, keys: Sequence[str], awaited: Awaited = ()) -> Screening:
        """Return which addresses of importable writes are new to the account.

        Reads the account, 100 contacts a call, as far as it has grown since the last look, unless
        that costs more than looking at each. Contacts come without their lists and values then, so
        rows that are awaited are not told of.
        """
        known = self._known
        known.begin(asyncio.get_running_loop().time())
        nothing: list[list[str]] = [[] for _ in awaited]
        while True:
            query = {"limit": facts.PAGE_MAX, "orders[id]": "ASC", "id_greater": known.last_id}
            answer = await self._calls.get(f"/contacts?{urlencode(query)}")
            page = answer.decode(payload.CONTACT_PAGE)
            if not _import_pays(len(keys), int(page.meta.total)):
                return Screening([False] * len(keys), nothing)
            known.add(page.contacts, int(page.meta.total))
            if len(page.contacts) < facts.PAGE_MAX:
                break
        there = known.among(keys)
        if known.read > KEPT_MAX:
            known.forget()
        return Screening([key not in there for key in keys], nothing)

    async def start_import(self, writes: Sequence[Write], notify_url: str | None) -> str:
        """Start an import of contacts that `screen_import` let pass; return the batch's id."""
        await self._reader.check_list(writes[0].list_id)
        names = {name for write in writes for name in payload.attributes_of(write.attributes)}
        fields = await self._reader.fields(names)
        rows = [payload.row_of(write, fields, subscribes=True, is_new=True) for write in writes]
        queued = await self._importer.start(rows, notify_url)
        if isinstance(queued, Fault):
            raise RequestRefusedError(self._calls.host, 400, queued.code or "import_refused")
        return queued.batch_id

    async def import_status(self, process_id: str) -> ImportStatus:
        """Return how an import stands. Why rows failed is not told: a single write finds out."""
        return ImportStatus((await self._importer.info(process_id)).state)

    async def find_imports(self, since: datetime) -> Sequence[FoundImport]:
        """Return whether anything waits in the queue: it tells numbers by day, and no ids."""
        if await self._importer.is_idle():
            return []
        return [FoundImport(_OUTSTANDING, ImportState.RUNNING)]

    async def _post(self, path: str, body: dict[str, Any]) -> Answer:
        content = msgspec.json.encode(body)
        return await self._calls.call(facts.API, "POST", path, content, writes=True)


def _own_host(links: object) -> str | None:
    """Return the account's own name as its links show it; None if they show none of the provider's.

    It is the same whichever of its addresses a person gave us, and in front of the sandbox.
    """
    shown = links.values() if isinstance(links, dict) else ()
    for link in shown:
        host = (urlsplit(str(link)).hostname or "").lower()
        if host.endswith(tuple(facts.FACTS.hosts)):
            return host
    return None


def _import_pays(wanted: int, in_account: int) -> bool:
    """Return whether an import needs fewer calls than writes, which cost a look each.

    Reading the account, starting, asking once, reading back.
    """
    looking = in_account // facts.PAGE_MAX + 1
    reading_back = wanted // facts.PAGE_MAX + 1
    return wanted >= facts.FACTS.import_rows_min and looking + 3 + reading_back < wanted
