"""Map one part of a provider page: every contact of it comes out as exactly one thing.

Pure. Promises: an effect, a filtered or a rejected entry for each change, none lost; one contact's
mistake is one rejected contact; what comes out fits a record of the broker.
"""

from collections.abc import Sequence
from operator import attrgetter
from uuid import UUID

from libs.common.events import (
    EFFECT_BYTES,
    EMAIL_CHARACTERS_MAX,
    MAPPED_BYTES_MAX,
    Changed,
    Effect,
    Mapped,
)
from libs.common.reasons import Reject
from services.mapper.map_contact import MapContacts

Rejected = tuple[str, int, str]

_merged_from = attrgetter("merged_from")


def map_page(changed: Changed, map_contacts: MapContacts, *, destination: UUID) -> Mapped:
    """Return the part as its mapping version wants it."""
    outcomes = map_contacts(changed.changes)
    effects = [outcome for outcome in outcomes if isinstance(outcome, Effect)]
    rejected: list[Rejected] = []
    filtered: list[tuple[str, int]] = []
    if len(effects) < len(changed.changes):  # As of few pages.
        for change, outcome in zip(changed.changes, outcomes, strict=True):
            if isinstance(outcome, Reject):
                rejected.append((change.id, change.version_ms, outcome.value))
            elif not isinstance(outcome, Effect):
                filtered.append((change.id, change.version_ms))
    effects, too_large = fit(effects, bytes_max=MAPPED_BYTES_MAX)
    return _mapped(
        changed, destination, effects=effects, rejected=rejected + too_large, filtered=filtered
    )


def reject_page(changed: Changed, reason: Reject, *, destination: UUID) -> Mapped:
    """Return the part with all its contacts rejected for one reason."""
    rejected = [(change.id, change.version_ms, reason.value) for change in changed.changes]
    return _mapped(changed, destination, rejected=rejected)


def fit(effects: Sequence[Effect], *, bytes_max: int) -> tuple[list[Effect], list[Rejected]]:
    """Return the effects that fit together, in order, and the heaviest others as rejected.

    A source field may feed several attributes, so a part can be larger after mapping than before.
    """
    if _surely_fit(effects, bytes_max):
        return list(effects), []
    weights = [_weight(effect) for effect in effects]
    excess = sum(weights) - bytes_max
    refused: set[int] = set()
    for number in sorted(range(len(effects)), key=weights.__getitem__, reverse=True):
        if excess <= 0:
            break
        refused.add(number)
        excess -= weights[number]
    kept = [effect for number, effect in enumerate(effects) if number not in refused]
    rejected = [
        (effects[number].id, effects[number].version_ms, Reject.VALUE_TOO_LONG.value)
        for number in sorted(refused)
    ]
    return kept, rejected


def _surely_fit(effects: Sequence[Effect], bytes_max: int) -> bool:
    """Return whether they fit whatever their addresses and ids weigh: nearly always they do."""
    if any(map(_merged_from, effects)):
        return False
    # Put together and thrown away: a quarter of the time of asking each how long it is.
    attributes = len(b"".join([effect.attributes for effect in effects]))
    return attributes + len(effects) * (EFFECT_BYTES + EMAIL_CHARACTERS_MAX) <= bytes_max


def _weight(effect: Effect) -> int:
    return (
        EFFECT_BYTES
        + len(memoryview(effect.attributes))
        + len(effect.identity.email or "")
        + sum(len(merged) + 3 for merged in effect.merged_from)
    )


def _mapped(
    changed: Changed,
    destination: UUID,
    *,
    effects: Sequence[Effect] = (),
    rejected: Sequence[Rejected] = (),
    filtered: Sequence[tuple[str, int]] = (),
) -> Mapped:
    return Mapped(
        id=changed.id,
        workspace=changed.workspace,
        integration=changed.integration,
        destination=destination,
        run=changed.run,
        run_no=changed.run_no,
        mode=changed.mode,
        fencing=changed.fencing,
        page=changed.page,
        part=changed.part,
        mapping_version=changed.mapping_version,
        effects=list(effects),
        rejected=list(rejected),
        filtered=list(filtered),
    )
