"""The Constant Contact sandbox as an application to serve: `create_app(State())`."""

from sandbox.constant_contact import (
    account_api,
    activities_api,
    contacts_api,
    control,
    custom_fields_api,
    lists_api,
    oauth_api,
)
from sandbox.constant_contact.state import Customer, State
from sandbox.exchange import Routes
from sandbox.server import ProviderApp


def create_app(state: State) -> ProviderApp[Customer]:
    """Return the ASGI application of these accounts."""
    state.routes, state.control = Routes(), Routes()
    account_api.register(state.routes)
    contacts_api.register(state.routes)
    lists_api.register(state.routes)
    custom_fields_api.register(state.routes)
    activities_api.register(state.routes)
    oauth_api.register(state.routes, state)
    control.register(state.control, state)
    return ProviderApp(state)
