import pytest

from libs.common.events import Identity
from libs.connectors.contract import OpenGate, identity_key


@pytest.mark.parametrize(
    ("identity", "key"),
    [
        (Identity(email="Ada@Example.com", sms="+33612345678"), "ada@example.com"),
        (Identity(sms="+33 6 12 34 56 78"), "33612345678"),
        (Identity(sms="0033612345678"), "33612345678"),
        (Identity(), ""),
    ],
)
def test_two_sights_of_a_contact_have_one_key(identity: Identity, key: str) -> None:
    assert identity_key(identity) == key


async def test_an_open_gate_lets_everything_through() -> None:
    gate = OpenGate()

    await gate.limited("any", 100.0)
    await gate.enter("any")
