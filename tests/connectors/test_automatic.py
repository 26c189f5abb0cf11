"""What an automatic import makes of a source's fields."""

from libs.connectors.automatic import Standard, WantedField, has_address, place_of, wanted_fields
from libs.connectors.contract import Field, FieldType, NotMappable

JOB = Field("jobtitle", "Job title", FieldType.TEXT)
EMAIL = Field("email", "Email", FieldType.EMAIL, unique=True)
HAVE = [
    Field("EMAIL", "Email", FieldType.EMAIL, unique=True),
    Field("FIRSTNAME", "First Name", FieldType.TEXT),
    Field("PHONE", "Phone", FieldType.PHONE),
    Field("JOBTITLE", "Job title", FieldType.TEXT),
]


def test_a_field_is_named_after_its_service() -> None:
    """Proves AC1: nobody's own field of that name is written to."""
    [wanted] = wanted_fields("HubSpot", [JOB])

    assert wanted == WantedField("jobtitle", FieldType.TEXT, "HubSpot – Job title")  # noqa: RUF001  # as it is made
    assert place_of(wanted, HAVE) is None


def test_fields_that_every_contact_has_are_not_made() -> None:
    """Proves AC1: the address, the names and the number go where they belong."""
    fields = [
        EMAIL,
        Field("work_email", "Work e-mail", FieldType.EMAIL),
        Field("given_name", "First", FieldType.TEXT),
        Field("phone", "Phone number", FieldType.PHONE),
    ]

    wanted = wanted_fields("Ours", fields)
    places = [place_of(each, HAVE) for each in wanted]

    assert has_address(wanted)
    assert [each.name if each else None for each in places] == ["EMAIL", None, "FIRSTNAME", "PHONE"]


def test_an_address_is_known_by_being_one() -> None:
    """Proves AC1: whatever a source calls it, contacts are told apart by it."""
    fields = [Field("E1", "Login", FieldType.EMAIL, unique=True), Field("n", "N", FieldType.TEXT)]

    wanted = wanted_fields("Ours", fields)

    assert [each.standard for each in wanted] == [Standard.EMAIL, Standard.NONE]
    assert not has_address(wanted_fields("Ours", fields[1:]))


def test_two_fields_with_one_label_get_two_names() -> None:
    """Proves AC1: also where the second comes later, and letters alone make the tag."""
    both = [Field("a", "Sales-Status", FieldType.TEXT), Field("b", "sales status", FieldType.TEXT)]

    titles = [each.title for each in wanted_fields("Ours", both)]
    [later] = wanted_fields("Ours", both, known=["a"])

    assert titles == ["Ours – Sales-Status (a)", "Ours – sales status (b)"]  # noqa: RUF001  # as they are made
    assert later.title == titles[1]


def test_only_what_may_be_mapped_and_is_new_is_wanted() -> None:
    """Proves AC1, S6 and S7."""
    fields = [
        JOB,
        Field("vip", "VIP", FieldType.BOOLEAN, NotMappable.BOOLEAN),
        Field("score", "Score", FieldType.NUMBER, NotMappable.CALCULATED),
        Field("born", "Born", FieldType.DATE),
    ]

    wanted = wanted_fields("HubSpot", fields, known=["jobtitle"])

    assert [(each.source, each.made_as) for each in wanted] == [("born", FieldType.DATE)]
    assert (
        wanted_fields("HubSpot", [Field("n", "N", FieldType.NUMBER)])[0].made_as is FieldType.TEXT
    )


def test_what_was_made_before_is_found_by_its_title() -> None:
    """Proves AC1: an import that is made anew, or a second one, uses the same fields."""
    [wanted] = wanted_fields("HubSpot", [JOB])
    made = Field("HUBSPOT_JOB_TITLE", "hubspot – job title", FieldType.TEXT)  # noqa: RUF001  # as it was made

    assert place_of(wanted, [*HAVE, made]) is made
