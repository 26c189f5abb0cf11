"""Effects of two-way integrations: compared before they are sent, looked at after (SF3, SF10).

Both flows of a pair come through here, each under the lease of the account that it writes to. An
effect is sent only if the decision of `agreement` is to write, and then only with the fields that
differ. What a flow may be writing is stored with its unit, before the call, so that the other flow
knows an echo also when nobody lived to say what was written. What stands after the call is read
back: a provider's own way to keep a value is no edit.

Between the look and the write lie some milliseconds in which an edit would be overwritten: neither
provider can be asked to write only if nobody else has.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import msgspec
from msgspec.structs import replace

from libs.common import logs
from libs.common.errors import LeaseLostError, SyncError
from libs.common.postgres import Transaction, Transactions, transact
from libs.common.reasons import Reject
from libs.connectors.contract import Destination, Records, RemoteContact
from services.writer import pair_store, store
from services.writer.agreement import (
    Seen,
    Side,
    Terms,
    Verdict,
    agreed,
    content_of,
    decide,
    found_same,
    is_kept_form,
    is_newer,
    yielded,
)
from services.writer.calls import stop_of
from services.writer.classify import Remembered, Superseded, Unchanged
from services.writer.conclude import Changes, Done, Result, conclude
from services.writer.pair_store import Agreed, Pair
from services.writer.rows import Rows
from services.writer.values import (
    ContactId,
    ImportRow,
    Integration,
    Kind,
    Link,
    LinkState,
    Task,
    Unit,
    View,
    Wanted,
    identity_key,
)

if TYPE_CHECKING:
    from services.writer.write import Turn

log = logs.get(__name__)

_VALUES = msgspec.json.Decoder(dict[str, Any])
Effects = list[tuple[Wanted, Task]]


@dataclass(slots=True)
class Paired:
    """An effect of a two-way integration; `content` is what it brings, in the common form.

    `linked` is the record by which the pair was found: merged away, it is not the pair's any more.
    """

    item: Wanted
    task: Task
    integration: Integration
    terms: Terms
    pair: Pair
    content: bytes
    values: Mapping[str, object]
    linked: str

    @property
    def here(self) -> Side:
        """Return which side the effect comes from."""
        return Side.REMOTE if self.integration.is_way_back else Side.SOURCE

    @property
    def record(self) -> str | None:
        """Return the id of what is written to; None: it is not known, or not there yet."""
        return self.pair.source_id if self.here is Side.REMOTE else self.pair.remote_id

    def now(self, seen: Seen) -> Agreed:
        """Return the pair as it is to be stored."""
        pair = Pair(self.pair.source_id, self.pair.remote_id, seen)
        return Agreed(self.integration.leading, pair, self.terms.version)


@dataclass(frozen=True, slots=True)
class Heir:
    """Whose link was taken over; `had_own`: in place of another one, with a pair of its own."""

    source_id: str
    had_own: bool


@dataclass(slots=True)
class Pairs:
    """What a turn knows of pairs; `stands` are contacts whose doubtful effect has happened.

    A pair goes with its link: `heirs` have taken over that of one who was merged into them, and
    stand for it from then on (`begun`: stored already, with what is pending). Whoever was `merged`
    has none.
    """

    paired: dict[ContactId, Paired] = field(default_factory=dict)
    stands: dict[ContactId, Result] = field(default_factory=dict)
    agreed: list[Agreed] = field(default_factory=list)
    fences: dict[UUID, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    moved: list[tuple[UUID, str, Task]] = field(default_factory=list)
    ended: dict[UUID, list[str]] = field(default_factory=lambda: defaultdict(list))
    heirs: dict[ContactId, Heir] = field(default_factory=dict)
    merged: dict[UUID, list[str]] = field(default_factory=lambda: defaultdict(list))
    begun: set[ContactId] = field(default_factory=set)

    def follow(self, link: Link, *, had_own: bool) -> None:
        """Note what a merge did to a link: the pair does the same."""
        if link.state is LinkState.REMOVED:
            self.merged[link.contact.integration].append(link.contact.source_id)
        elif link.taken_from is not None:
            # Merged twice within a turn: what is stored is still the first one's.
            former = self.heirs.pop(ContactId(link.contact.integration, link.taken_from), None)
            source_id = link.taken_from if former is None else former.source_id
            self.heirs[link.contact] = Heir(source_id, had_own)

    def pair_of(self, contact: ContactId, found: Mapping[str, Pair]) -> Pair:
        """Return a contact's pair out of those that are stored; nothing was seen of a new one."""
        own, heir = found.get(contact.source_id), self.heirs.get(contact)
        inherited = found.get(heir.source_id) if heir is not None else None
        if heir is not None and inherited is not None and (own is None or heir.had_own):
            return Pair(contact.source_id, inherited.remote_id, inherited.seen)
        return own or Pair(contact.source_id, None, Seen())

    def fence(self, each: Paired, remote: RemoteContact) -> None:
        """Let the other flow leave alone what it read before this was seen to stand there."""
        partner = each.integration.partner
        if partner is not None and each.record is not None:
            # Who was merged may be known there by the old record still; the survivor inherits it.
            known = {each.record, each.linked} if each.here is Side.REMOTE else {each.record}
            self.fences[partner] += [(record, remote.modified_ms) for record in sorted(known)]


class Pairing:
    """Compares and looks after; it owns no state."""

    def __init__(self, sessions: Transactions) -> None:
        self._sessions = sessions

    async def compare(self, turn: "Turn", effects: Effects) -> Effects:
        """Return the effects to be had, those of two-way integrations compared first."""
        view = turn.known.view
        own = [
            (item, task)
            for item, task in effects
            if view.integrations[item.contact.integration].is_two_way
        ]
        if not own or turn.destination is None:
            return effects
        paired = await self._find(view, own, turn.pairs)
        to_look = [each for each in paired.values() if _needs_look(each, view)]
        try:
            there = await _look(turn.destination, to_look)
        except LeaseLostError:
            raise
        except SyncError as error:
            # Nothing is sent that was not compared: all wait as for any other call.
            turn.stop = stop_of(error)
            there = {}
        ours = {item.contact for item, _ in own}
        kept: Effects = [each for each in effects if each[0].contact not in ours]
        for item, task in own:
            each = paired.get(item.contact)
            if each is None:
                _leave_alone(item, task, view, turn.changes)
                continue
            each.task = task
            decided = self._decide(turn, each, there)
            if decided is not None:
                turn.pairs.paired[item.contact] = each
                kept.append((item, decided))
        return kept

    async def begin(self, session: Transaction, turn: "Turn", tasks: Iterable[Task]) -> None:
        """Store what is about to be written, in the transaction that holds its units."""
        begun = _to_begin(turn, tasks)
        turn.pairs.begun.update(begun)
        if begun:
            pending = [
                each.now(each.pair.seen.with_pending(each.here.other, each.content))
                for each in begun.values()
            ]
            await pair_store.store(session, turn.account.workspace, pending)

    def has_to_begin(self, turn: "Turn", tasks: Iterable[Task]) -> bool:
        """Return whether anything of a pair is about to be written."""
        return bool(_to_begin(turn, tasks))

    async def look_after(self, turn: "Turn", results: Mapping[ContactId, Result]) -> None:
        """Read back what was written: that is what both sides have agreed on."""
        done = [
            each
            for contact, each in turn.pairs.paired.items()
            if isinstance(results.get(contact), Done)
        ]
        for each in done:
            if each.task.kind is Kind.LEAVE and each.here is Side.REMOTE:
                turn.pairs.ended[each.integration.leading].append(each.pair.source_id)
        written = [each for each in done if each.task.kind is not Kind.LEAVE]
        if not written or turn.destination is None:
            return
        try:
            there = await _look(turn.destination, written, is_written=True)
        except LeaseLostError:
            raise
        except SyncError as error:
            # What was pending stays so, and is known by that.
            log.info("pairs_not_read_back", contacts=len(written), error=type(error).__name__)
            return
        for each in written:
            remote = there.get(each.item.contact)
            if remote is not None:
                _agree(turn.pairs, each, remote)

    async def settle(self, session: Transaction, turn: "Turn") -> None:
        """Store what was agreed on, in the transaction that links and charges."""
        pairs = turn.pairs
        for contact, heir in pairs.heirs.items():
            if contact not in pairs.begun:
                await pair_store.inherit(
                    session,
                    contact.integration,
                    contact.source_id,
                    heir.source_id,
                    replaces=heir.had_own,
                )
        for integration, source_ids in pairs.merged.items():
            await pair_store.forget(session, integration, source_ids)
        if pairs.agreed:
            await pair_store.store(session, turn.account.workspace, pairs.agreed)
        for integration, written in pairs.fences.items():
            await pair_store.fence(session, integration, written)
        for integration, source_id, task in pairs.moved:
            await pair_store.move(session, integration, source_id, task.identity)
        for integration, source_ids in pairs.ended.items():
            await pair_store.end(session, integration, source_ids)

    async def settle_units(
        self, session: Transaction, units: Sequence[Unit], happened: Sequence[bool]
    ) -> None:
        """Account for doubtful writes that a look has settled, in the same transaction."""
        tasks = [
            (unit.task, has_happened)
            for unit, has_happened in zip(units, happened, strict=True)
            if unit.task.is_paired and unit.task.kind is not Kind.LEAVE
        ]
        if not tasks:
            return
        flows = await store.integrations(session, {task.integration for task, _ in tasks})
        groups: dict[tuple[UUID, bool], dict[str, bytes]] = defaultdict(dict)
        for task, has_happened in tasks:
            flow = flows.get(task.integration)
            source_id = task.record if flow and flow.is_way_back else task.source_id
            if flow is not None and source_id is not None:
                groups[task.integration, has_happened][source_id] = task.content_hash
        for (integration, has_happened), contents in groups.items():
            flow = flows[integration]
            await pair_store.settle(
                session,
                flow.leading,
                contents,
                is_way_back=flow.is_way_back,
                happened=has_happened,
            )

    async def _find(self, view: View, own: Effects, known: Pairs) -> dict[ContactId, Paired]:
        """Return the pairs of these contacts; of a way back, who has none is left out (S2)."""
        by_integration: dict[UUID, Effects] = defaultdict(list)
        for item, task in own:
            by_integration[item.contact.integration].append((item, task))

        async def work(session: Transaction) -> dict[ContactId, Paired]:
            found: dict[ContactId, Paired] = {}
            for id_, effects in by_integration.items():
                integration = view.integrations[id_]
                terms = (await pair_store.terms(session, [integration.leading])).get(
                    integration.leading
                )
                if terms is None:
                    continue
                pairs = await _pairs(session, view, integration, terms, effects, known)
                for item, task in effects:
                    pair = pairs.get(item.contact.source_id)
                    if pair is not None:
                        found[item.contact] = _paired(item, task, integration, terms, pair)
            return found

        return await transact(self._sessions, work)

    def _decide(
        self, turn: "Turn", each: Paired, there: Mapping[ContactId, RemoteContact | None]
    ) -> Task | None:
        """Return the effect to be had; None if there is none, which is concluded."""
        view, task, contact = turn.known.view, each.task, each.item.contact
        guarded = replace(task, is_paired=True, record=each.record, content_hash=each.content)
        if contact not in there:
            if turn.stop is not None or task.kind is Kind.LEAVE or not _is_there(each):
                return guarded
            # Not looked at: it says nothing new, whatever stands there.
            _conclude_echo(turn, each)
            return None
        remote = there[contact]
        if remote is None:
            _leave_alone(each.item, task, view, turn.changes)
            return None
        each.pair = _named(each, remote)
        if _has_lost_its_address(each, remote):
            _reject(turn, each, Reject.NO_IDENTITY)
            return None
        if task.kind is Kind.MOVE and not _may_move(each, remote, view):
            _refuse_move(turn, each)
            return None
        values = _compared(each, remote)
        guarded = replace(guarded, record=each.record, content_hash=each.content)
        verdict = _verdict(each, values, remote.modified_ms)
        if verdict is Verdict.YIELD:
            turn.pairs.fence(each, remote)
        return self._carry_out(turn, each, verdict, guarded, values)

    def _carry_out(
        self,
        turn: "Turn",
        each: Paired,
        verdict: Verdict,
        task: Task,
        there: Mapping[str, object],
    ) -> Task | None:
        """Do what was decided: return the effect that differs, or conclude without one."""
        if verdict is Verdict.YIELD:
            turn.pairs.agreed.append(each.now(yielded(each.pair.seen, each.here, each.content)))
        if task.kind is Kind.MOVE:
            # The address moves in any case; the other fields as was decided.
            is_new = verdict is Verdict.WRITE
            return _addressed(each, _narrowed(each, task, there if is_new else each.values))
        if verdict is Verdict.WRITE:
            narrowed = _narrowed(each, task, there)
            unit = turn.account.units.get(task.contact)
            if unit is not None:
                turn.account.units[task.contact] = replace(unit, task=_of(unit, narrowed))
            return narrowed
        if verdict is Verdict.AGREE:
            seen = found_same(each.pair.seen, each.here, each.content)
            turn.pairs.agreed.append(each.now(seen))
            if task.contact in turn.account.units:
                turn.pairs.stands[task.contact] = Done()
                return task
        if verdict is Verdict.YIELD:
            _give_back(turn, each)
            if not task.is_extra:
                conclude(each.item, Superseded(), turn.known.view, turn.changes)
            return None
        _conclude_echo(turn, each)
        return None


async def agree_on(session: Transaction, workspace: UUID, rows: Rows) -> None:
    """Store what an import has brought to new contacts as agreed on, in the same transaction.

    Else an edit at the destination would give way until the way back has seen each of them: it may
    have read the account before they were linked.
    """
    concerned = {head.part.integration for head in set(rows.heads)}
    for flow in (await store.integrations(session, concerned)).values():
        if not flow.is_two_way or flow.is_way_back:
            continue
        terms = (await pair_store.terms(session, [flow.leading])).get(flow.leading)
        agreed_on = [
            _brought(row, terms)
            for row in rows
            if row.contact.integration == flow.integration
            and terms is not None
            and row.head.mapping_version == terms.version
        ]
        await pair_store.store(session, workspace, agreed_on)


def _to_begin(turn: "Turn", tasks: Iterable[Task]) -> dict[ContactId, Paired]:
    """Return the pairs of which something is about to be written."""
    paired = turn.pairs.paired
    return {
        task.contact: paired[task.contact]
        for task in tasks
        if task.contact in paired and task.kind is not Kind.LEAVE
    }


def _brought(row: ImportRow, terms: Terms) -> Agreed:
    """Return the pair of a contact that stands as it was sent, as was seen; its id is not known."""
    content = content_of(terms.values(Side.REMOTE, _VALUES.decode(row.write.attributes or b"{}")))
    seen = Seen(source=content, remote=content)
    return Agreed(row.contact.integration, Pair(row.contact.source_id, None, seen), terms.version)


async def _pairs(
    session: Transaction,
    view: View,
    integration: Integration,
    terms: Terms,
    effects: Effects,
    known: Pairs,
) -> dict[str, Pair]:
    """Return by source id the pairs of these; of the flow that leads there, everybody has one."""
    if integration.is_way_back:
        addresses = {
            item.contact.source_id: None
            # Only who is known by the contact's own id is deleted: an address may be another's.
            if task.kind is Kind.LEAVE
            else _address_of(item, view)
            for item, task in effects
        }
        return await pair_store.pairs_by_contact(
            session, integration.leading, addresses, terms.version
        )
    contacts = [item.contact for item, _ in effects]
    inherited = [known.heirs[each].source_id for each in contacts if each in known.heirs]
    wanted = [*(each.source_id for each in contacts), *inherited]
    found = await pair_store.pairs_of(session, integration.leading, wanted, terms.version)
    return {each.source_id: known.pair_of(each, found) for each in contacts}


def _address_of(item: Wanted, view: View) -> str | None:
    """Return the address that a contact was written to; its own one, if it never was linked."""
    link = view.links.get(item.contact)
    return link.key if link is not None and link.key is not None else identity_key(item.identity)


def _paired(item: Wanted, task: Task, integration: Integration, terms: Terms, pair: Pair) -> Paired:
    there = Side.SOURCE if integration.is_way_back else Side.REMOTE
    values = terms.values(there, _VALUES.decode(item.attributes or b"{}"))
    content = content_of(values)
    return Paired(item, task, integration, terms, pair, content, values, pair.source_id)


def _is_there(each: Paired) -> bool:
    """Return whether the other side has the contact by what we know: then it is compared."""
    return each.here is Side.REMOTE or each.task.known_as is not None


def _needs_look(each: Paired, view: View) -> bool:
    """Return whether the other side must be seen: not for who is new there, nor for an echo."""
    if each.task.kind is Kind.LEAVE:
        return False
    if not _is_there(each):
        return False
    is_doubtful = each.item.contact in view.units
    is_echo = each.pair.seen.holds(each.here, each.content)
    if each.here is Side.SOURCE and each.terms.lacks_phone(each.values):
        is_echo = False  # What it means, only the other side's phone tells (SF6).
    return is_doubtful or each.task.kind is Kind.MOVE or not is_echo


async def _look(
    destination: Destination, wanted: Sequence[Paired], *, is_written: bool = False
) -> dict[ContactId, RemoteContact | None]:
    """Return how these stand at the destination now: by their ids, else by their addresses."""
    records = cast("Records", destination)
    by_id = [each for each in wanted if each.record is not None]
    by_address = [each for each in wanted if each.record is None]
    found: dict[ContactId, RemoteContact | None] = {}
    # One integration after the other: contacts and leads have not the same fields.
    for id_ in dict.fromkeys(each.integration.integration for each in by_id):
        own = [each for each in by_id if each.integration.integration == id_]
        remotes = await records.read_records([str(each.record) for each in own], _names(own[0]))
        found |= {each.item.contact: one for each, one in zip(own, remotes, strict=True)}
    if by_address:
        addresses = [
            each.task.identity if is_written else each.task.known_as or each.task.identity
            for each in by_address
        ]
        remotes = await destination.read_back(addresses)
        found |= {each.item.contact: one for each, one in zip(by_address, remotes, strict=True)}
    return found


def _names(each: Paired) -> list[str]:
    there = each.here.other
    names = [term.name(there) for term in each.terms.fields]
    if there is Side.SOURCE and each.terms.address is not None:
        names.append(each.terms.address)
    return names


def _compared(each: Paired, remote: RemoteContact) -> dict[str, object]:
    """Return what stands on the other side, once both are told alike: a phone may stay (SF6)."""
    there = each.terms.values(each.here.other, remote.attributes)
    if each.here is Side.REMOTE:
        return each.terms.kept(there, each.values)
    each.values = each.terms.kept(each.values, there)
    each.content = content_of(each.values)
    return there


def _verdict(each: Paired, there: Mapping[str, object], there_ms: int) -> Verdict:
    seen, content = each.pair.seen, content_of(there)
    if is_kept_form(each.values, there) and not seen.holds(each.here.other, content):
        # The edit that stands there was written here already, which died before it was read back:
        # what was rounded on the way is no edit.
        return Verdict.AGREE
    return decide(seen, each.here, each.content, each.item.version.ms, content, there_ms)


def _named(each: Paired, remote: RemoteContact) -> Pair:
    """Return the pair with the id of what stands there: the survivor's, if it was merged."""
    if each.here is Side.REMOTE:
        return Pair(remote.id or each.pair.source_id, each.item.contact.source_id, each.pair.seen)
    return Pair(each.pair.source_id, remote.id or each.pair.remote_id, each.pair.seen)


def _has_lost_its_address(each: Paired, remote: RemoteContact) -> bool:
    """Return whether a record has no e-mail address any more: then it is left alone (SF5)."""
    address = each.terms.address
    return each.here is Side.REMOTE and address is not None and not remote.attributes.get(address)


def _narrowed(each: Paired, task: Task, there: Mapping[str, object]) -> Task:
    """Return an effect with the fields only that differ from what stands there."""
    side = each.here.other
    differ = {
        term.name(side)
        for term in each.terms.fields
        if each.values[term.remote] != there.get(term.remote)
    }
    given = msgspec.json.decode(each.item.attributes or b"{}", type=dict[str, msgspec.Raw])
    kept = {name: value for name, value in given.items() if name in differ}
    return replace(task, attributes=msgspec.Raw(msgspec.json.encode(kept)))


def _addressed(each: Paired, task: Task) -> Task:
    """Return a move with the new address among its fields, where a record keeps it as one."""
    if each.here is Side.SOURCE or each.terms.address is None:
        return task
    fields = msgspec.json.decode(task.attributes, type=dict[str, Any])
    named = {**fields, each.terms.address: task.identity.email}
    return replace(task, attributes=msgspec.Raw(msgspec.json.encode(named)))


def _may_move(each: Paired, remote: RemoteContact, view: View) -> bool:
    """Return whether a changed address goes on: where both were changed, the newer one does."""
    if each.here is Side.SOURCE or each.terms.address is None:
        return True
    stands = str(remote.attributes.get(each.terms.address)).lower()
    link = view.links.get(each.item.contact)
    if stands in (link.key if link else None, identity_key(each.item.identity)):
        return True
    return is_newer(each.here, each.item.version.ms, remote.modified_ms)


def _refuse_move(turn: "Turn", each: Paired) -> None:
    """Let an address stay where it is: the record's own flow brings the newer one here."""
    contact = each.item.contact
    link = turn.known.view.links[contact]
    turn.changes.links[contact] = replace(link, refused=identity_key(each.item.identity))
    _give_back(turn, each)
    conclude(each.item, Superseded(), turn.known.view, turn.changes)


def _of(unit: Unit, task: Task) -> Task:
    """Return a unit's effect with the fields of another one: it is charged as it was held."""
    return replace(unit.task, attributes=task.attributes, record=task.record, is_paired=True)


def _agree(pairs: Pairs, each: Paired, remote: RemoteContact) -> None:
    """Note what stands on both sides now, and that the other flow knows nothing newer."""
    each.pair = _named(each, remote)
    values = _compared(each, remote)
    pairs.agreed.append(each.now(agreed(each.here, each.content, content_of(values))))
    pairs.fence(each, remote)
    partner, moved = each.integration.partner, each.record
    if each.task.kind is Kind.MOVE and partner is not None and moved is not None:
        pairs.moved.append((partner, moved, each.task))


def _leave_alone(item: Wanted, task: Task, view: View, changes: Changes) -> None:
    """Conclude a contact that is not on the other side: nobody is created there, or again (S2)."""
    unit = view.units.get(item.contact)
    if unit is not None:
        changes.release(unit)
    if task.is_extra:
        return
    link = view.links.get(item.contact)
    kept = None if link is None else link.at_least(item.version, item.wish)
    conclude(item, Remembered(kept, None), view, changes)


def _reject(turn: "Turn", each: Paired, reason: Reject) -> None:
    _give_back(turn, each)
    if not each.task.is_extra:
        link = turn.known.view.links.get(each.item.contact)
        conclude(each.item, Remembered(link, reason), turn.known.view, turn.changes)


def _conclude_echo(turn: "Turn", each: Paired) -> None:
    """Conclude a contact that holds nothing new: it is linked, and costs nothing.

    What was to be written there is not any more: as an edit over there it would be one.
    """
    _give_back(turn, each)
    is_unnamed = each.here is Side.REMOTE and each.pair.remote_id is None
    if is_unnamed:
        # An import tells no ids. Only by its id a contact is known that is deleted later (SF9).
        each.pair = Pair(each.pair.source_id, each.item.contact.source_id, each.pair.seen)
    if is_unnamed or each.pair.seen.is_pending(each.here.other):
        turn.pairs.agreed.insert(0, each.now(each.pair.seen.without_pending(each.here.other)))
    if each.task.is_extra:
        return
    item, view = each.item, turn.known.view
    link = view.links.get(item.contact)
    if link is None or link.state is not LinkState.LINKED:
        link = Link(item.contact, LinkState.LINKED, item.version, item.wish, each.task.identity)
    unchanged = Unchanged(
        link.at_least(item.version, item.wish), is_refused_change=each.task.is_refused_change
    )
    conclude(item, unchanged, view, turn.changes)


def _give_back(turn: "Turn", each: Paired) -> None:
    """Release a unit from before whose effect is not to be had any more."""
    unit = turn.account.units.get(each.item.contact)
    if unit is not None and not each.task.is_extra:
        turn.changes.release(unit)
