"""HubSpot's rules taken out, HS1 and HS2."""

from tests.rules.removal import Removal

_FACTS = "libs/connectors/hubspot/facts.py"
_LIMITS = "connectors/hubspot/test_source.py::test_limits_are_those_that_hubspot_publishes"

REMOVALS = (
    *(
        Removal("HS1", clause, _FACTS, old, new, _LIMITS)
        for clause, old, new in (
            ("250,000 calls a day (Free)", '"free": 250_000', '"free": 500_000'),
            ("250,000 calls a day (Starter)", '"starter": 250_000', '"starter": 500_000'),
            (
                "500,000 calls a day (Professional)",
                '"professional": 500_000',
                '"professional": 1_000_000',
            ),
            (
                "500,000 calls a day (Enterprise)",
                '"enterprise": 500_000',
                '"enterprise": 1_000_000',
            ),
            ("the lowest where nobody has said which", '"": 250_000', '"": 500_000'),
            ("110 calls in 10 seconds", "calls=110, window_s=10.0", "calls=190, window_s=10.0"),
            ("5 searches a second", "calls=5, window_s=1.0", "calls=10, window_s=1.0"),
        )
    ),
    Removal(
        "HS1",
        "searches are counted apart",
        "libs/connectors/hubspot/source.py",
        "answer = await self._calls.call(facts.SEARCH,",
        "answer = await self._calls.call(facts.API,",
        "connectors/hubspot/test_source.py::test_more_than_10000_contacts_on_one_millisecond_are_all_found",
    ),
    Removal(
        "HS1",
        "which subscription it is can be said",
        "services/config_api/routes/connections.py",
        "        await store.set_tier(session, connection_id, change.tier)\n",
        "",
        "services/config_api/routes/test_connections.py::test_the_accounts_subscription_is_set_and_kept",
    ),
    Removal(
        "HS1",
        "the pollers keep to the account's subscription",
        "services/poller/sources.py",
        "tier=source.tier",
        "tier=None",
        "services/poller/test_hubspot.py::test_limits_are_those_of_the_account",
    ),
    Removal(
        "HS1",
        "a day ends at midnight of the account",
        "libs/connectors/hubspot/refusals.py",
        "return until_midnight_s(answer, time_zone) or _DAY_UNKNOWN_S",
        'return until_midnight_s(answer, "UTC") or _DAY_UNKNOWN_S',
        "connectors/hubspot/test_refusals.py::test_a_day_ends_at_midnight_of_the_account",
    ),
    Removal(
        "HS2",
        "HubSpot takes no edits of the other side",
        _FACTS,
        "    resumable_paging=True,\n",
        "    resumable_paging=True,\n    takes_edits=True,\n",
        "services/config_api/routes/test_two_way.py::test_two_ways_are_for_those_that_can",
    ),
    Removal(
        "HS2",
        "no call to HubSpot writes",
        "libs/connectors/hubspot/source.py",
        '        answer = await self._post(f"{facts.CONTACTS}/batch/read", body)\n',
        '        await self._calls.call(facts.API, "PATCH", f"{facts.CONTACTS}/{ids[0]}",'
        ' b\'{"properties":{"city":"x"}}\')\n'
        '        answer = await self._post(f"{facts.CONTACTS}/batch/read", body)\n',
        "services/poller/test_hubspot.py::test_nothing_is_ever_written_to_hubspot",
    ),
    Removal(
        "HS2",
        "no right to write is asked for",
        _FACTS,
        '"crm.objects.contacts.read", "crm.lists.read"',
        '"crm.objects.contacts.read", "crm.objects.contacts.write", "crm.lists.read"',
        "connectors/hubspot/test_source.py::test_no_right_to_write_is_asked_for",
    ),
)
