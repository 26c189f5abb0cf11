"""People as the API shows them, and as it takes them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sandbox.google_contacts.contacts import FIELDS, LISTED_MAX, SINGLETONS, Contact, Parts
from sandbox.google_contacts.errors import invalid
from sandbox.google_contacts.state import Customer

CONTACT = "READ_SOURCE_TYPE_CONTACT"
SOURCES = (CONTACT, "READ_SOURCE_TYPE_PROFILE", "READ_SOURCE_TYPE_DOMAIN_CONTACT")
MASK_MISSING = (
    "personFields mask is required. Please specify one or more valid paths. Valid paths are"
    " documented at https://developers.google.com/people/api/rest/v1/people/get."
)
WRITABLE = frozenset(FIELDS) - {"ageRanges", "coverPhotos", "metadata", "photos"}


def mask_of(text: str, name: str = "personFields") -> list[str]:
    """Return a field mask's names; raises the 400 of one that is missing or has unknown names."""
    names = [each.strip().removeprefix("person.") for each in text.split(",") if each.strip()]
    if not names:
        raise invalid(MASK_MISSING.replace("personFields", name))
    unknown = [each for each in names if each not in FIELDS]
    if unknown:
        message = f'Invalid {name} mask path: "{unknown[0]}". Valid paths are documented.'
        raise invalid(message)
    return names


def written_at(at_us: int) -> str:
    """Return a moment as `updateTime` has it: UTC, to the microsecond."""
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def deleted(contact: Contact) -> dict[str, Any]:
    """Return how a sync read tells that a contact is gone."""
    return {
        "resourceName": f"people/{contact.id}",
        "etag": contact.etag,
        "metadata": {"deleted": True, "objectType": "PERSON"},
    }


def described(
    contact: Contact,
    names: Collection[str],
    *,
    sources: Collection[str] = SOURCES,
    is_sync: bool = False,
    is_listed: bool = False,
) -> dict[str, Any]:
    """Return a person with the fields of a mask; a field without values is left out."""
    told: dict[str, Any] = {"resourceName": f"people/{contact.id}", "etag": contact.etag}
    source = {"type": "CONTACT", "id": contact.source_id}
    if "metadata" in names:
        shown = {
            **source,
            "etag": f"#{contact.etag[3:14]}=",
            "updateTime": written_at(contact.updated_us),
        }
        told["metadata"] = {"sources": [shown], "objectType": "PERSON"}
        if is_sync and contact.previous:
            told["metadata"]["previousResourceNames"] = [f"people/{e}" for e in contact.previous]
    for name in names:
        if name == "memberships":
            items = [_membership(each, source) for each in contact.groups]
        else:
            items = _items(contact.parts.get(name, ()), source, sources)
        if is_listed and name in {"emailAddresses", "phoneNumbers"}:
            items = items[:LISTED_MAX]
        if items:
            told[name] = items
    return told


def _items(
    values: Sequence[Mapping[str, Any]], source: Mapping[str, str], sources: Collection[str]
) -> list[dict[str, Any]]:
    """Return a field's values; the first one is primary unless another says that it is."""
    shown = [dict(each) for each in values if f"READ_SOURCE_TYPE_{_source_type(each)}" in sources]
    has_primary = any(each.get("metadata", {}).get("primary") for each in shown)
    for index, each in enumerate(shown):
        known = {"source": source, **({"primary": True} if not (index or has_primary) else {})}
        each["metadata"] = {**known, **each.get("metadata", {})}
    return shown


def _source_type(value: Mapping[str, Any]) -> str:
    return str(value.get("metadata", {}).get("source", {}).get("type", "CONTACT"))


def _membership(group_id: str, source: Mapping[str, str]) -> dict[str, Any]:
    name = f"contactGroups/{group_id}"
    membership = {"contactGroupId": group_id, "contactGroupResourceName": name}
    return {"metadata": {"source": source}, "contactGroupMembership": membership}


def parts_of(body: Mapping[str, Any], names: Collection[str]) -> Parts:
    """Return the fields of a person that a body has; raises the 400 of what cannot be stored."""
    parts = {}
    for name in names:
        values = body.get(name, [])
        if not isinstance(values, list) or not all(isinstance(each, dict) for each in values):
            message = f"Invalid value at 'person.{name}' (type.googleapis.com/Person), \"{values}\""
            raise invalid(message[:200])
        if name in SINGLETONS and len(values) > 1:
            message = f"Only one {name} is allowed on a contact."
            raise invalid(message)
        parts[name] = [completed(name, each) for each in values]
    return parts


def completed(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value with what the server adds: a display name, a canonical number."""
    found = {key: each for key, each in value.items() if key != "metadata"}
    meant = value.get("metadata")
    if isinstance(meant, Mapping):
        kinds = {"primary": bool, "source": Mapping}
        kept = {key: meant[key] for key, kind in kinds.items() if isinstance(meant.get(key), kind)}
        if kept:
            found["metadata"] = kept
    if name == "names":
        parts = [str(found[key]) for key in ("givenName", "familyName") if found.get(key)]
        found.setdefault("displayName", " ".join(parts) or str(found.get("unstructuredName", "")))
    if name == "phoneNumbers":
        number = str(found.get("value", ""))
        digits = "".join(each for each in number if each.isdigit())
        if number.strip().startswith("+") and digits:
            found["canonicalForm"] = f"+{digits}"
    return found


def groups_of(account: Customer, body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the groups that a body's memberships name; raises the 400 of unknown ones."""
    given = body.get("memberships", [])
    if not isinstance(given, list):
        raise invalid()
    found = []
    for each in given:
        named = each.get("contactGroupMembership") if isinstance(each, dict) else None
        name = named.get("contactGroupResourceName", "") if isinstance(named, dict) else ""
        group_id = str(name).removeprefix("contactGroups/")
        if account.groups.found(group_id) is None:
            message = "Invalid contact group membership."
            raise invalid(message)
        found.append(group_id)
    return tuple(dict.fromkeys(found))
