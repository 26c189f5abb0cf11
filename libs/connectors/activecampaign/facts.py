"""What the platform knows of ActiveCampaign without asking it.

Sources: the reference's pages on the base URL, rate limits and pagination, the guide to the bulk
importer (sizes, limits, rules for addresses).
"""

from types import MappingProxyType

from libs.connectors.contract import Facts, Limit

PROVIDER = "activecampaign"
API = "api"  # Every call but imports: counted for the account, over all its users' keys.
IMPORT = "import"  # Handing in an import of several contacts.
IMPORT_SINGLE = "import_single"  # Handing in an import of one contact: scarcer.

PAGE_MAX = 100
IMPORT_ROWS_MAX = 250
IMPORT_BYTES_MAX = 399_999
MINUTE_S = 60.0

# How long a write waits for its own import. One row was seen to take 6 s; a call must end before
# the other lanes of its partition notice it, and what takes longer is found by a look later.
IMPORT_WAIT_S = 20.0
IMPORT_LOOK_FIRST_S, IMPORT_LOOK_MOST_S = 0.25, 2.0

FACTS = Facts(
    provider=PROVIDER,
    label="ActiveCampaign",
    is_source=False,
    is_destination=True,
    # Of an account of that name; each has an address of its own, shown on its page "Developer".
    base_url="https://youraccountname.api-us1.com/api/3",
    has_account_url=True,
    # The reference names the first and says that there are others without naming them; accounts
    # also answer at the address of their pages. Another region is one more entry here.
    hosts=(".api-us1.com", ".activehosted.com"),
    limits=MappingProxyType(
        {
            "": (
                Limit(bucket=API, calls=5, window_s=1.0),
                Limit(bucket=IMPORT, calls=100, window_s=MINUTE_S),
                Limit(bucket=IMPORT_SINGLE, calls=20, window_s=MINUTE_S),
            )
        }
    ),
    import_rows_max=IMPORT_ROWS_MAX,
    # Rows weigh more at ActiveCampaign than as they are mapped: an id and quotes for each value.
    import_bytes_max=250_000,
    takes_automatic_imports=True,
)
