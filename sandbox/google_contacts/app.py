"""The Google Contacts sandbox as an application to serve: `create_app(State())`."""

from sandbox.exchange import Routes
from sandbox.google_contacts import connections_api, control, groups_api, oauth_api, people_api
from sandbox.google_contacts.state import Customer, State
from sandbox.server import ProviderApp


def create_app(state: State) -> ProviderApp[Customer]:
    """Return the ASGI application of these accounts."""
    state.routes, state.control = Routes(), Routes()
    connections_api.register(state.routes)
    people_api.register(state.routes)
    groups_api.register(state.routes)
    oauth_api.register(state.routes, state)
    control.register(state.control, state)
    return ProviderApp(state)
