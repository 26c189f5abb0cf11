"""What the platform knows of HubSpot without asking it.

Sources: HubSpot's usage guidelines (limits), its OpenAPI collection of 2026-08 (paths, scopes),
REQUIREMENTS HS1 (calls a day by subscription). Why the dated paths: docs/decisions.
"""

from types import MappingProxyType

from libs.connectors.contract import Facts, Limit, OAuthFacts, SourceObject

PROVIDER = "hubspot"
API = "api"  # Everything but search.
SEARCH = "search"  # Counted apart, and shared by all applications of the account.

# HubSpot's date versions are supported for 18 months: this one until March 2028, while v1 to v3
# end in September 2027 and the OAuth v1 calls in February 2027.
VERSION = "2026-09"
CONTACTS = f"/crm/objects/{VERSION}/contacts"
LISTS = f"/crm/lists/{VERSION}"
PROPERTIES = f"/crm/properties/{VERSION}/contacts"
ACCOUNT = f"/account-info/{VERSION}/details"

READ_MAX = 100  # Ids in a batch read, contacts in a page of the full scan.
SEARCH_MAX = 200
SEARCH_BODY_CHARACTERS_MAX = 3_000
SEARCH_TOTAL_MAX = 10_000  # No query pages further, and its total is not known to count further.
MEMBERS_MAX = 250
LISTS_MAX = 500
LISTS_OFFSET_MAX = 10_000
# A URL that is too long is answered with 414; Estuary's connector keeps names below 5 KB.
QUERY_CHARACTERS_MAX = 4_000

STRING_CHARACTERS_MAX = 65_536

CALLS_A_DAY = MappingProxyType(
    {
        "": 250_000,
        "free": 250_000,
        "starter": 250_000,
        "professional": 500_000,
        "enterprise": 500_000,
    }
)


def limits(calls_a_day: int) -> tuple[Limit, ...]:
    """Return the limits of an account whose subscription allows so many calls a day.

    110 in 10 s is what an application of the marketplace has in each account that installed it;
    the 5 searches a second are the account's, shared with everyone else's applications.
    """
    return (
        Limit(bucket=API, calls=110, window_s=10.0, per_day=calls_a_day),
        Limit(bucket=SEARCH, calls=5, window_s=1.0, per_day=calls_a_day),
    )


FACTS = Facts(
    provider=PROVIDER,
    label="HubSpot",
    is_source=True,
    is_destination=False,
    base_url="https://api.hubapi.com",
    hosts=("api.hubapi.com",),
    limits=MappingProxyType({tier: limits(calls) for tier, calls in CALLS_A_DAY.items()}),
    oauth=OAuthFacts(
        authorize_url="https://app.hubspot.com/oauth/authorize",
        token_url=f"https://api.hubapi.com/oauth/{VERSION}/token",
        revoke_url=f"https://api.hubapi.com/oauth/{VERSION}/token/revoke",
        scopes=("oauth", "crm.objects.contacts.read", "crm.lists.read"),
        uses_pkce=True,
    ),
    objects=(SourceObject(name="contacts", label="Contacts", needs_list=True),),
    resumable_paging=True,
)
