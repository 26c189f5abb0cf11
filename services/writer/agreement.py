"""What two sides of a contact have agreed on, and which of them gives way: pure.

A two-way integration is two flows over one pair: a record at the source, a contact at the
destination. Each flow compares before it writes. What it compares is *content*: the mapped values
of one side in a form that both sides have in common (a phone's digits, a date's day, text without
blanks around it, nothing for whatever is empty), as 16 bytes.

A pair remembers of each side the content that is accounted for: written there by us, or found to be
the same. A side that holds it has nothing to say; a side that holds anything else was edited. So an
echo is known by content, whoever reads it, how often and how late (SF10). Only if both sides were
edited do clocks decide: the newer edit stands, by its provider's clock in whole seconds (Salesforce
knows no smaller ones), and on a tie the source's (docs/decisions/0131).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec.structs import replace

from libs.common import phone
from libs.common.errors import ContactRejectedError
from libs.common.moments import moment_of
from libs.connectors.contract import FieldType

CONTENT_BYTES = 16
_SECOND_MS = 1_000
_DATES = frozenset({FieldType.DATE, FieldType.DATETIME})


class Side(StrEnum):
    """The two ends of a pair."""

    SOURCE = "source"
    REMOTE = "remote"

    @property
    def other(self) -> "Side":
        """Return the other end."""
        return Side.REMOTE if self is Side.SOURCE else Side.SOURCE


@dataclass(frozen=True, slots=True)
class Term:
    """One mapped field of both sides: what it is called there, and of which type."""

    source: str
    source_type: FieldType
    remote: str
    remote_type: FieldType

    def name(self, side: Side) -> str:
        """Return what the field is called on a side."""
        return self.source if side is Side.SOURCE else self.remote

    @property
    def types(self) -> frozenset[FieldType]:
        """Return the types of both sides."""
        return frozenset({self.source_type, self.remote_type})


@dataclass(frozen=True, slots=True)
class Terms:
    """The fields that a pair agrees on, by one mapping version.

    Its address is not one of them: `address` is what that is called at the source.
    """

    version: int
    fields: Sequence[Term]
    default_country: str | None
    address: str | None = None

    def values(self, side: Side, given: Mapping[str, Any]) -> dict[str, object]:
        """Return a side's values in the common form, by their names at the destination."""
        return {
            each.remote: _common(each.types, given.get(each.name(side)), self.default_country)
            for each in self.fields
        }

    def kept(self, source: Mapping[str, object], remote: Mapping[str, object]) -> dict[str, object]:
        """Return the source's values with the other side's phones where it has none.

        A phone that is emptied there is not emptied here, and none comes back for it (SF6).
        """
        phones = {each.remote for each in self.fields if FieldType.PHONE in each.types}
        return {
            name: remote.get(name) if value is None and name in phones else value
            for name, value in source.items()
        }

    def lacks_phone(self, source: Mapping[str, object]) -> bool:
        """Return whether the source has no value for some phone: the other side's counts then."""
        return any(
            source.get(each.remote) is None for each in self.fields if FieldType.PHONE in each.types
        )


def content_of(values: Mapping[str, object]) -> bytes:
    """Return the 16 bytes that values in the common form are compared by."""
    body = msgspec.json.encode(sorted(values.items()))
    return blake2b(body, digest_size=CONTENT_BYTES).digest()


def _common(types: frozenset[FieldType], value: object, country: str | None) -> object:
    """Return a value in the form that is the same on both sides; None for nothing."""
    if isinstance(value, list):
        return sorted(map(str, value)) or None
    if value is None or isinstance(value, bool):
        return value
    text = str(value).strip()
    if FieldType.PHONE in types:
        return _digits(text, country)
    if types & _DATES:
        moment = moment_of(text)
        return moment.date().isoformat() if moment else text or None
    if FieldType.NUMBER in types:
        return _number(text)
    return (text.lower() if FieldType.EMAIL in types else text) or None


def _digits(text: str, country: str | None) -> str | None:
    if not text:
        return None
    try:
        return phone.normalise(text, country).removeprefix("+")
    except ContactRejectedError:
        digits = "".join(each for each in text if each.isdecimal())
        return digits.removeprefix("00") or text


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text or None


def is_kept_form(kept: Mapping[str, object], given: Mapping[str, object]) -> bool:
    """Return whether `kept` is what becomes of `given` where numbers have fewer decimal places.

    If `given` is an edit that nobody has accounted for, it has been written here and was rounded.
    """
    return kept.keys() == given.keys() and all(
        _is_rounded(value, given[name]) for name, value in kept.items()
    )


def _is_rounded(kept: object, given: object) -> bool:
    if not isinstance(kept, float) or not isinstance(given, float):
        return kept == given
    places = int(Decimal(str(kept)).normalize().as_tuple().exponent)
    last_place = Decimal(1).scaleb(min(places, 0))
    return abs(Decimal(str(given)) - Decimal(str(kept))) <= last_place / 2


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a pair has accounted for of each side; `pending_…` is what a flow may be writing there.

    None means that whatever stands there counts as an edit. A pair of which nothing is seen on
    either side has never agreed: then the source's content stands.
    """

    source: bytes | None = None
    remote: bytes | None = None
    pending_source: bytes | None = None
    pending_remote: bytes | None = None

    def of(self, side: Side) -> bytes | None:
        """Return what is accounted for of a side."""
        return self.source if side is Side.SOURCE else self.remote

    def holds(self, side: Side, content: bytes) -> bool:
        """Return whether a content says nothing new of a side: accounted for, or our own write."""
        pending = self.pending_source if side is Side.SOURCE else self.pending_remote
        return content in (self.of(side), pending)

    def is_pending(self, side: Side) -> bool:
        """Return whether something may be under way to a side."""
        return (self.pending_source if side is Side.SOURCE else self.pending_remote) is not None

    def with_pending(self, side: Side, content: bytes | None) -> "Seen":
        """Return it with what may be under way to a side from now on."""
        if side is Side.SOURCE:
            return replace(self, pending_source=content)
        return replace(self, pending_remote=content)

    def without_pending(self, side: Side) -> "Seen":
        """Return it with nothing under way to a side."""
        return self.with_pending(side, None)

    @property
    def is_new(self) -> bool:
        """Return whether the sides have never agreed."""
        return self.source is None and self.remote is None


class Verdict(StrEnum):
    """What a flow does with a content that it brings to the other side."""

    AGREE = "agree"  # Both hold the same: nothing is written, and both are accounted for.
    ECHO = "echo"  # It says nothing new: nothing happens.
    WRITE = "write"
    YIELD = "yield"  # The other side's edit stands; its own flow brings it here.


def decide(
    seen: Seen, here: Side, content: bytes, at_ms: int, there: bytes, there_ms: int
) -> Verdict:
    """Return what a flow from `here` does: it brings `content`, and `there` stands opposite.

    Times are the providers' own, of the last modification of each.
    """
    if content == there:
        return Verdict.AGREE
    if seen.is_new and not seen.holds(here, content):
        return Verdict.WRITE if here is Side.SOURCE else Verdict.YIELD
    if seen.holds(here, content):
        return Verdict.ECHO
    if seen.holds(here.other, there):
        return Verdict.WRITE
    return Verdict.WRITE if is_newer(here, at_ms, there_ms) else Verdict.YIELD


def is_newer(here: Side, at_ms: int, there_ms: int) -> bool:
    """Return whether an edit from `here` stands against one opposite: on a tie the source's."""
    at_s, there_s = at_ms // _SECOND_MS, there_ms // _SECOND_MS
    return at_s >= there_s if here is Side.SOURCE else at_s > there_s


def found_same(seen: Seen, here: Side, content: bytes) -> Seen:
    """Return what is seen once both sides were found to hold the same.

    Only `here` is accounted for. What stands opposite may be an edit of its own that came to the
    same, and `here` may be edited again already: then the two contend, by their clocks.
    """
    there = content if seen.holds(here.other, content) else seen.of(here.other)
    return (
        Seen(source=content, remote=there)
        if here is Side.SOURCE
        else Seen(source=there, remote=content)
    )


def agreed(here: Side, content: bytes, there: bytes) -> Seen:
    """Return what is seen once one side was written to the other: both are accounted for."""
    if here is Side.SOURCE:
        return Seen(source=content, remote=there)
    return Seen(source=there, remote=content)


def yielded(seen: Seen, here: Side, content: bytes) -> Seen:
    """Return what is seen once `here` has given way: the other side has yet to be carried.

    Whatever it holds by then counts as an edit, also what it held before: it may be taken back
    before its flow reads it, and must come here nevertheless. A pair that never agreed stays so.
    """
    if seen.is_new:
        return seen
    return Seen(source=content) if here is Side.SOURCE else Seen(remote=content)
