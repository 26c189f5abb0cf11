"""The memory of writes, with the version each made of its contact."""

from collections.abc import Mapping
from typing import Any

from sandbox.brevo.contacts import Contact
from sandbox.calls import Writes


class VersionedWrites(Writes):
    def remember(
        self, endpoint: str, contact: Contact, attributes: Mapping[str, Any], *, created: bool
    ) -> None:
        """Add one write: `attributes` as they were sent, `identity` as it is now."""
        self.add(
            endpoint,
            identity=contact.identity,
            attributes=attributes,
            contact_id=contact.id,
            created=created,
        )
        self.after(len(self) - 1)[0]["version"] = contact.version
