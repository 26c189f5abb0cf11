"""Write contacts to a Brevo account.

What each write costs: 1 call for a new contact and for an update; 3 for a first link to an
address that Brevo knows already (refused, read, updated), because only a look tells whether the
person has left the list there; 3 for an e-mail change (read, moved with its block, read back).

Consent (S3): `emailBlacklisted` is sent as true or not at all. List membership is sent when the
writer says so, and never for a list that the person unsubscribed from.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from libs.common.errors import (
    MisconfiguredError,
    RequestRefusedError,
    SyncError,
    UnknownOutcomeError,
)
from libs.common.events import Identity, Operation
from libs.common.reasons import Reject
from libs.connectors.account import AccountCalls
from libs.connectors.brevo import events, facts, payload
from libs.connectors.brevo.known import KnownAddresses
from libs.connectors.brevo.refusals import duplicates, judge, reject_reason
from libs.connectors.contract import (
    Account,
    Arrived,
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
    Missing,
    Outcome,
    Refused,
    RemoteContact,
    Screening,
    Taken,
    TokenSupply,
    Write,
    WriteReport,
    Written,
)
from libs.connectors.http import Answer, HttpClient, lost
from libs.connectors.singles import write_each

# Pages that are asked for at once.
_PAGES_TOGETHER = 4
_IMPORT = "IMPORTUSER"  # What Brevo calls such a process.
_PHONE_LEFT_OUT = "phone_left_out"


class BrevoDestination:
    """A Brevo account that contacts are written to."""

    facts: Facts = facts.FACTS

    def __init__(
        self,
        http: HttpClient,
        gate: Gate,
        tokens: TokenSupply,
        base_url: str,
        account: Account | None = None,
    ) -> None:
        self._http = http
        self._known = KnownAddresses()
        self._calls = AccountCalls(
            http=http,
            gate=gate,
            tokens=tokens,
            site=http.site(base_url, self.facts.hosts),
            provider=self.facts.provider,
            authorize=lambda token: {"api-key": token},
            judge=judge,
        )

    async def check(self) -> Account:
        """Return whose account this is; raise the reason if it cannot be written to."""
        answer = await self._calls.call(facts.OTHER, "GET", "/account")
        account = answer.decode(payload.ACCOUNT)
        return Account(id=account.organization_id, name=account.company_name or account.email)

    async def describe_attributes(self) -> Sequence[Field]:
        """Return every attribute, the e-mail address among them."""
        email = Field(name="EMAIL", label="EMAIL", type=FieldType.EMAIL, unique=True)
        return [email, *(payload.field_of(each) for each in await self._attributes())]

    async def make_attribute(self, name: str, type_: FieldType) -> None:
        """Create an attribute; return quietly if it exists with this type."""
        wanted = payload.ATTRIBUTE_TYPES.get(type_)
        if wanted is None:
            raise RequestRefusedError(self._calls.site.host, 400, "attribute_type")
        answer = await self._calls.call(
            facts.CONTACTS,
            "POST",
            f"/contacts/attributes/normal/{quote(name.upper(), safe='')}",
            msgspec.json.encode({"type": wanted}),
            writes=True,
            expect=(400,),
        )
        if answer.status == 400 and not await self._has_attribute(name.upper(), wanted):
            raise judge(answer, facts.CONTACTS)

    async def find_lists(self) -> Sequence[ContactList]:
        """Return every list."""
        found: list[ContactList] = []
        while True:
            path = _paged("/contacts/lists", facts.FOLDERS_MAX, len(found))
            page = (await self._get(path)).decode(payload.LIST_PAGE).lists
            found += [payload.list_of(each) for each in page]
            if len(page) < facts.FOLDERS_MAX:
                return found

    async def make_list(self, name: str) -> ContactList:
        """Create a list in our folder and return it."""
        body = {"name": name, "folderId": await self._folder_id()}
        answer = await self._post("/contacts/lists", msgspec.json.encode(body))
        return ContactList(id=str(answer.decode(payload.CREATED).id), name=name, size=0)

    async def write(self, writes: Sequence[Write]) -> WriteReport:
        """Apply single effects, a few at a time; stop at the first error for all.

        An answer that was lost leaves its contact Unknown and stops the others, those on their
        way excepted.
        """
        return await write_each(writes, self._apply, together=facts.TOGETHER)

    async def read_back(self, identities: Sequence[Identity]) -> Sequence[RemoteContact | None]:
        """Return each contact as it is now, in the order asked; None for one that is absent."""
        records = [await self._read(identity) for identity in identities]
        return [payload.remote_of(record) if record else None for record in records]

    async def read_records(
        self, ids: Sequence[str], names: Sequence[str]
    ) -> Sequence[RemoteContact | None]:
        """Return these contacts as they are now, in the order asked; twenty cost one call."""
        wanted = [each for each in dict.fromkeys(ids) if each.isdecimal()]
        batches = [
            wanted[start : start + facts.IDS_MAX] for start in range(0, len(wanted), facts.IDS_MAX)
        ]
        found: dict[str, RemoteContact] = {}
        for start in range(0, len(batches), facts.TOGETHER):
            together = batches[start : start + facts.TOGETHER]
            answers = await self._side_by_side(
                self._get(f"/contacts?ids={','.join(batch)}&limit={facts.IDS_MAX}")
                for batch in together
            )
            for answer in answers:
                remotes = map(payload.remote_of, answer.decode(payload.CONTACT_PAGE).contacts)
                found |= {remote.id: remote for remote in remotes}
        return [found.get(each) for each in ids]

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
        offset = int(after or 0)
        sort = "desc" if newest_first else "asc"
        suffix = f"&modifiedSince={quote(payload.moment(since))}" if since is not None else ""
        pages = min(_PAGES_TOGETHER, max(1, -(-hoped // facts.LIST_PAGE_MAX)))
        members = f"/contacts/lists/{quote(list_id)}/contacts"
        paths = [
            _paged(members, facts.LIST_PAGE_MAX, offset + place * facts.LIST_PAGE_MAX, sort=sort)
            for place in range(pages)
        ]
        answers = await self._side_by_side(
            self._calls.call(facts.CONTACTS, "GET", path + suffix, expect=(404,)) for path in paths
        )
        found: list[list[str]] = [[] for _ in awaited]
        cursor: Cursor | None = None
        for answer in answers:
            if answer.status == 404:
                raise MisconfiguredError(answer.host, "list_missing")
            page = answer.decode(payload.SIGHTINGS).contacts
            _add(found, payload.arrived(payload.by_address(page), awaited))
            offset += len(page)
            cursor = Cursor(str(offset))
            if len(page) < facts.LIST_PAGE_MAX:
                cursor = None
                break
        return ListPage(found, cursor)

    def matches(self, remote: RemoteContact, write: Write) -> bool:
        """Return whether the contact holds what the write wanted, by Brevo's own forms."""
        if write.op is not Operation.UPSERT:
            return write.list_id not in remote.list_ids
        list_id = write.list_id
        is_member = list_id in remote.list_ids or list_id in remote.left_list_ids
        if write.join_list and not is_member:
            return False
        email, email_there = write.identity.email, remote.identity.email
        if email not in (None, email_there) and not payload.same("EMAIL", email, email_there):
            return False
        sms = write.identity.sms
        if email is None and not payload.same("SMS", sms, remote.identity.sms):
            return False
        return payload.holds(remote.attributes, write.attributes)

    def importable(self, writes: Sequence[Write]) -> Sequence[bool]:
        """Return of each write whether an import could do what it does.

        A first link by e-mail: an import must put its contacts on a list, which only a first
        link may, and its rows are known by an address. It does not overwrite true by false.
        """
        upsert = Operation.UPSERT
        # Mostly nobody has a yes or no, which is seen of all together.
        some_hold = payload.may_hold_boolean(b"".join([write.attributes for write in writes]))
        return [
            write.op is upsert
            and write.known_as is None
            and write.join_list
            and write.identity.email is not None
            and not (some_hold and payload.holds_boolean(write.attributes))
            for write in writes
        ]

    async def screen_import(self, keys: Sequence[str], awaited: Awaited = ()) -> Screening:
        """Return which addresses of importable writes are new to the account.

        Reads the account, 1,000 contacts a call, as far as it has grown since the last look,
        unless that costs more than single calls. A page is let go before the next is read: the
        first look is at all that an account has.
        """
        wanted = set(keys)
        known = self._known
        known.begin(asyncio.get_running_loop().time())
        found: list[list[str]] = [[] for _ in awaited]
        while True:
            page = await self._sightings(known.next_offset)
            if not known.follows(page.contacts):
                known.forget()
                continue
            left = max((page.count or 0) - known.read, 0)
            if not _import_pays(len(wanted), left):
                return Screening([False] * len(keys), found)
            shown = known.add(page.contacts, page.count or 0)
            _add(found, payload.arrived(shown, awaited))
            if len(page.contacts) < facts.CONTACTS_PAGE_MAX:
                break
            del page, shown
        there = known.among(wanted)
        return Screening([key not in there for key in keys], found)

    async def _sightings(self, offset: int) -> payload.Sightings:
        path = _paged("/contacts", facts.CONTACTS_PAGE_MAX, offset)
        return (await self._get(path)).decode(payload.SIGHTINGS)

    async def _side_by_side(self, calls: Iterable[Coroutine[Any, Any, Answer]]) -> list[Answer]:
        """Return the answers of calls that need not wait for one another; all end before it does.

        The first error is raised.
        """
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if isinstance(answer, Answer)]

    async def start_import(self, writes: Sequence[Write], notify_url: str | None) -> str:
        """Start an import of contacts that `screen_import` let pass; return Brevo's id for it."""
        host = self._calls.site.host
        body = msgspec.json.encode(_import_body(writes, notify_url))
        if len(body) > facts.IMPORT_BYTES_MAX:
            raise RequestRefusedError(host, 413, "import_too_large")
        answer = await self._post("/contacts/import", body, expect=(400,))
        if answer.status != 400:
            return str(answer.decode(payload.STARTED).process_id)
        await self._check_list(writes[0].list_id)
        raise judge(answer, facts.CONTACTS)

    async def import_status(self, process_id: str) -> ImportStatus:
        """Return how an import stands, and which addresses Brevo calls invalid."""
        path = f"/processes/{quote(process_id)}"
        record = (await self._calls.call(facts.OTHER, "GET", path)).decode(payload.PROCESS)
        state = payload.state_of(record)
        url = record.info.imported.invalid_emails
        if state is not ImportState.COMPLETED or url is None:
            return ImportStatus(state)
        invalid = payload.emails_of_report(await self._report(url))
        return ImportStatus(state, {each.lower(): Reject.INVALID_EMAIL for each in invalid})

    async def find_imports(self, since: datetime) -> Sequence[FoundImport]:
        """Return the newest imports. Brevo tells no times, so older ones may be among them."""
        path = f"/processes?limit={facts.FOLDERS_MAX}&offset=0&sort=desc"
        answer = await self._calls.call(facts.OTHER, "GET", path)
        return [
            FoundImport(str(each.id), payload.state_of(each))
            for each in answer.decode(payload.PROCESS_PAGE).processes
            if each.name == _IMPORT
        ]

    async def subscribe(self, url: str, token: str) -> str:
        """Have edits of contacts told to `url`; return the webhook's id."""
        return await events.subscribe(self._calls, url, token)

    async def unsubscribe(self, subscription: str) -> None:
        """Remove a webhook; return quietly if there is none."""
        await events.unsubscribe(self._calls, subscription)

    async def _apply(self, write: Write) -> Outcome:
        match write.op:
            case Operation.DELETE:
                return await self._delete(write)
            case Operation.LEAVE:
                return await self._leave(write)
            case Operation.UPSERT if write.known_as is None:
                return await self._link(write)
            case Operation.UPSERT if _moves(write):
                return await self._move(write)
            case _:
                return await self._update(write, write.known_as)

    async def _link(self, write: Write, without: frozenset[str] = frozenset()) -> Outcome:
        """Create a contact; if Brevo knows it already, look before it is put on the list."""
        body = payload.ContactBody(
            email=write.identity.email,
            attributes=payload.attributes_for(write.attributes, write.identity, without=without),
            list_ids=[int(write.list_id)] if write.join_list else None,
        )
        answer = await self._post("/contacts", msgspec.json.encode(body), expect=(400, 422))
        if answer.status not in (400, 422):
            if answer.status != 204:
                answer.decode(payload.CREATED)  # Without an id it is no success of Brevo's.
            return _written(without)
        taken = duplicates(payload.fault_of(answer.body))
        if taken is None:
            return await self._refused(write, answer)
        if ("EMAIL" if write.identity.email else "SMS") in taken:
            return await self._update(write, write.identity, without)
        others = taken & facts.PHONES
        if not others or without:
            return Refused(Reject.VALUE_NOT_ACCEPTED)
        return await self._link(write, facts.PHONES & others)

    async def _update(
        self, write: Write, known_as: Identity, without: frozenset[str] = frozenset()
    ) -> Outcome:
        """Update a contact that is there; put it on the list unless the person has left it."""
        list_ids = None
        if write.join_list:
            record = await self._read_at(_path_of(write, known_as))
            if record is None:
                return Missing()
            left = record.list_unsubscribed or ()
            list_ids = [int(write.list_id)] if int(write.list_id) not in left else None
        return await self._put(write, known_as, payload.ContactBody(list_ids=list_ids), without)

    async def _move(self, write: Write) -> Outcome:
        """Move a contact to its new address; a block goes with it, in the same call (S3)."""
        known_as, identity = write.known_as, write.identity
        assert known_as is not None, "only a contact that is there can move"
        record = await self._read_at(_path_of(write, known_as))
        if record is None:
            return Missing()
        joins = write.join_list and int(write.list_id) not in (record.list_unsubscribed or [])
        body = payload.ContactBody(
            list_ids=[int(write.list_id)] if joins else None,
            email_blacklisted=True if record.email_blacklisted else None,
            sms_blacklisted=True if record.sms_blacklisted else None,
        )
        outcome = await self._put(write, known_as, body)
        blocked = record.email_blacklisted or record.sms_blacklisted
        if not isinstance(outcome, Written) or not blocked:
            return outcome
        try:
            await self._keep_block(identity, body)
        except SyncError as error:
            # The contact has moved: whatever stopped us now, it is not untouched.
            raise UnknownOutcomeError(self._calls.site.host, "block not confirmed") from error
        return outcome

    async def _keep_block(self, identity: Identity, body: payload.ContactBody) -> None:
        """Read a moved contact back, and block it again if Brevo dropped its block."""
        record = await self._read(identity)
        if record is None:
            raise UnknownOutcomeError(self._calls.site.host, "moved contact is not there")
        kept = (record.email_blacklisted or not body.email_blacklisted) and (
            record.sms_blacklisted or not body.sms_blacklisted
        )
        if not kept:
            block = payload.ContactBody(
                email_blacklisted=body.email_blacklisted, sms_blacklisted=body.sms_blacklisted
            )
            await self._put_body(_contact_path(identity), block)

    async def _put(
        self,
        write: Write,
        known_as: Identity,
        body: payload.ContactBody,
        without: frozenset[str] = frozenset(),
    ) -> Outcome:
        """Send the attributes of a write to the contact that is known by an address."""
        new_email = write.identity.email if _moves(write) else None
        attributes = payload.attributes_for(
            write.attributes, write.identity, new_email=new_email, without=without
        )
        full = msgspec.structs.replace(body, attributes=attributes)
        answer = await self._put_body(_path_of(write, known_as), full)
        if answer.status == 404:
            return Missing()
        if answer.status < 300:
            _believe(answer)
            return _written(without)
        taken = duplicates(payload.fault_of(answer.body))
        if taken is None:
            return await self._refused(write, answer)
        if ("EMAIL" if write.identity.email else "SMS") in taken:
            return Taken()
        phones = taken & facts.PHONES
        if not phones or without:
            return Refused(Reject.VALUE_NOT_ACCEPTED)
        return await self._put(write, known_as, body, phones)

    async def _put_body(self, path: str, body: payload.ContactBody) -> Answer:
        return await self._calls.call(
            facts.CONTACTS,
            "PUT",
            path,
            msgspec.json.encode(body),
            writes=True,
            expect=(400, 404, 422),
        )

    async def _leave(self, write: Write) -> Outcome:
        """Take a contact off the list; one that is not there has left already."""
        body = payload.ContactBody(unlink_list_ids=[int(write.list_id)])
        answer = await self._put_body(_path_of(write, write.known_as or write.identity), body)
        if answer.status in (400, 422):
            return await self._refused(write, answer)
        if answer.status < 300:
            _believe(answer)
        return Written()

    async def _delete(self, write: Write) -> Outcome:
        """Delete a contact; one that is not there is deleted already."""
        answer = await self._calls.call(
            facts.CONTACTS,
            "DELETE",
            _path_of(write, write.known_as or write.identity),
            writes=True,
            expect=(404, 405),
        )
        if answer.status == 405:
            # The contact is the account's own address, which Brevo does not delete.
            return Refused(Reject.VALUE_NOT_ACCEPTED)
        if answer.status < 300:
            _believe(answer)
        return Written()

    async def _refused(self, write: Write, answer: Answer) -> Outcome:
        """Return why a contact is refused; raise if it is not the contact's fault.

        Where Brevo's words do not tell, what every contact needs is looked at: the list, then
        the attributes. Only if they are there, the contact itself is refused.
        """
        reason = reject_reason(payload.fault_of(answer.body))
        if reason is not None:
            return Refused(reason)
        if write.join_list or write.op is Operation.LEAVE:
            await self._check_list(write.list_id)
        names = {each.name for each in await self._attributes()} | facts.UNIQUE
        if not names.issuperset(payload.attributes_of(write.attributes)):
            raise MisconfiguredError(answer.host, "attribute_missing")
        return Refused(Reject.VALUE_NOT_ACCEPTED)

    async def _check_list(self, list_id: str) -> None:
        """Raise MisconfiguredError(list_missing) if there is no such list."""
        path = f"/contacts/lists/{quote(list_id)}"
        answer = await self._calls.call(facts.CONTACTS, "GET", path, expect=(400, 404))
        if answer.status != 200:
            raise MisconfiguredError(answer.host, "list_missing")

    async def _report(self, url: str) -> str:
        """Return an import's CSV file; empty if it lies where we do not go, or is gone.

        It lies in a store of files, which gets no key. What it would tell is then found out by
        the single write that follows for every contact that the import left out.
        """
        parts = urlsplit(url)
        try:
            site = self._http.site(f"{parts.scheme}://{parts.netloc}", self.facts.hosts)
        except MisconfiguredError:
            return ""
        await self._calls.gate.enter(facts.CONTACTS)
        path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        answer = await self._http.call(
            site, "GET", path, headers={}, provider=self.facts.provider, bucket=facts.CONTACTS
        )
        return answer.body.decode("utf-8", "replace") if answer.status == 200 else ""

    async def _read(self, identity: Identity) -> payload.ContactRecord | None:
        """Return a contact as it is now; None if it is not there."""
        return await self._read_at(_contact_path(identity))

    async def _read_at(self, path: str) -> payload.ContactRecord | None:
        answer = await self._calls.call(facts.CONTACTS, "GET", path, expect=(404,))
        return None if answer.status == 404 else answer.decode(payload.CONTACT)

    async def _attributes(self) -> list[payload.AttributeRecord]:
        answer = await self._get("/contacts/attributes")
        return answer.decode(payload.ATTRIBUTE_PAGE).attributes

    async def _has_attribute(self, name: str, type_: str) -> bool:
        return any(each.name == name and each.type == type_ for each in await self._attributes())

    async def _folder_id(self) -> int:
        """Return the id of the folder that our lists lie in; it is made if it is not there."""
        offset = 0
        while True:
            path = _paged("/contacts/folders", facts.FOLDERS_MAX, offset)
            page = (await self._get(path)).decode(payload.FOLDER_PAGE).folders
            for folder in page:
                if folder.name == facts.FOLDER:
                    return folder.id
            if len(page) < facts.FOLDERS_MAX:
                break
            offset += len(page)
        body = msgspec.json.encode({"name": facts.FOLDER})
        return (await self._post("/contacts/folders", body)).decode(payload.CREATED).id

    async def _get(self, path: str) -> Answer:
        return await self._calls.call(facts.CONTACTS, "GET", path)

    async def _post(self, path: str, body: bytes, expect: tuple[int, ...] = ()) -> Answer:
        return await self._calls.call(
            facts.CONTACTS, "POST", path, body, writes=True, expect=expect
        )


def _believe(answer: Answer) -> None:
    """Raise UnknownOutcomeError for a success that is none: Brevo says nothing, or an object."""
    if answer.body and answer.decode(payload.ACKNOWLEDGED).code:
        raise lost(answer.host, "success with an error in it", writes=True)


def _moves(write: Write) -> bool:
    """Return whether a write changes the address that the contact is known by."""
    known_as, identity = write.known_as, write.identity
    if known_as is None:
        return False
    if identity.email is not None:
        return (known_as.email or "").lower() != identity.email.lower()
    if known_as.email is not None:
        return False  # The address is gone at the source: at Brevo it cannot be taken away.
    return payload.digits(known_as.sms or "") != payload.digits(identity.sms or "")


def _import_body(writes: Sequence[Write], notify_url: str | None) -> payload.ImportBody:
    return payload.ImportBody(
        json_body=payload.import_rows(writes),
        list_ids=[int(writes[0].list_id)],
        update_existing_contacts=False,
        disable_notification=True,
        notify_url=notify_url,
    )


def _add(found: Sequence[list[str]], more: Arrived) -> None:
    """Put what arrived of each import in one more page beside what did before."""
    for addresses, others in zip(found, more, strict=True):
        addresses.extend(others)


def _import_pays(wanted: int, in_account: int) -> bool:
    """Return whether an import needs fewer calls than singles, which cost one each.

    Reading the account, starting, asking once, reading back (docs/decisions: when import, when
    single).
    """
    looking = in_account // facts.CONTACTS_PAGE_MAX + 1
    reading_back = wanted // facts.LIST_PAGE_MAX + 1
    return wanted >= facts.IMPORT_ROWS_MIN and looking + 2 + reading_back < wanted


def _written(without: frozenset[str]) -> Written:
    return Written(_PHONE_LEFT_OUT if without else None)


def _path_of(write: Write, known_as: Identity) -> str:
    """Return the path of the contact that a write is for: by its own id, where that is known.

    Somebody may have changed its address at Brevo; the id stays.
    """
    if write.record is not None:
        return f"/contacts/{quote(write.record, safe='')}?identifierType=contact_id"
    return _contact_path(known_as)


def _contact_path(identity: Identity) -> str:
    """Return a contact's path. A plus sign is escaped, or Brevo may read it as a blank."""
    if identity.email is not None:
        return f"/contacts/{quote(identity.email, safe='')}?identifierType=email_id"
    assert identity.sms is not None, "a contact is known by an address"
    return f"/contacts/{payload.digits(identity.sms)}?identifierType=phone_id"


def _paged(path: str, limit: int, offset: int, sort: str = "asc") -> str:
    return f"{path}?limit={limit}&offset={offset}&sort={sort}"
