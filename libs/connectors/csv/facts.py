"""What the platform knows of CSV files without looking into one.

There is nobody to call: no address, no login, no limit. The account is the connection itself, to
which people upload one file after another (AC8).
"""

from types import MappingProxyType

from libs.connectors.contract import Facts, SourceObject

PROVIDER = "csv"

FACTS = Facts(
    provider=PROVIDER,
    label="CSV file",
    is_source=True,
    is_destination=False,
    base_url="",
    hosts=(),
    limits=MappingProxyType({"": ()}),
    objects=(SourceObject(name="contacts", label="Contacts", needs_list=False),),
    # A confirmed file does not change, so a chunk of it is where it was.
    resumable_paging=True,
    reads_files=True,
)
