"""Write to records of a Salesforce organisation: the way back of a two-way integration (SF3).

Only records that are named by their ids are changed or deleted; nobody is created, and there are
no lists. One call takes 200 of them. Fields that a write does not name stay as they are.

Who was merged into another is found as the survivor; a record in the recycle bin is not written to,
which would fail, and not taken out of it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn

import msgspec

from libs.common.errors import (
    MisconfiguredError,
    RequestRefusedError,
    SyncError,
    UnknownOutcomeError,
)
from libs.common.events import Identity, Operation
from libs.connectors.contract import (
    Account,
    Awaited,
    ContactList,
    Cursor,
    Facts,
    Field,
    FieldType,
    Gate,
    ListPage,
    NotTried,
    Outcome,
    RemoteContact,
    TokenSupply,
    Unknown,
    Write,
    WriteReport,
)
from libs.connectors.http import Answer, HttpClient, lost
from libs.connectors.salesforce import facts, payload, soql, writing
from libs.connectors.salesforce.calls import Calls
from libs.connectors.salesforce.soql import ID, MASTER
from libs.connectors.singles import NoImports

_COLLECTION = "/composite/sobjects"
_MERGES_MAX = 5  # A merge of a merge: each look follows them one further.


class SalesforceDestination(NoImports):
    """A Salesforce organisation whose contacts and leads are written to, by their ids."""

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
        """Return whose account this is; raise the reason if it cannot be called."""
        query = soql.select((ID, "Name", "OrganizationType"), "Organization", limit=1)
        found = (await self._calls.query(query)).decode(payload.ORGANIZATIONS).records
        if not found:
            raise lost(self._calls.host, "organisation without a name", writes=False)
        tier = payload.tier_of(found[0])
        known = tier if tier in self.facts.limits else None
        return Account(found[0].id, f"Salesforce {found[0].name or found[0].id}", tier=known)

    async def describe_attributes(self) -> Sequence[Field]:
        """Return the fields of a contact."""
        path = f"/sobjects/{writing.CONTACT}/describe"
        answer = await self._calls.call("GET", path)
        return [payload.field_of(each) for each in answer.decode(payload.DESCRIBED).fields]

    async def write(self, writes: Sequence[Write]) -> WriteReport:
        """Change or delete records, 200 a call; stop at the first error for all.

        An answer that was lost leaves its whole call Unknown and stops the others. A record that
        somebody else is writing is NotTried, though nothing stopped: trying again is all it takes.
        """
        outcomes: list[Outcome] = [writing.refused_unsent(each) or NotTried() for each in writes]
        waiting = [place for place, each in enumerate(outcomes) if isinstance(each, NotTried)]
        for deletes in (False, True):
            of_kind = [
                place for place in waiting if (writes[place].op is not Operation.UPSERT) is deletes
            ]
            for start in range(0, len(of_kind), facts.COLLECTION_MAX):
                places = of_kind[start : start + facts.COLLECTION_MAX]
                together = [writes[place] for place in places]
                try:
                    report = await self._write_together(together, deletes=deletes)
                except SyncError as error:
                    is_lost = isinstance(error, UnknownOutcomeError)
                    each = Unknown() if is_lost else NotTried()
                    report = WriteReport([each] * len(places), error)
                for place, outcome in zip(places, report.outcomes, strict=True):
                    outcomes[place] = outcome
                if report.stopped_by is not None:
                    return WriteReport(outcomes, report.stopped_by)
        return WriteReport(outcomes)

    async def read_records(
        self, ids: Sequence[str], names: Sequence[str]
    ) -> Sequence[RemoteContact | None]:
        """Return these records as they are now, the survivor of a merged one; None: gone."""
        found = await self._read(ids, names)
        missing = [each for each in dict.fromkeys(ids) if each not in found and soql.is_id(each)]
        survivors = await self._survivors(missing) if missing else {}
        found |= await self._read([*dict.fromkeys(survivors.values())], names)
        return [found.get(survivors.get(each, each)) for each in ids]

    async def read_back(self, identities: Sequence[Identity]) -> Sequence[RemoteContact | None]:
        """Return nobody: an address names no record here, several may have it."""
        return [None] * len(identities)

    def matches(self, remote: RemoteContact, write: Write) -> bool:
        """Return whether a record holds what a write wanted; null and empty are the same."""
        if write.op is not Operation.UPSERT:
            return False
        return all(
            (remote.attributes.get(name) in (None, "") and value in (None, ""))
            or remote.attributes.get(name) == value
            for name, value in writing.fields_of(write).items()
        )

    async def _write_together(self, writes: Sequence[Write], *, deletes: bool) -> WriteReport:
        """Return what one call answered for each; raise what it answered for all of them."""
        if deletes:
            named = ",".join(str(write.record) for write in writes)
            path, body = f"{_COLLECTION}?ids={named}&allOrNone=false", None
        else:
            path, body = _COLLECTION, writing.update_body(writes)
        method = "DELETE" if deletes else "PATCH"
        answer = await self._calls.call(method, path, body, writes=True, expect=(400,))
        if answer.status == 400:
            return WriteReport([self._refused(answer, len(writes))])
        results = answer.decode(writing.RESULTS)
        if len(results) != len(writes):
            raise lost(answer.host, "not as many results as records", writes=True)
        is_field_gone = any(map(writing.is_field_gone, results))
        return WriteReport(
            [writing.outcome_of(result, deletes=deletes) for result in results],
            MisconfiguredError(answer.host, "attribute_missing") if is_field_gone else None,
        )

    def _refused(self, answer: Answer, count: int) -> Outcome:
        """Return why the only record of a call is refused; raise what concerns every record."""
        fault = payload.fault_of(answer.body)
        if fault.error_code == "JSON_PARSER_ERROR" and count == 1:
            return writing.refused_body(fault.message)
        if fault.error_code in writing.FIELD_GONE:
            raise MisconfiguredError(answer.host, "attribute_missing")
        raise RequestRefusedError(answer.host, 400, fault.error_code)

    async def _read(self, ids: Sequence[str], names: Sequence[str]) -> dict[str, RemoteContact]:
        """Return those of these records that live, by id; of whatever kind each is."""
        fields = soql.fields_of(names)
        found: dict[str, RemoteContact] = {}
        for sobject in (writing.CONTACT, writing.LEAD):
            kind = next(each for each in facts.KINDS.values() if each.sobject == sobject)
            of_kind = [
                each
                for each in dict.fromkeys(ids)
                if writing.sobject_of(each) == sobject and soql.is_id(each)
            ]
            for batch in soql.batches(of_kind, fields):
                query = soql.select(fields, sobject, [kind.living, soql.one_of(ID, batch)])
                page = (await self._calls.query(query)).decode(payload.PAGE)
                found |= {each.id: each for each in map(self._remote, page.records)}
        return found

    async def _survivors(self, ids: Sequence[str]) -> dict[str, str]:
        """Return in whom each of these lives on who was merged, however often."""
        gone: list[payload.Identified] = []
        look = set(ids)
        for _ in range(_MERGES_MAX):
            told: list[payload.Identified] = []
            for sobject in (writing.CONTACT, writing.LEAD):
                of_kind = sorted(each for each in look if writing.sobject_of(each) == sobject)
                for batch in soql.batches(of_kind, (ID, MASTER)):
                    merged = [soql.one_of(ID, batch), f"{MASTER} != null"]
                    query = soql.select((ID, MASTER), sobject, merged)
                    answer = await self._calls.query(query, with_deleted=True)
                    told += answer.decode(payload.IDS).records
            gone += told
            look = {each.master_record_id for each in told if each.master_record_id}
            if not look:
                break
        survivors = payload.survivors_of(gone)
        return {old: new for old in ids if (new := survivors.get(old)) is not None}

    def _remote(self, raw: msgspec.Raw) -> RemoteContact:
        try:
            record = payload.record_of(raw)
            modified_ms = payload.milliseconds(record.system_modstamp)
            values = msgspec.json.decode(raw, type=dict[str, object])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise lost(self._calls.host, "record without id and time", writes=False) from None
        return RemoteContact(Identity(), values, id=record.id, modified_ms=modified_ms)

    # What a record has not: lists, and ways to come into being.

    async def make_attribute(self, name: str, type_: FieldType) -> None:
        """Refuse: fields are made by the organisation's own people."""
        self._refuse()

    async def find_lists(self) -> Sequence[ContactList]:
        """Return none."""
        return ()

    async def make_list(self, name: str) -> ContactList:
        """Refuse: there are no lists."""
        self._refuse()

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
        """Refuse: there is no such list."""
        raise MisconfiguredError(self._calls.host, "list_missing")

    def _refuse(self) -> NoReturn:
        raise RequestRefusedError(self._calls.host, 405, "updates_only")
