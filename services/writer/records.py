"""A record's contacts as they are wanted."""

from collections.abc import Iterator

from libs.common.events import Effect, Mapped, Operation
from services.writer.values import ContactId, PartId, Version, Wanted, Wish, shared

_WISHES = {
    Operation.UPSERT: Wish.UPSERT,
    Operation.DELETE: Wish.DELETE,
    Operation.LEAVE: Wish.LEAVE,
}


def part_of(record: Mapped) -> PartId:
    """Return what a record's outcomes are counted by."""
    integration, run = shared(record.integration), shared(record.run)
    return PartId(integration, run, record.run_no, record.page, record.part)


def wanted_in(record: Mapped) -> Iterator[Wanted]:
    """Return every contact of a record as it is wanted."""
    part = part_of(record)
    for effect in record.effects:
        yield wanted_of(effect, record, part)
    yield from left_out_of(record, part)


def wanted_of(effect: Effect, record: Mapped, part: PartId) -> Wanted:
    """Return one contact of a record as it is wanted."""
    return Wanted(
        contact=ContactId(part.integration, effect.id),
        wish=_WISHES[effect.op],
        version=Version(effect.version_ms, record.run_no),
        part=part,
        mapping_version=record.mapping_version,
        identity=effect.identity,
        attributes=bytes(effect.attributes),
        hash=effect.hash,
        merged_from=effect.merged_from,
        fencing=record.fencing,
    )


def left_out_of(record: Mapped, part: PartId) -> Iterator[Wanted]:
    """Return the contacts of a record that the mapper rejected or filtered."""
    for source_id, version_ms, reason in record.rejected:
        yield Wanted(
            contact=ContactId(part.integration, source_id),
            wish=Wish.REJECTED,
            version=Version(version_ms, record.run_no),
            part=part,
            mapping_version=record.mapping_version,
            reason=reason,
        )
    for source_id, version_ms in record.filtered:
        yield Wanted(
            contact=ContactId(part.integration, source_id),
            wish=Wish.FILTERED,
            version=Version(version_ms, record.run_no),
            part=part,
            mapping_version=record.mapping_version,
        )
