"""Whose account it is, and what its user may do."""

from sandbox.constant_contact.state import Customer
from sandbox.exchange import Answer, Request, Routes


def register(routes: Routes[Customer]) -> None:
    """Add the account's endpoints."""
    routes.add("GET", "/v3/account/summary", scope="account_read", privileges=("account:read",))(
        _summary
    )
    routes.add("GET", "/v3/account/user/privileges", scope="")(_privileges)


def _summary(account: Customer, request: Request) -> Answer:
    return Answer(
        200,
        {
            "contact_email": "owner@example.com",
            "country_code": "US",
            "encoded_account_id": account.id,
            "first_name": "Lola",
            "last_name": "Owner",
            "organization_name": account.name,
            "state_code": "MA",
            "time_zone_id": "US/Eastern",
            "website": "http://example.com",
        },
    )


def _privileges(account: Customer, request: Request) -> Answer:
    told = [
        {"privilege_id": number, "privilege_name": name}
        for number, name in enumerate(account.settings.privileges, 1)
    ]
    return Answer(200, told)
