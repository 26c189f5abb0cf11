"""The Salesforce sandbox as an application to serve: `create_app(State())`."""

from sandbox.exchange import Routes
from sandbox.salesforce import (
    bulk_api,
    collections_api,
    control,
    describe_api,
    oauth_api,
    query_api,
    rows_api,
)
from sandbox.salesforce.org import Org
from sandbox.salesforce.state import State
from sandbox.server import ProviderApp


def create_app(state: State) -> ProviderApp[Org]:
    """Return the ASGI application of these orgs."""
    state.routes, state.control = Routes(), Routes()
    oauth_api.register(state.routes, state)
    describe_api.register(state.routes)
    query_api.register(state.routes, state)
    rows_api.register(state.routes)
    collections_api.register(state.routes)
    bulk_api.register(state.routes, state)
    control.register(state.control, state)
    return ProviderApp(state)
