"""/users/me: whose key it is."""

from sandbox.activecampaign.account import ActiveCampaignAccount
from sandbox.exchange import Answer, Request, Routes


def register(routes: Routes[ActiveCampaignAccount]) -> None:
    routes.add("GET", "/api/3/users/me")(_me)


def _me(account: ActiveCampaignAccount, request: Request) -> Answer:
    number = account.keys.index(request.headers["api-token"]) + 1
    base = f"https://{account.host}/api/3/users/{number}"
    return Answer(
        200,
        {
            "user": {
                "username": f"user{number}",
                "firstName": "Sandbox",
                "lastName": "Owner",
                "email": f"user{number}@{account.name}.example.com",
                "phone": "",
                "signature": None,
                "links": {"lists": f"{base}/lists", "userGroup": f"{base}/userGroup"},
                "id": str(number),
            }
        },
    )
