"""What each provider can do to us, and the test that lets it: a part of docs/faults.md.

The faults that depend on how a provider pages, searches, forgets and revokes are held apart by
provider: what one test shows at HubSpot says nothing of Salesforce. A cell names tests, or says in
a few words why the provider can not have the fault. A test holds the table to the registry and to
the tests' docstrings (tests/test_faults.py).
"""

from collections.abc import Mapping

# A fault's number, and what of it is meant.
CASES: Mapping[str, tuple[int, str]] = {
    "stamps": (18, "more than 10,000 records with one time"),
    "edits": (20, "records edited or deleted while they are paged through"),
    "late": (19, "an index that is late"),
    "token": (65, "a sync token that expired"),
    "limit": (40, "a limit, at each step"),
    "trouble": (41, "an outage, a cut, an answer that is lost, at each step"),
    "part": (42, "a batch that fails in part"),
    "import": (43, "an import that fails, or in part, or whose answer is lost"),
    "lie": (44, "a success that is none, at each step"),
    "list": (46, "a list that is removed"),
    "field": (46, "a field that is removed"),
    "grant": (45, "a grant that is revoked, at each step"),
}

_CONNECTORS, _POLLER, _WRITER = "tests/connectors", "tests/services/poller", "tests/services/writer"
_HAS_NONE = "has none"
_ONLY_READ = "it is only read"
_READING = (
    f"{_CONNECTORS}/test_steps.py::"
    "test_a_step_of_reading_says_what_stopped_it_and_can_be_taken_again"
)
_WRITING = (
    f"{_CONNECTORS}/test_steps.py::"
    "test_a_step_of_writing_says_what_stopped_it_and_can_be_taken_again"
)
_LATE = f"{_POLLER}/test_late_indexes.py::test_an_edit_that_is_shown_late_is_read_by_the_next_run"

Cell = tuple[str, ...] | str

CELLS: Mapping[str, Mapping[str, Cell]] = {
    "hubspot": {
        "stamps": (
            f"{_POLLER}/test_hubspot.py::test_more_than_10000_contacts_on_one_millisecond_are_all_read",
        ),
        "edits": (
            f"{_POLLER}/test_hubspot.py::test_edits_and_deletions_between_pages_lose_nobody",
        ),
        "late": (f"{_POLLER}/test_hubspot.py::test_a_late_index_loses_nobody",),
        "token": _HAS_NONE,
        "limit": (_READING,),
        "trouble": (_READING,),
        "part": _ONLY_READ,
        "import": _ONLY_READ,
        "lie": (_READING,),
        "list": (
            f"{_POLLER}/test_hubspot.py::test_what_is_gone_at_hubspot_stops_the_integration_with_a_reason",
        ),
        "field": (
            f"{_POLLER}/test_hubspot.py::test_what_is_gone_at_hubspot_stops_the_integration_with_a_reason",
        ),
        "grant": (
            _READING,
            f"{_POLLER}/test_hubspot.py::test_a_grant_that_is_taken_back_needs_a_person_after_three_tries",
        ),
    },
    "constant_contact": {
        "stamps": (
            f"{_POLLER}/test_constant_contact.py::test_more_than_10000_contacts_on_one_second_are_all_read_and_then_the_newest",
        ),
        "edits": (
            f"{_POLLER}/test_constant_contact.py::test_who_was_passed_over_is_found_by_the_next_run",
            f"{_CONNECTORS}/constant_contact/test_source.py::test_a_sweep_whose_rows_moved_says_that_it_is_doubtful",
        ),
        "late": (_LATE,),
        "token": _HAS_NONE,
        "limit": (_READING,),
        "trouble": (_READING,),
        "part": _ONLY_READ,
        "import": _ONLY_READ,
        "lie": (_READING,),
        "list": (
            f"{_POLLER}/test_constant_contact.py::test_what_is_gone_stops_the_integration_with_a_reason",
        ),
        "field": (
            f"{_POLLER}/test_constant_contact.py::test_what_is_gone_stops_the_integration_with_a_reason",
        ),
        "grant": (
            _READING,
            f"{_POLLER}/test_constant_contact.py::test_a_grant_that_is_taken_back_needs_a_person_after_three_tries",
        ),
    },
    "salesforce": {
        "stamps": (
            f"{_CONNECTORS}/salesforce/test_source.py::test_any_number_of_records_may_have_one_second",
        ),
        "edits": (
            f"{_POLLER}/test_salesforce.py::test_edits_and_deletions_between_pages_lose_nobody",
            f"{_CONNECTORS}/salesforce/test_source.py::test_records_that_are_edited_between_pages_are_read_nevertheless",
        ),
        "late": (
            f"{_POLLER}/test_salesforce.py::test_what_is_committed_late_is_read_by_the_next_run",
        ),
        "token": _HAS_NONE,
        "limit": (_READING, _WRITING),
        "trouble": (_READING, _WRITING),
        "part": (
            f"{_CONNECTORS}/salesforce/test_destination.py::test_one_record_that_is_refused_spoils_no_other",
        ),
        "import": "takes none",
        "lie": (_READING, _WRITING),
        "list": (
            f"{_POLLER}/test_salesforce.py::test_what_is_gone_at_salesforce_stops_the_integration_with_a_reason",
        ),
        "field": (
            f"{_POLLER}/test_salesforce.py::test_what_is_gone_at_salesforce_stops_the_integration_with_a_reason",
            f"{_CONNECTORS}/salesforce/test_source.py::test_a_field_that_is_gone_stops_the_reading_with_its_name",
        ),
        "grant": (
            _READING,
            _WRITING,
            f"{_POLLER}/test_salesforce.py::test_a_grant_that_is_taken_back_needs_a_person_after_three_tries",
        ),
    },
    "google_contacts": {
        "stamps": (
            f"{_CONNECTORS}/google_contacts/test_source.py::test_more_than_10000_contacts_on_one_second_are_all_read",
        ),
        "edits": (
            f"{_CONNECTORS}/google_contacts/test_source.py::test_who_is_edited_or_deleted_while_pages_are_read_is_not_lost",
            f"{_POLLER}/test_google_contacts.py::test_who_moves_while_pages_are_read_is_not_taken_for_gone",
        ),
        "late": (
            f"{_CONNECTORS}/google_contacts/test_source.py::test_a_change_that_sync_reads_do_not_show_yet_is_not_passed_over",
        ),
        "token": (
            f"{_POLLER}/test_google_contacts.py::test_a_sync_token_that_expires_is_followed_by_a_full_read",
            f"{_POLLER}/test_google_contacts.py::test_a_sync_token_that_expires_mid_way_loses_nothing",
        ),
        "limit": (_READING,),
        "trouble": (_READING,),
        "part": _ONLY_READ,
        "import": _ONLY_READ,
        "lie": (_READING,),
        "list": (
            f"{_POLLER}/test_google_contacts.py::test_a_group_that_is_removed_stops_the_integration_with_a_reason",
        ),
        "field": (
            f"{_CONNECTORS}/google_contacts/test_source.py::test_a_field_that_nobody_has_any_more_is_empty_and_stops_nothing",
        ),
        "grant": (
            _READING,
            f"{_CONNECTORS}/google_contacts/test_source.py::test_a_grant_that_is_taken_back_needs_a_person_at_each_step",
            f"{_POLLER}/test_google_contacts.py::test_a_grant_that_is_taken_back_needs_a_person_after_three_tries",
        ),
    },
    "csv": {
        "stamps": (
            f"{_POLLER}/test_csv_million.py::test_a_large_file_takes_no_more_memory_and_goes_on_after_a_kill",
        ),
        "edits": (
            f"{_POLLER}/test_csv.py::test_a_run_that_was_killed_goes_on_in_the_file_that_it_began",
        ),
        "late": "a file is there or not",
        "token": _HAS_NONE,
        "limit": "it calls nobody",
        "trouble": "it calls nobody",
        "part": _ONLY_READ,
        "import": _ONLY_READ,
        "lie": "it calls nobody",
        "list": _HAS_NONE,
        "field": (f"{_POLLER}/test_csv.py::test_a_file_without_a_mapped_column_is_read_by_nobody",),
        "grant": "takes none",
    },
    "brevo": {
        "stamps": (
            f"{_CONNECTORS}/brevo/test_source.py::test_more_than_10000_contacts_on_one_millisecond_are_all_read",
        ),
        "edits": (
            f"{_CONNECTORS}/brevo/test_source.py::test_nobody_is_passed_over_when_rows_move_up",
            f"{_CONNECTORS}/brevo/test_source.py::test_whoever_joins_the_window_moves_nobody_out_of_it",
        ),
        "late": (_LATE,),
        "token": _HAS_NONE,
        "limit": (_READING, _WRITING),
        "trouble": (_READING, _WRITING),
        "part": (
            f"{_CONNECTORS}/brevo/test_destination.py::test_a_bad_value_refuses_one_contact_and_no_other",
        ),
        "import": (
            f"{_CONNECTORS}/brevo/test_destination.py::test_an_import_that_fails_says_so",
            f"{_CONNECTORS}/brevo/test_destination.py::test_rows_that_brevo_calls_invalid_are_named",
            f"{_CONNECTORS}/brevo/test_destination.py::test_an_import_whose_answer_was_lost_is_found",
        ),
        "lie": (_READING, _WRITING),
        "list": (
            f"{_CONNECTORS}/brevo/test_destination.py::test_leaving_a_list_that_is_gone_is_told",
            f"{_WRITER}/test_drain.py::test_a_missing_list_puts_the_integration_into_error_once",
        ),
        "field": (
            f"{_CONNECTORS}/brevo/test_source.py::test_an_attribute_that_is_gone_stops_the_reading",
            f"{_CONNECTORS}/brevo/test_destination.py::test_an_attribute_that_is_gone_is_a_missing_attribute",
        ),
        "grant": (
            _READING,
            _WRITING,
            f"{_WRITER}/test_drain.py::test_credentials_refused_three_times_need_a_person",
        ),
    },
    "activecampaign": {
        "stamps": "it is not asked what changed",
        "edits": (
            f"{_CONNECTORS}/activecampaign/test_destination.py::test_who_leaves_between_the_look_and_the_import_is_written_off_the_list",
        ),
        "late": "it is not asked what changed",
        "token": _HAS_NONE,
        "limit": (_WRITING,),
        "trouble": (_WRITING,),
        "part": (
            f"{_CONNECTORS}/activecampaign/test_destination.py::test_a_bad_address_refuses_one_contact_and_no_other",
        ),
        "import": (
            f"{_CONNECTORS}/activecampaign/test_destination.py::test_an_import_that_comes_to_nothing_is_unknown",
            f"{_CONNECTORS}/activecampaign/test_destination.py::test_rows_that_are_left_out_in_silence_are_not_believed",
            f"{_CONNECTORS}/activecampaign/test_destination.py::test_an_import_that_takes_too_long_is_unknown_and_found_later",
        ),
        "lie": (_WRITING,),
        "list": (
            f"{_CONNECTORS}/activecampaign/test_destination.py::test_a_list_that_is_gone_is_told_and_nobody_loses_anything",
            f"{_WRITER}/test_drain.py::test_a_missing_list_puts_the_integration_into_error_once",
        ),
        "field": (
            f"{_CONNECTORS}/activecampaign/test_destination.py::test_an_attribute_that_is_gone_is_a_missing_attribute",
        ),
        "grant": (
            _WRITING,
            f"{_CONNECTORS}/activecampaign/test_destination.py::test_a_key_that_was_taken_back_needs_a_person",
            f"{_WRITER}/test_drain.py::test_credentials_refused_three_times_need_a_person",
        ),
    },
}


def section() -> str:
    """Return the part of the page: a table for each provider."""
    parts = ["\n## By provider\n"]
    for provider, cells in CELLS.items():
        rows = [
            f"| {words} ({number}) | {_shown(cells[case])} |"
            for case, (number, words) in CASES.items()
        ]
        parts += [f"\n{provider}\n\n| fault | shown by, or why it can not be |\n|---|---|", *rows]
    return "\n".join(parts) + "\n"


def _shown(cell: Cell) -> str:
    return cell if isinstance(cell, str) else "<br>".join(f"`{each}`" for each in cell)
