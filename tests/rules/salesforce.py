"""Salesforce's rules taken out, SF1 to SF10."""

from tests.rules.removal import Removal

_FACTS = "libs/connectors/salesforce/facts.py"
_WRITING = "libs/connectors/salesforce/writing.py"
_REFUSALS = "libs/connectors/salesforce/refusals.py"
_AGREEMENT = "services/writer/agreement.py"
_PAIRING = "services/writer/pairing.py"
_CONFIG = "services/config_api"
_WIZARD = f"{_CONFIG}/routes/test_salesforce.py"
_PLANS = f"{_CONFIG}/routes/test_plans.py"
_TWO_WAY = f"{_CONFIG}/routes/test_two_way.py"
_AGREED = "services/writer/test_agreement.py"
_BOTH_WAYS = "integration/test_both_ways.py"
_WRITES = "connectors/salesforce/test_writing.py"

REMOVALS = (
    Removal(
        "SF1",
        "only the enterprise plan connects it",
        f"{_CONFIG}/routes/connections.py",
        '    flaws = list(plan_needed(facts, found(row, "workspace").plan, "/provider"))\n',
        "    flaws = []\n",
        f"{_WIZARD}::test_only_the_enterprise_plan_has_salesforce",
    ),
    Removal(
        "SF1",
        "who leaves the plan starts nothing more",
        f"{_CONFIG}/checklist.py",
        '    yield from plan_needed(draft.source_facts, draft.plan, "/source/connection_id")\n',
        "",
        f"{_WIZARD}::test_a_workspace_that_leaves_the_plan_starts_nothing_more",
    ),
    Removal(
        "SF1",
        "what runs stops with the plan",
        f"{_CONFIG}/routes/workspaces.py",
        '        await plans.hold_to(parts, session, caller, workspace_id, wanted["plan"])\n',
        "        pass\n",
        f"{_PLANS}::test_nothing_is_read_without_the_plan",
    ),
    Removal(
        "SF1",
        "the way back of what runs stops with it",
        f"{_CONFIG}/store/integrations.py",
        '"  and c.connection_id in (i.source_connection_id, i.destination_connection_id))"\n'
        '            " returning',
        '"  and c.connection_id = i.source_connection_id)"\n            " returning',
        f"{_PLANS}::test_without_the_plan_an_integration_stops_with_its_way_back",
    ),
    Removal(
        "SF1",
        "an activation under way does not pass the plan by",
        f"{_CONFIG}/configure.py",
        "        refuse_unready(review(replace(draft, plan=plan)))\n",
        "",
        f"{_PLANS}::test_an_activation_under_way_does_not_pass_the_plan_by",
    ),
    Removal(
        "SF1",
        "what was in error stops as well",
        f"{_CONFIG}/store/integrations.py",
        "i.state in ('active', 'error')\"\n            \" and exists",
        "i.state = 'active'\"\n            \" and exists",
        f"{_PLANS}::test_no_worker_starts_again_what_was_in_error",
    ),
    Removal(
        "SF2",
        "an organisation whose API is off is told apart from a lack of rights",
        _REFUSALS,
        '    (403, "API_DISABLED_FOR_ORG"): "api_disabled",\n',
        "",
        f"{_WIZARD}::test_an_organisation_without_its_api_is_told_so_at_the_login",
    ),
    Removal(
        "SF2",
        "the same of one whose API is off for now",
        _REFUSALS,
        '    (403, "API_CURRENTLY_DISABLED"): "api_disabled",\n',
        "",
        f"{_WIZARD}::test_an_organisation_without_its_api_is_told_so_at_the_login",
    ),
    Removal(
        "SF2",
        "the message says what to do",
        f"{_CONFIG}/errors.py",
        '"api_disabled": "its API is switched off for this account, or for this person: an "\n    "administrator must',
        '"api_disabled": "its API is off: "\n    "somebody must',
        f"{_WIZARD}::test_an_organisation_without_its_api_is_told_so_at_the_login",
    ),
    Removal(
        "SF3",
        "what went both ways before is told of edits by itself",
        f"{_CONFIG}/listening.py",
        "        await arrange(parts, Units(parts.sessions, each.workspace_id), each.connection_id)\n",
        "        pass\n",
        f"{_CONFIG}/routes/test_provider_events.py"
        "::test_integrations_that_went_both_ways_before_are_told_of_edits_as_well",
    ),
    Removal(
        "SF3",
        "a changed attribute is written back",
        _PAIRING,
        "        if verdict is Verdict.WRITE:\n            narrowed",
        "        if verdict is Verdict.WRITE and each.here is Side.SOURCE:\n            narrowed",
        f"{_BOTH_WAYS}::test_an_edit_at_either_side_reaches_the_other",
    ),
    Removal(
        "SF3",
        "an edit goes where nobody edited",
        _AGREEMENT,
        "    if seen.holds(here.other, there):\n        return Verdict.WRITE\n",
        "    if seen.holds(here.other, there):\n        return Verdict.YIELD\n",
        f"{_AGREED}::test_an_edit_goes_where_nobody_edited",
    ),
    Removal(
        "SF3",
        "of two edits the newer stands",
        _AGREEMENT,
        "return at_s >= there_s if here is Side.SOURCE else at_s > there_s",
        "return at_s <= there_s if here is Side.SOURCE else at_s < there_s",
        f"{_AGREED}::test_of_two_edits_the_newer_stands_and_on_a_tie_the_sources",
    ),
    Removal(
        "SF3",
        "a date goes back as YYYY-MM-DD only",
        "services/mapper/values.py",
        "    return moment.date().isoformat()\n",
        "    return text\n",
        "services/mapper/test_values.py::test_a_value_takes_the_attributes_type",
    ),
    Removal(
        "SF3",
        "a date in another format is not propagated, and is reported",
        "services/mapper/values.py",
        "        raise ContactRejectedError(Reject.DATE_FORMAT)\n",
        "        return text\n",
        "services/mapper/test_values.py::test_a_value_that_cannot_be_that_is_refused",
    ),
    Removal(
        "SF3",
        "a date that Salesforce cannot read is told as one",
        _WRITING,
        "return Refused(Reject.DATE_FORMAT if is_date else Reject.VALUE_NOT_ACCEPTED)",
        "return Refused(Reject.VALUE_NOT_ACCEPTED)",
        f"{_WRITES}::test_a_date_that_it_cannot_read_is_told_as_one",
    ),
    Removal(
        "SF4",
        "an empty last name is not propagated",
        _WRITING,
        '    if LAST_NAME in values and not str(values[LAST_NAME] or "").strip():\n',
        "    if False:\n",
        f"{_WRITES}::test_an_empty_last_name_is_not_sent",
    ),
    Removal(
        "SF4",
        "nor is one of blanks alone",
        _WRITING,
        'not str(values[LAST_NAME] or "").strip()',
        'not str(values[LAST_NAME] or "")',
        f"{_WRITES}::test_an_empty_last_name_is_not_sent",
    ),
    Removal(
        "SF5",
        "who lost the address at Salesforce is not updated at Brevo",
        "services/mapper/map_contact.py",
        "_refuse_unknown(emails if email else numbers, refused)",
        "_refuse_unknown([a or b for a, b in zip(emails, numbers, strict=True)], refused)",
        "services/mapper/test_map_contact.py::test_a_contact_whose_address_was_removed_is_not_known_by_its_phone",
    ),
    Removal(
        "SF5",
        "who lost the address at Salesforce is not updated there",
        _PAIRING,
        "        if _has_lost_its_address(each, remote):\n",
        "        if False:\n",
        f"{_BOTH_WAYS}::test_who_lost_the_address_at_salesforce_is_left_alone",
    ),
    Removal(
        "SF6",
        "a phone emptied at Salesforce is left alone",
        "services/mapper/map_contact.py",
        "            converted[place] = [UNSET if each is None else each for each in converted[place]]\n",
        "            pass\n",
        "services/mapper/test_map_contact.py::test_an_emptied_phone_is_left_alone_where_phones_stay",
    ),
    Removal(
        "SF6",
        "that it is Salesforce's rule",
        _FACTS,
        "    phones_stay=True,\n",
        "",
        "services/poller/test_salesforce.py::test_an_emptied_phone_is_told_as_one_that_stays",
    ),
    Removal(
        "SF6",
        "two ways: an emptied phone is neither emptied nor brought back",
        _AGREEMENT,
        "name: remote.get(name) if value is None and name in phones else value",
        "name: value",
        f"{_AGREED}::test_a_phone_that_the_source_emptied_stays_at_the_destination",
    ),
    Removal(
        "SF7",
        "five integrations for an account",
        _FACTS,
        "INTEGRATIONS_PER_ACCOUNT = 5  # SF7.",
        "INTEGRATIONS_PER_ACCOUNT = 6  # SF7.",
        f"{_WIZARD}::test_an_organisation_is_used_five_times_contacts_and_leads_together",
    ),
    Removal(
        "SF7",
        "contacts and leads together",
        f"{_CONFIG}/store/integrations.py",
        '            " and i.way_back_of is null"\n            " and (c.connection_id',
        '            " and i.way_back_of is null and i.source_object = (select o.source_object"\n'
        '            " from config.integrations o where o.integration_id = :integration)"\n'
        '            " and (c.connection_id',
        f"{_WIZARD}::test_an_organisation_is_used_five_times_contacts_and_leads_together",
    ),
    Removal(
        "SF8",
        "a lead's longer first name is not propagated",
        _WRITING,
        "    if sobject == LEAD and is_long:\n",
        "    if False:\n",
        f"{_WRITES}::test_a_leads_first_name_has_forty_characters_at_most",
    ),
    Removal(
        "SF8",
        "forty characters are allowed",
        _WRITING,
        "LEAD_FIRST_NAME_MAX = 40  # SF8, in characters.",
        "LEAD_FIRST_NAME_MAX = 39  # SF8, in characters.",
        f"{_WRITES}::test_a_leads_first_name_has_forty_characters_at_most",
    ),
    Removal(
        "SF8",
        "the integration shows an error status",
        f"{_CONFIG}/progress.py",
        "    if standing.way_back_reason is not None:\n"
        "        return Status.ERROR, standing.way_back_reason\n",
        "",
        f"{_TWO_WAY}::test_a_first_name_that_is_too_long_shows_as_an_error",
    ),
    Removal(
        "SF9",
        "who is deleted at Brevo is deleted at Salesforce",
        f"{_CONFIG}/store/integrations.py",
        "interval_minutes, 'remove_from_list', email_change_policy",
        "interval_minutes, 'keep', email_change_policy",
        f"{_TWO_WAY}::test_the_way_back_follows_its_integration",
    ),
    Removal(
        "SF9",
        "a deletion that is carried back is made",
        "libs/connectors/salesforce/destination.py",
        "        for deletes in (False, True):\n",
        "        for deletes in (False,):\n",
        f"{_BOTH_WAYS}::test_a_contact_deleted_at_brevo_is_deleted_at_salesforce",
    ),
    Removal(
        "SF9",
        "who has a case stays, and is reported as such",
        _WRITING,
        '    if code == "DELETE_FAILED" and "case" in error.message.lower():\n'
        "        return Reject.CASE_ATTACHED\n",
        "",
        f"{_WRITES}::test_each_refusal_is_its_contacts_own",
    ),
    Removal(
        "SF10",
        "what was written by a sync is no edit",
        _AGREEMENT,
        "    if seen.holds(here, content):\n        return Verdict.ECHO\n",
        "",
        f"{_AGREED}::test_what_was_written_here_is_no_edit",
    ),
    Removal(
        "SF10",
        "nor is what may be under way",
        _AGREEMENT,
        "        return content in (self.of(side), pending)\n",
        "        return content == self.of(side)\n",
        f"{_AGREED}::test_what_may_be_under_way_here_is_no_edit",
    ),
    Removal(
        "SF10",
        "a provider's own way to keep a value is no edit",
        _AGREEMENT,
        "        return moment.date().isoformat() if moment else text or None\n",
        "        return text or None\n",
        f"{_AGREED}::test_what_providers_write_otherwise_is_the_same",
    ),
)
