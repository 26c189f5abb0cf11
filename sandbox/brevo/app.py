"""The ASGI application that is Brevo."""

from sandbox.brevo.account import BrevoAccount
from sandbox.brevo.state import State
from sandbox.server import ProviderApp


def create_app(state: State) -> ProviderApp[BrevoAccount]:
    return ProviderApp(state)
