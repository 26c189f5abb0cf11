"""Compiled mapping versions, kept because they are immutable.

Promises: a mapping version is parsed once and compiled once for each set of fields that pages
were read with; memory is bounded; a stored mapping that can not be read is MappingError and
concerns its own integration only.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar
from uuid import UUID

import msgspec

from libs.common import criteria
from libs.common.criteria import Criteria
from libs.connectors.contract import FieldType
from services.mapper.map_contact import FieldMapping, MapContacts, MappingVersion, compile_mapping
from services.mapper.store import StoredMapping

# Some 20 KB each, mostly the generated decoder.
COMPILED_MAX = 500

Key = TypeVar("Key", bound=Hashable)
Kept = TypeVar("Kept")


class MappingError(Exception):
    """A stored mapping version that is none; the API refuses such, so this is damage."""

    def __init__(self, *, what: str) -> None:
        super().__init__(f"stored mapping: {what}")


class _StoredField(msgspec.Struct, frozen=True):
    source: str
    destination: str
    destination_type: FieldType
    length_max: int | None = None


_FIELDS = msgspec.json.Decoder(list[_StoredField])


class Newest(Generic[Key, Kept]):
    """What was made last, up to a number."""

    def __init__(self, kept_max: int) -> None:
        self._kept: dict[Key, Kept] = {}
        self._kept_max = kept_max

    def get(self, key: Key, make: Callable[[], Kept]) -> Kept:
        """Return what is kept under a key, made now if it is not."""
        if key not in self._kept:
            made = make()
            while len(self._kept) >= self._kept_max:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = made
        return self._kept[key]

    def __contains__(self, key: object) -> bool:
        """Return whether a key is kept."""
        return key in self._kept


class Mappings:
    """What turns contacts into effects, by integration, mapping version and what was asked for."""

    def __init__(self) -> None:
        self._stored: Newest[tuple[UUID, int], StoredMapping] = Newest(COMPILED_MAX)
        self._compiled: Newest[Hashable, MapContacts] = Newest(COMPILED_MAX)

    def missing(self, integration: UUID, versions: Sequence[int]) -> set[int]:
        """Return which of these versions must be loaded."""
        return {version for version in versions if (integration, version) not in self._stored}

    def keep(self, integration: UUID, version: int, mapping: StoredMapping) -> None:
        """Take a version that was loaded."""
        self._stored.get((integration, version), lambda: mapping)

    def compiled(
        self,
        integration: UUID,
        version: int,
        *,
        default_country: str | None,
        asked_for: Sequence[str],
        phones_stay: bool = False,
    ) -> MapContacts:
        """Return what maps contacts; raise MappingError if the version is damaged or missing."""

        def make() -> MapContacts:
            if (integration, version) not in self._stored:
                raise MappingError(what="no such version")
            stored = self._stored.get((integration, version), _never)
            mapping = replace(parse(stored, default_country), phones_stay=phones_stay)
            try:
                return compile_mapping(mapping, asked_for)
            except ValueError as error:
                raise MappingError(what=str(error)) from error

        # The default country is a setting of the integration and may change under one version.
        key = (integration, version, default_country, tuple(asked_for), phones_stay)
        return self._compiled.get(key, make)


def _never() -> StoredMapping:
    raise AssertionError


def parse(stored: StoredMapping, default_country: str | None) -> MappingVersion:
    """Return a mapping version from its stored JSON; raise MappingError if it is damaged."""
    try:
        fields = _FIELDS.decode(stored.fields)
        conditions = _criteria(stored.criteria)
    except (msgspec.DecodeError, criteria.CriteriaError) as error:
        raise MappingError(what=str(error)) from error
    return MappingVersion(
        tuple(
            FieldMapping(field.source, field.destination, field.destination_type, field.length_max)
            for field in fields
        ),
        conditions,
        default_country,
    )


def _criteria(document: str | None) -> Criteria | None:
    parsed = msgspec.json.decode(document) if document is not None else None
    return criteria.parse(parsed) if parsed is not None else None
