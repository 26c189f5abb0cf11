"""What the platform knows of Constant Contact without asking it.

Sources: its v3 contract (build 3.0.178: paths, parameters, sizes), its API guide (rate limits,
server flow), REQUIREMENTS CC1 to CC5.
"""

from types import MappingProxyType

from libs.connectors.contract import Facts, Limit, OAuthFacts, SourceObject

PROVIDER = "constant_contact"
API = "api"

PAGE_MAX = 500  # Contacts, and lists, in one answer.
FIELDS_PAGE_MAX = 100
CORE_CHARACTERS_MAX = 50  # Of names, company and job title; of a part of an address as well.
STREET_CHARACTERS_MAX = 255
PHONE_CHARACTERS_MAX = 25
EMAIL_CHARACTERS_MAX = 80
CUSTOM_CHARACTERS_MAX = 255

BULK_FETCH_CAP = 10_000  # CC4.
INTEGRATIONS_PER_ACCOUNT = 1  # CC1.

FACTS = Facts(
    provider=PROVIDER,
    label="Constant Contact",
    is_source=True,
    is_destination=False,
    base_url="https://api.cc.email/v3",
    hosts=("api.cc.email", "authz.constantcontact.com"),
    # CC5. Both are the application's: all connected accounts share them.
    limits=MappingProxyType(
        {"": (Limit(bucket=API, calls=4, window_s=1.0, scope="application", per_day=10_000),)}
    ),
    oauth=OAuthFacts(
        authorize_url="https://authz.constantcontact.com/oauth2/default/v1/authorize",
        token_url="https://authz.constantcontact.com/oauth2/default/v1/token",  # noqa: S106  # an address
        revoke_url=None,  # None is documented.
        # Without the last one no refresh token is given, and no error says so.
        scopes=("contact_data", "account_read", "offline_access"),
        # Its guide has PKCE for clients without a secret only; ours proves itself by its secret.
        uses_pkce=False,
    ),
    objects=(SourceObject(name="contacts", label="Contacts", needs_list=True),),
    # A cursor holds an offset, and how long it lives is not told: a page that is asked for later
    # may begin elsewhere.
    resumable_paging=False,
    bulk_fetch_cap=BULK_FETCH_CAP,
    integrations_per_account=INTEGRATIONS_PER_ACCOUNT,
)
