"""What the platform knows of Google Contacts without asking it.

Sources: the People API's discovery document (paths, parameters, sizes, the life of a sync token),
Google's OAuth 2.0 pages. Google publishes what a call costs, not how many there may be: the
numbers of the limits stand on each project's quota page; those here are the lowest seen there.
"""

from types import MappingProxyType

from libs.connectors.contract import Facts, Limit, OAuthFacts, SourceObject

PROVIDER = "google_contacts"
READS = "critical_reads"  # Of contacts and profiles.
GROUP_READS = "group_reads"
MINUTE_S = 60.0

PAGE_MAX = 1_000  # Contacts, and groups, in one answer.
# batchGet takes 200; as many names make an address that is longer than some proxies let through.
READ_MAX = 100
# Of one group, asked for with the group itself: more than the 25,000 that an account may hold.
MEMBERS_MAX = 100_000

CONNECTIONS = "/v1/people/me/connections"
GROUPS = "/v1/contactGroups"
SCOPE = "https://www.googleapis.com/auth/contacts.readonly"

FACTS = Facts(
    provider=PROVIDER,
    label="Google Contacts",
    is_source=True,
    is_destination=False,
    base_url="https://people.googleapis.com",
    hosts=("people.googleapis.com", "accounts.google.com", "oauth2.googleapis.com"),
    limits=MappingProxyType(
        {
            "": (
                Limit(bucket=READS, calls=60, window_s=MINUTE_S),
                Limit(bucket=GROUP_READS, calls=90, window_s=MINUTE_S),
            )
        }
    ),
    oauth=OAuthFacts(
        authorize_url="https://accounts.google.com/o/oauth2/v2/auth",
        token_url="https://oauth2.googleapis.com/token",  # noqa: S106  # an address
        revoke_url="https://oauth2.googleapis.com/revoke",
        scopes=(SCOPE, "openid", "https://www.googleapis.com/auth/userinfo.email"),
        uses_pkce=True,
        # Without the first one there is no refresh token, and without the second one none is given
        # to who connects once more.
        parameters=MappingProxyType({"access_type": "offline", "prompt": "consent"}),
    ),
    objects=(SourceObject(name="contacts", label="Contacts", needs_list=False),),
    # How long a page token lives is not told.
    resumable_paging=False,
    sweeps_by_position=True,
)
