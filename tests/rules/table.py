"""Every removal there is, and the families of rules that each must have some of."""

from tests.rules import (
    automatic_imports,
    constant_contact,
    every_source,
    hubspot,
    owed,
    quota,
    salesforce,
    wizard,
)
from tests.rules.removal import Removal

FAMILIES = ("W", "Q", "S", "CC", "HS", "SF", "AC", "X")

REMOVALS: tuple[Removal, ...] = (
    *wizard.REMOVALS,
    *quota.REMOVALS,
    *every_source.REMOVALS,
    *constant_contact.REMOVALS,
    *hubspot.REMOVALS,
    *salesforce.REMOVALS,
    *automatic_imports.REMOVALS,
    *owed.REMOVALS,
)
