"""What the platform knows of Salesforce without asking it.

Sources: its limits cheat sheet (allocations, pages, addresses), its REST and OAuth guides (paths,
flows), REQUIREMENTS SF1 and SF7.
"""

from dataclasses import dataclass
from types import MappingProxyType

from libs.connectors.contract import Facts, Limit, OAuthFacts, SourceObject

PROVIDER = "salesforce"
API = "api"  # Every call counts alike, whoever makes it: an organisation has one allocation a day.

# One version for all calls: what a later one answers otherwise has to be read first.
VERSION = "/services/data/v67.0"
LOGIN_HOST = "login.salesforce.com"

PAGE_MAX = 2_000  # Records that one answer to a query holds.
IDS_MAX = 200  # Ids in one query: an address may have 16,384 bytes, and each id takes some 28.
COLLECTION_MAX = 200  # Records in one call that writes.

INTEGRATIONS_PER_ACCOUNT = 5  # SF7.
PLAN = "enterprise"  # SF1.

# Others use the organisation's allocation as well. From this share of it on we wait, and look again
# after this long: it is counted over the last 24 hours, so it comes back little by little.
USED_SHARE_MAX = 0.9
USED_UP_S = 900.0
# Only calls of 20 s and more are limited in number (25, of a developer's organisation 5). Ours are
# given up after as long, so the next one waits for those to end.
LONG_CALLS_S = 20.0


@dataclass(frozen=True, slots=True)
class Kind:
    """What one of our objects is at Salesforce.

    `member` is the field of a campaign's member that names it. `living` must hold of a record that
    is one still, `left` of one that is none any more: a converted lead is a contact by now.
    """

    sobject: str
    member: str
    living: str | None = None
    left: str | None = None


KINDS = MappingProxyType(
    {
        "contacts": Kind("Contact", "ContactId"),
        "leads": Kind("Lead", "LeadId", living="IsConverted = false", left="IsConverted = true"),
    }
)

CALLS_A_DAY = MappingProxyType(
    {
        "": 15_000,
        "developer": 15_000,
        # And more for each licence: what an organisation really has stands in every answer.
        "professional": 100_000,
        "enterprise": 100_000,
        "unlimited": 100_000,
        "performance": 100_000,
    }
)


def limits(calls_a_day: int) -> tuple[Limit, ...]:
    """Return the limits of an organisation that has so many calls a day.

    Salesforce names no limit a second. This one is ours: a burst of queries is work for all users
    of the organisation.
    """
    return (Limit(bucket=API, calls=20, window_s=1.0, per_day=calls_a_day),)


FACTS = Facts(
    provider=PROVIDER,
    label="Salesforce",
    is_source=True,
    is_destination=False,
    # Only what one looks like: each organisation is called where its login says (`instance_url`).
    base_url="https://example.my.salesforce.com",
    hosts=(LOGIN_HOST, ".my.salesforce.com"),
    limits=MappingProxyType({tier: limits(calls) for tier, calls in CALLS_A_DAY.items()}),
    oauth=OAuthFacts(
        authorize_url=f"https://{LOGIN_HOST}/services/oauth2/authorize",
        token_url=f"https://{LOGIN_HOST}/services/oauth2/token",
        revoke_url=f"https://{LOGIN_HOST}/services/oauth2/revoke",
        # There is none for reading only: what the person may do is what we may do.
        scopes=("api", "refresh_token"),
        uses_pkce=True,
        tells_account_url=True,
    ),
    objects=(
        SourceObject(name="contacts", label="Contacts", needs_list=False),
        SourceObject(name="leads", label="Leads", needs_list=False),
    ),
    # Pages go by "after this id", so a position is good for as long as it is kept.
    resumable_paging=True,
    integrations_per_account=INTEGRATIONS_PER_ACCOUNT,
    plan=PLAN,
    phones_stay=True,
    takes_edits=True,
)
