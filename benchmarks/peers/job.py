"""The job that every peer does. Peers run in an environment of their own, without our packages.

Read all contacts, 100 a call, rename 8 of their fields, and hand batches to Brevo's import.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATH = "/crm/v3/objects/contacts"
PAGE = 100
IMPORT_PATH = "/v3/contacts/import"
FIELDS = {
    "email": "EMAIL",
    "firstname": "FIRSTNAME",
    "lastname": "LASTNAME",
    "phone": "SMS",
    "company": "COMPANY",
    "city": "CITY",
    "birthday": "BIRTHDAY",
    "country": "COUNTRY",
}
BATCH_TUNED = 2_000  # What the writer of contactsync gathers.


@dataclass(frozen=True, slots=True)
class Settings:
    """What a peer is told, in a JSON file: where both ends are, and how it is to go about it."""

    source_url: str
    source_token: str
    destination_url: str
    destination_key: str
    list_id: int
    tuned: bool = False

    @classmethod
    def read(cls, file: str) -> "Settings":
        """Read them from a file."""
        return cls(**json.loads(Path(file).read_text()))


def parameters() -> dict[str, str | int]:
    """Return the query of a page."""
    return {"limit": PAGE, "properties": ",".join(FIELDS)}


def body(contacts: Iterable[Mapping[str, Any]], list_id: int) -> dict[str, Any]:
    """Return an import's body for contacts as they are at the source."""
    rows: Sequence[dict[str, Any]] = [
        {
            "email": contact["email"],
            "attributes": {
                to: contact[name]
                for name, to in FIELDS.items()
                if name != "email" and contact.get(name) is not None
            },
        }
        for contact in contacts
    ]
    return {"jsonBody": rows, "listIds": [list_id], "updateExistingContacts": True}
