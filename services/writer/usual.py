"""The usual cases, by columns: who is unchanged, and who is new (PROTOCOL.md 5, 2).

Most contacts of a large batch stand at the destination as they are wanted, or were never heard of.
Nothing said of these depends on another contact, so they are sorted out here, at a small part of
what `classify` costs for each; it decides on the rest, and would decide the same on these.

A contact is usual only if it is an upsert, alone of its name and of its address in the batch, and
has no parked row and no open unit. A batch with a merge in it has no usual contacts.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import repeat
from uuid import UUID

from libs.common import ids
from libs.common.events import Effect, Mapped, Operation
from libs.connectors.contract import Write
from services.writer.account import Account
from services.writer.conclude import Moved
from services.writer.records import left_out_of, part_of, wanted_of
from services.writer.rows import Rows
from services.writer.values import (
    Head,
    Integration,
    IntegrationState,
    Kind,
    PartId,
    Run,
    Seen,
    Wanted,
)

USUAL_FROM = 50  # Of fewer contacts the general way costs less than looking twice.


@dataclass(frozen=True, slots=True)
class Column:
    """The contacts of one integration in a batch: their records, addresses, and who is not alone.

    `addresses` has every contact; one that is not written to an address has an empty one.
    """

    records: list[Mapped] = field(default_factory=list)
    addresses: dict[str, str] = field(default_factory=dict)
    twice: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Usual:
    """A batch sorted out: `rest` is for the general way, in its order."""

    unchanged: dict[PartId, int] = field(default_factory=dict)
    moved: list[Moved] = field(default_factory=list)
    firsts: Rows = field(default_factory=Rows)
    rest: list[Wanted] = field(default_factory=list)

    def add(self, other: "Usual") -> None:
        """Take in what was sorted out of another integration."""
        self.unchanged |= other.unchanged
        self.moved += other.moved
        self.firsts.extend(other.firsts)
        self.rest += other.rest


def columns(records: Sequence[Mapped]) -> dict[UUID, Column]:
    """Return a batch by its integrations; empty if it is small, or if contacts were merged."""
    size = sum(len(record.effects) for record in records)
    if size < USUAL_FROM or any(each.merged_from for own in records for each in own.effects):
        return {}
    found: dict[UUID, Column] = defaultdict(Column)
    taken: dict[UUID, list[str]] = defaultdict(list)
    for record in records:
        column = found[record.integration]
        column.records.append(record)
        addresses, own = column.addresses, taken[record.integration]
        for effect in record.effects:
            email = effect.identity.email
            address = email.lower() if email else effect.identity.sms or ""
            own.append(address)
            if effect.id in addresses:
                column.twice.add(effect.id)
            addresses[effect.id] = address
        left_out = [each[0] for each in record.rejected] + [each[0] for each in record.filtered]
        for source_id in left_out:
            if source_id in addresses:
                column.twice.add(source_id)
            addresses[source_id] = ""
    for integration, column in found.items():
        counted = Counter(taken[integration])
        if len(counted) < len(taken[integration]):
            column.shared.update(each for each, count in counted.items() if count > 1)
    return dict(found)


def sort_column(
    column: Column,
    seen: Seen,
    integration: Integration | None,
    runs: Mapping[UUID, Run],
    account: Account,
    *,
    takes_firsts: bool,
    is_late: bool = False,
) -> Usual:
    """Return who of an integration's contacts is unchanged or new, and who needs a closer look.

    `takes_firsts`: new contacts may be written now. `is_late`: outside the sums of their runs.
    """
    usual = Usual()
    takes_firsts = (
        takes_firsts and integration is not None and integration.state is IntegrationState.ACTIVE
    )
    busy = _busy(column, seen, account)
    taken = _taken(column, seen, account) if takes_firsts else None
    for record in column.records:
        part = part_of(record)
        run = runs.get(record.run)
        if (
            integration is None
            or integration.state is IntegrationState.ARCHIVED
            or integration.is_two_way  # Each is compared with the other side.
            or (run is not None and run.is_outdated)
        ):
            usual.rest += [wanted_of(effect, record, part) for effect in record.effects]
        else:
            head = Head(part, record.mapping_version, integration.list_id, is_late)
            _sort_record(record, head, column, seen, busy, taken, usual)
        usual.rest += left_out_of(record, part)
    return usual


def _busy(column: Column, seen: Seen, account: Account) -> AbstractSet[str]:
    """Return whose case is not usual, by source ids: twice in the batch, parked, or under way."""
    integration = column.records[0].integration
    units = {each.source_id for each in account.units if each.integration == integration}
    importing = account.importing.among(integration, column.addresses.keys())
    return column.twice | seen.parked.keys() | units | importing


def _taken(column: Column, seen: Seen, account: Account) -> AbstractSet[str]:
    """Return which addresses of the batch are not there to take."""
    integration = column.records[0].integration
    claims = {each.address for each in account.claims if each.integration == integration}
    rows = account.importing.taken(integration, set(column.addresses.values()))
    return column.shared.union(seen.owned, claims, rows)


def _sort_record(
    record: Mapped,
    head: Head,
    column: Column,
    seen: Seen,
    busy: AbstractSet[str],
    taken: AbstractSet[str] | None,
    usual: Usual,
) -> None:
    """Sort out the effects of one record; `taken` is None if nobody new may be written now.

    Who needs a closer look is left in the order of the record, by which addresses are judged. One
    loop without calls for the usual: at a hundred thousand contacts each call of one is felt.
    """
    part, links, run_no = head.part, seen.links, record.run_no
    new: list[Effect] = []
    addresses: list[str] = []
    source_ids: list[str] = []
    versions_ms: list[int] = []
    for effect in record.effects:
        source_id = effect.id
        if effect.op is Operation.UPSERT and source_id not in busy:
            link = links.get(source_id)
            if link is None:
                address = column.addresses[source_id]
                if taken is not None and effect.identity.email is not None and address not in taken:
                    new.append(effect)
                    addresses.append(address)
                    continue
            elif (
                link.is_plain
                and link.hash
                and link.hash == effect.hash
                and effect.version_ms >= link.version_ms
                and (run_no >= link.run_no or effect.version_ms > link.version_ms)
            ):
                source_ids.append(source_id)
                versions_ms.append(effect.version_ms)
                continue
        usual.rest.append(wanted_of(effect, record, part))
    if source_ids:
        usual.unchanged[part] = len(source_ids)
        usual.moved.append(Moved(part.integration, run_no, source_ids, versions_ms))
    if new:
        usual.firsts.extend(_firsts(new, addresses, record, head))


def _firsts(new: Sequence[Effect], addresses: Sequence[str], record: Mapped, head: Head) -> Rows:
    """Return new contacts' effects as rows: what `classify` makes tasks of."""
    keys = ids.EffectKeys(head.part.integration, record.run_no, Kind.UPSERT)
    upsert, list_id, joins_list = Operation.UPSERT, head.list_id, True
    return Rows(
        repeat(head, len(new)),
        [effect.id for effect in new],
        addresses,
        [
            # By keyword it would cost a third more.
            Write(upsert, effect.identity, bytes(effect.attributes), list_id, None, joins_list)
            for effect in new
        ],
        [effect.version_ms for effect in new],
        [effect.hash for effect in new],
        [
            keys.of(effect.id, effect.version_ms, address, effect.hash)
            for effect, address in zip(new, addresses, strict=True)
        ],
        repeat(False, len(new)),
    )
