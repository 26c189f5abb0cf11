"""The HubSpot sandbox as an application to serve: `create_app(State())`."""

from sandbox.exchange import Routes
from sandbox.hubspot import contacts_api, control, lists_api, oauth_api, properties_api
from sandbox.hubspot.state import Portal, State
from sandbox.server import ProviderApp


def create_app(state: State) -> ProviderApp[Portal]:
    """Return the ASGI application of these portals."""
    state.routes, state.control = Routes(), Routes()
    contacts_api.register(state.routes)
    lists_api.register(state.routes)
    properties_api.register(state.routes)
    oauth_api.register(state.routes, state)
    control.register(state.control, state)
    return ProviderApp(state)
