"""What the platform knows of Brevo without asking it.

Sources: Brevo's page on API limits (tiers and buckets), its reference (sizes of pages and
bodies), the 2026 contract in its Python SDK.
"""

from types import MappingProxyType

from libs.connectors.contract import Facts, Limit

PROVIDER = "brevo"
CONTACTS = "contacts"  # Everything under /contacts.
OTHER = "other"  # Everything else: /account, /processes. Scarce.

FOLDERS_MAX = 50  # Also lists and processes in a page.
LIST_PAGE_MAX = 500  # Contacts of a list in a page.
CONTACTS_PAGE_MAX = 1_000
IDS_MAX = 20  # Contacts that one call reads by their ids.
# Calls of one account at a time: enough for 10 a second at an answer time of 400 ms. The gate holds
# the rate; this only bounds how many answers can be lost at once.
TOGETHER = 4
# Brevo takes bodies up to 10 MB and asks to keep them under 8.
IMPORT_BYTES_MAX = 8_000_000
# No limit of rows is documented. This many rows of 16 attributes stay below the bytes.
IMPORT_ROWS_MAX = 10_000

# Fewer contacts are sooner there by single calls (docs/decisions: when import, when single).
IMPORT_ROWS_MIN = 100

FOLDER = "contactsync"  # Lists that we make lie in a folder of ours.

# Attributes that identify a contact: each value belongs to one contact of the account.
PHONES = frozenset({"SMS", "WHATSAPP", "LANDLINE_NUMBER"})
UNIQUE = frozenset({"EMAIL", "EXT_ID"}) | PHONES


def _limits(a_second: int, an_hour: int, others_an_hour: int) -> tuple[Limit, ...]:
    return (
        Limit(bucket=CONTACTS, calls=a_second, window_s=1.0),
        Limit(bucket=CONTACTS, calls=an_hour, window_s=3600.0),
        Limit(bucket=OTHER, calls=others_an_hour, window_s=3600.0),
    )


_GENERAL = _limits(10, 36_000, 100)

FACTS = Facts(
    provider=PROVIDER,
    label="Brevo",
    is_source=False,
    is_destination=True,
    base_url="https://api.brevo.com/v3",
    hosts=("api.brevo.com", ".brevo.com", ".sendinblue.com"),
    limits=MappingProxyType(
        {
            "": _GENERAL,
            "general": _GENERAL,
            "advanced": _limits(20, 72_000, 200),
            # No limit an hour is published for this tier: what 60 a second come to.
            "extended": _limits(60, 216_000, 600),
        }
    ),
    import_rows_max=IMPORT_ROWS_MAX,
    import_rows_min=IMPORT_ROWS_MIN,
    # A position names the last row that was read, and is good for as long as that is there.
    resumable_paging=True,
    tells_edits=True,
    sends_events=True,
)
