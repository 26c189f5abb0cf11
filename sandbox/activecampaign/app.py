"""The ASGI application that is ActiveCampaign."""

from sandbox.activecampaign.account import ActiveCampaignAccount
from sandbox.activecampaign.state import State
from sandbox.server import ProviderApp


def create_app(state: State) -> ProviderApp[ActiveCampaignAccount]:
    return ProviderApp(state)
