"""Constant Contact's rules taken out, CC1 to CC5."""

from tests.rules.removal import Removal

_FACTS = "libs/connectors/constant_contact/facts.py"
_PAYLOAD = "libs/connectors/constant_contact/payload.py"
_SOURCE = "connectors/constant_contact/test_source.py"
_CONFIG = "services/config_api"
_CHECKLIST = f"{_CONFIG}/checklist.py"
_WIZARD = f"{_CONFIG}/routes/test_constant_contact.py"

REMOVALS = (
    Removal(
        "CC1",
        "an account is added once",
        _FACTS,
        "INTEGRATIONS_PER_ACCOUNT = 1  # CC1.",
        "INTEGRATIONS_PER_ACCOUNT = 2  # CC1.",
        f"{_WIZARD}::test_an_account_can_be_added_once",
    ),
    Removal(
        "CC1",
        "also where it is connected once more",
        f"{_CONFIG}/store/integrations.py",
        '            "  or (c.provider, c.account_id) = (own.provider, own.account_id))"\n',
        '            "  or false)"\n',
        f"{_WIZARD}::test_an_account_can_be_added_once",
    ),
    Removal(
        "CC1",
        "who was deleted makes room",
        f"{_CONFIG}/store/integrations.py",
        "            \" where i.integration_id <> :integration and i.state <> 'archived'\"\n",
        '            " where i.integration_id <> :integration"\n',
        f"{_WIZARD}::test_another_account_or_a_deleted_integration_makes_room",
    ),
    Removal(
        "CC1",
        "of two that chose at once one is activated",
        _CHECKLIST,
        "    yield from _judge_account(draft)\n",
        "",
        f"{_WIZARD}::test_of_two_that_chose_at_once_the_first_may_go_on",
    ),
    Removal(
        "CC1",
        "the operator may lift it",
        f"{_CONFIG}/provider_accounts.py",
        "            if name in lifted\n",
        "            if False\n",
        f"{_WIZARD}::test_the_operator_may_lift_the_limit",
    ),
    *(
        Removal(
            "CC2",
            f"{what} are not offered",
            _PAYLOAD,
            old,
            new,
            f"{_SOURCE}::test_dates_and_choices_are_not_offered",
        )
        for what, old, new in (
            (
                "birthdays",
                '("birthday", FieldType.DATE, NotMappable.UNSUPPORTED_TYPE)',
                '("birthday", FieldType.DATE, None)',
            ),
            (
                "anniversaries",
                '("anniversary", FieldType.DATE, NotMappable.UNSUPPORTED_TYPE)',
                '("anniversary", FieldType.DATE, None)',
            ),
            (
                "custom dates",
                "    FieldType.DATE: NotMappable.UNSUPPORTED_TYPE,\n",
                "",
            ),
            (
                "custom moments",
                "    FieldType.DATETIME: NotMappable.UNSUPPORTED_TYPE,\n",
                "",
            ),
        )
    ),
    *(
        Removal(
            "CC3",
            f"{what} are not offered as such",
            _PAYLOAD,
            f'("{name}", FieldType.OTHER, NotMappable.MULTIPLE_VALUES)',
            f'("{name}", FieldType.OTHER, None)',
            f"{_SOURCE}::test_dates_and_choices_are_not_offered",
        )
        for what, name in (("phones", "phone_numbers"), ("addresses", "street_addresses"))
    ),
    Removal(
        "CC3",
        "of several phones the first of its kind is collected",
        _PAYLOAD,
        "                if each.phone_number and kind in (None, each.kind)\n",
        "                if each.phone_number\n",
        f"{_SOURCE}::test_of_several_values_the_first_of_each_kind_is_read",
    ),
    Removal(
        "CC3",
        "of several addresses the first of its kind is collected",
        _PAYLOAD,
        "first = next((each for each in record.street_addresses if kind in (None, each.kind)), None)",
        "first = next(iter(record.street_addresses), None)",
        f"{_SOURCE}::test_of_several_values_the_first_of_each_kind_is_read",
    ),
    Removal(
        "CC3",
        "what was collected can be mapped",
        _PAYLOAD,
        "        yield Field(name, _label(name), FieldType.PHONE, length_max=PHONE_CHARACTERS_MAX)\n",
        "        yield Field(name, _label(name), FieldType.OTHER,"
        " not_mappable=NotMappable.MULTIPLE_VALUES)\n",
        f"{_WIZARD}::test_what_may_not_be_mapped_is_not_offered",
    ),
    Removal(
        "CC4",
        "of a bulk change no more than the cap are fetched",
        "services/poller/newest.py",
        "        while len(self._kept) > self._most:\n",
        "        while False:\n",
        "services/poller/test_newest.py::test_the_newest_are_kept_and_the_others_counted",
    ),
    Removal(
        "CC4",
        "those that are fetched are the newest",
        "services/poller/newest.py",
        "version_ms, contact_id = heapq.heappop(self._oldest)",
        "version_ms, contact_id = self._oldest.pop()",
        "services/poller/test_newest.py::test_the_newest_are_kept_and_the_others_counted",
    ),
    Removal(
        "CC4",
        "the cap is 10,000",
        _FACTS,
        "BULK_FETCH_CAP = 10_000  # CC4.",
        "BULK_FETCH_CAP = 100_000  # CC4.",
        f"{_SOURCE}::test_ten_thousand_of_a_bulk_change_are_fetched",
    ),
    Removal(
        "CC4",
        "a run fetches by its provider's cap",
        "services/poller/attend.py",
        "return source.facts.bulk_fetch_cap if cap is None else cap or None",
        "return cap or None",
        "services/poller/test_bulk_changes.py::test_the_operator_may_lift_the_cap",
    ),
    Removal(
        "CC4",
        "the operator may lift it",
        "services/poller/attend.py",
        "return source.facts.bulk_fetch_cap if cap is None else cap or None",
        "return source.facts.bulk_fetch_cap",
        "services/poller/test_bulk_changes.py::test_the_operator_may_lift_the_cap",
    ),
    Removal(
        "CC4",
        "the run says how many were left out",
        "services/poller/poll.py",
        "        self._leave_out(newest.left_out)\n",
        "",
        "services/poller/test_constant_contact.py::test_of_a_bulk_change_the_newest_are_fetched",
    ),
    Removal(
        "CC5",
        "at most 4 calls a second",
        _FACTS,
        "Limit(bucket=API, calls=4, window_s=1.0,",
        "Limit(bucket=API, calls=8, window_s=1.0,",
        "connectors/constant_contact/test_budget.py::test_all_accounts_share_four_calls_a_second",
    ),
    Removal(
        "CC5",
        "all accounts share them: they are the application's",
        _FACTS,
        'scope="application", per_day=10_000',
        'scope="account", per_day=10_000',
        "connectors/constant_contact/test_budget.py::test_all_accounts_share_four_calls_a_second",
    ),
    Removal(
        "CC5",
        "at most 10,000 calls a day",
        _FACTS,
        "per_day=10_000",
        "per_day=100_000",
        f"{_SOURCE}::test_the_day_of_the_limits_begins_at_midnight_utc",
    ),
    Removal(
        "CC5",
        "no workspace uses up the day of the others",
        "migrations/sql/26_shared_days.sql",
        "if p_calls > v_free + v_own + v_peoples then",
        "if false then",
        "common/test_rates.py::test_no_workspace_uses_up_the_day_of_the_others",
    ),
    Removal(
        "CC5",
        "a workspace's calls are known to be its own",
        "libs/connectors/opening.py",
        "str(stored.workspace) if self._is_shared(stored.provider) else",
        '"" if self._is_shared(stored.provider) else',
        "connectors/constant_contact/test_budget.py::test_one_workspace_leaves_the_others_their_part_of_the_day",
    ),
    Removal(
        "CC5",
        "an application of a workspace's own is counted apart",
        "libs/connectors/opening.py",
        'f"{application}:{client_id}" if client_id else application',
        "application",
        "connectors/constant_contact/test_budget.py::test_an_application_of_its_own_shares_its_calls_with_nobody",
    ),
    Removal(
        "CC5",
        "and its day is divided among those who use it",
        "migrations/sql/29_own_applications.sql",
        "and c.provider || ':application' || coalesce(':' || c.client_id, '') = p_scope",
        "",
        "connectors/constant_contact/test_budget.py::test_an_application_of_its_own_shares_its_calls_with_nobody",
    ),
    Removal(
        "CC5",
        "tokens are refreshed by the application that they were given to",
        "libs/connectors/oauth.py",
        "self._endpoint.called_by(tokens.client)",
        "self._endpoint",
        "services/config_api/routes/test_own_applications.py::test_tokens_are_refreshed_by_the_application_that_they_were_given_to",
    ),
    Removal(
        "CC5",
        "the day's count is reset at 00:00 UTC",
        "libs/connectors/constant_contact/source.py",
        'time_zone="UTC")',
        'time_zone="America/New_York")',
        f"{_SOURCE}::test_the_day_of_the_limits_begins_at_midnight_utc",
    ),
    Removal(
        "CC5",
        "a refusal of the day lasts until midnight, not a second",
        "libs/connectors/constant_contact/refusals.py",
        'case 429, "quota_exceeded":',
        'case 429, "exceeded":',
        f"{_SOURCE}::test_a_second_and_a_day_are_told_apart_by_their_key",
    ),
)
