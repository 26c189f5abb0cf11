"""Whatever is written, an identifier has one owner and lists know their members."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sandbox.brevo.account import BrevoAccount
from sandbox.brevo.attributes import IDENTIFIERS
from sandbox.brevo.state import State
from sandbox.exchange import RefusedError, Request

EMAILS = [f"{name}@example.org" for name in "abc"]
PHONES = ["33612345678", "33612345679"]
KEYS = ["k1", "k2"]


def calls() -> st.SearchStrategy[tuple[str, str, dict[str, Any]]]:
    """Return calls that write, from values so few that they clash all the time."""
    attributes = st.fixed_dictionaries(
        {},
        optional={
            "EMAIL": st.sampled_from(EMAILS),
            "SMS": st.sampled_from([*PHONES, ""]),
            "WHATSAPP": st.sampled_from([*PHONES, ""]),
            "EXT_ID": st.sampled_from([*KEYS, ""]),
            "FIRSTNAME": st.sampled_from(["A", ""]),
        },
    )
    body = st.fixed_dictionaries(
        {"attributes": attributes},
        optional={
            "ext_id": st.sampled_from(KEYS),
            "listIds": st.sampled_from([[2], [3], [2, 3]]),
            "unlinkListIds": st.sampled_from([[2], [3]]),
            "emailBlacklisted": st.booleans(),
            "updateEnabled": st.booleans(),
            "forceMerge": st.booleans(),
        },
    )
    path = st.sampled_from([f"/v3/contacts/{key}" for key in (*EMAILS, 1, 2, 3)])
    return st.one_of(
        st.tuples(
            st.just("POST"),
            st.just("/v3/contacts"),
            st.builds(lambda email, rest: {"email": email, **rest}, st.sampled_from(EMAILS), body),
        ),
        st.tuples(st.just("POST"), st.just("/v3/contacts"), body),
        st.tuples(st.just("PUT"), path, body),
        st.tuples(st.just("DELETE"), path, st.just({})),
        st.tuples(st.just("DELETE"), st.just("/v3/contacts/lists/3"), st.just({})),
    )


def carry_out(state: State, method: str, path: str, body: dict[str, Any]) -> None:
    found = state.routes.find(method, path)
    assert found is not None
    route, arguments = found
    content = json.dumps(body).encode()
    request = Request(method, path, "", {}, content, arguments=arguments)
    try:
        route.handler(state.default, request)
    except RefusedError as refused:
        if refused.answer.status >= 500:
            raise


def check(account: BrevoAccount) -> None:
    contacts = list(account.contacts)
    for kind in IDENTIFIERS:
        owned = [each.identifiers[kind] for each in contacts if kind in each.identifiers]
        assert len(owned) == len(set(owned))
        assert account.contacts._owners[kind] == {
            each.identifiers[kind]: each.id for each in contacts if kind in each.identifiers
        }
    for wanted in account.lists:
        members = {each.id for each in account.contacts.members(wanted.id)}
        assert members == {each.id for each in contacts if wanted.id in each.list_ids}
    assert all(set(each.list_ids) <= {listed.id for listed in account.lists} for each in contacts)


@given(st.lists(calls(), max_size=30))
def test_no_order_of_writes_breaks_identifiers_or_lists(
    steps: list[tuple[str, str, dict[str, Any]]],
) -> None:
    state = State()
    account = state.default
    account.lists.create("Second", 1, account.now_us())

    for method, path, body in steps:
        carry_out(state, method, path, body)
        check(account)
