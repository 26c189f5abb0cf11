"""Fields that automatic imports want are made at the destination, and mapped (AC1)."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from libs.common.errors import MisconfiguredError, RequestRefusedError, UnavailableError
from libs.common.events import IntegrationChanged, IntegrationKind, Topic, decode
from libs.connectors.contract import Field, FieldType
from services.writer import store
from services.writer.fields import AT_ONCE_MAX
from tests.fakes import HOST, CrashError, FakeDestination
from tests.services.writer.world import World, Writer

JOB, BORN = "HubSpot: Job title", "HubSpot: Born"
FIELDS = (
    {"source": "email", "type": "email", "title": "HubSpot: Email", "standard": "email"},
    {"source": "jobtitle", "type": "text", "title": JOB, "standard": ""},
    {"source": "born", "type": "date", "title": BORN, "standard": ""},
)


async def want(world: World, *fields: dict[str, str]) -> None:
    """Ask for fields of an automatic import, as the API does when it is activated."""
    async with world.owner.begin() as session:
        await session.execute(
            text("select delivery.want_fields(:i, cast(:f as jsonb))"),
            {"i": world.integration, "f": json.dumps(fields)},
        )


@pytest.fixture
async def importer(world: World) -> World:
    """Return a world whose integration is an automatic import that was just activated."""
    await world.configure(kind="automatic", mapping_version=0)
    await want(world, *FIELDS)
    return world


async def mapping(world: World) -> list[tuple[Any, ...]]:
    """Return (version, source, destination, type) of every field in force."""
    found = await world.rows(
        "select m.version, f ->> 'source', f ->> 'destination', f ->> 'destination_type'"
        " from config.integrations i join config.field_mappings m"
        " on m.integration_id = i.integration_id and m.version = i.mapping_version"
        " cross join jsonb_array_elements(m.fields) f"
    )
    return [tuple(row) for row in found]


async def told(world: World) -> list[IntegrationKind]:
    found = await world.rows(
        "select body from delivery.outbox where topic = 'integrations.changed.v1' order by id"
    )
    events = [decode(Topic.INTEGRATIONS_CHANGED, bytes(row.body)) for row in found]
    return [event.kind for event in events if isinstance(event, IntegrationChanged)]


async def look(world: World, writer: Writer) -> int:
    """Let a writer find out by itself who wants something, and see to it; return how many did."""
    async with world.sessions.begin() as session:
        busy = await store.busy_destinations(session)
    for each in busy:
        assert each.connection == world.destination
        await world.drain(writer)
    return len(busy)


async def test_fields_are_made_and_mapped_and_then_everything_is_read(importer: World) -> None:
    """Proves AC1 and AC2: the first import waits for its fields, and reads all for them, once."""
    before = await importer.rows("select * from sync.schedules")

    await look(importer, importer.writer())

    schedule = await importer.rows("select * from sync.schedules")
    assert before == []
    assert importer.account.made == {JOB: FieldType.TEXT, BORN: FieldType.DATE}
    assert await mapping(importer) == [
        (1, "email", "EMAIL", "email"),
        (1, "jobtitle", JOB.upper(), "text"),
        (1, "born", BORN.upper(), "date"),
    ]
    assert [(row.wanted_mode, row.wanted_mapping_version) for row in schedule] == [("full", 1)]
    assert await importer.rows("select * from delivery.wanted_fields") == []
    assert await importer.one("select count(*) from config.audit_log") == 1


async def test_a_field_that_comes_later_is_added(importer: World) -> None:
    """Proves AC1: whenever a new source field appears; what is being read is read anew."""
    writer = importer.writer()
    await importer.drain(writer)
    await importer.execute(
        'update config.field_mappings set criteria = \'{"match": "all", "conditions": []}\''
    )
    await importer.begin_run(1)
    await want(importer, {"source": "city", "type": "text", "title": "HubSpot: City"} | NO_STANDARD)
    await importer.drain(writer)

    rows = await importer.rows("select version, criteria from config.field_mappings order by 1")
    assert [each[1] for each in await mapping(importer)] == ["email", "jobtitle", "born", "city"]
    assert [row.version for row in rows] == [1, 2]
    assert rows[0].criteria == rows[1].criteria
    assert await importer.one("select state from sync.runs") == "cancelled"
    assert await importer.one("select wanted_mapping_version from sync.schedules") == 2


NO_STANDARD = {"standard": ""}


async def test_a_writer_that_dies_makes_no_field_twice(importer: World) -> None:
    """Proves AC1 and X2: what was made is found by its name."""
    importer.account.made[JOB] = FieldType.TEXT
    importer.account.made_errors[BORN] = CrashError()  # type: ignore[assignment]  # not an answer
    with pytest.raises(CrashError):
        await importer.drain(importer.writer())
    await importer.lapse()
    importer.account.made_errors.clear()

    await importer.drain(importer.writer())

    assert list(importer.account.made) == [JOB, BORN]
    assert [each[1] for each in await mapping(importer)] == ["email", "jobtitle", "born"]
    assert await importer.one("select count(*) from config.field_mappings") == 1


async def test_a_field_that_is_refused_holds_no_other_up(importer: World) -> None:
    """Proves AC1 and X1: it says so; a field of that name and another type is somebody else's."""
    importer.account.made[BORN] = FieldType.NUMBER
    importer.account.made_errors[JOB] = RequestRefusedError(HOST, 422, "too_long")

    await importer.drain(importer.writer())

    refused = await importer.rows("select source, refused from delivery.wanted_fields order by 1")
    assert [tuple(row) for row in refused] == [("born", "duplicate"), ("jobtitle", "too_long")]
    assert [each[1] for each in await mapping(importer)] == ["email"]


async def test_a_field_that_is_made_and_not_found_is_not_made_for_ever(
    importer: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves AC1 and X1: a destination that calls it something else refuses it, in effect."""

    async def describe_attributes(_self: FakeDestination) -> list[Field]:
        return [Field("EMAIL", "EMAIL", FieldType.EMAIL, unique=True)]

    monkeypatch.setattr(FakeDestination, "describe_attributes", describe_attributes)
    writer = importer.writer()

    await importer.drain(writer)
    await importer.drain(writer)

    refused = await importer.rows("select distinct refused from delivery.wanted_fields")
    assert [row.refused for row in refused] == ["no_place"]
    assert importer.account.calls["make_attribute"] == 2
    assert [each[1] for each in await mapping(importer)] == ["email"]


async def test_who_may_make_no_fields_is_told_so_and_goes_on_by_itself(importer: World) -> None:
    """Proves AC1 and X1: a permission that is missing is an error, until it is there."""
    importer.account.made_errors[""] = MisconfiguredError(HOST, "scope_missing")
    writer = importer.writer()
    await importer.drain(writer)
    in_error = await importer.rows("select state, error_reason from config.integrations")
    calls = importer.account.calls["make_attribute"]
    await importer.drain(writer)  # Not at once again.
    patient = importer.account.calls["make_attribute"] == calls
    importer.account.made_errors.clear()
    await importer.execute("update delivery.wanted_fields set tried_at = now() - interval '1 h'")

    await importer.drain(writer)

    assert [tuple(row) for row in in_error] == [("error", "fields_not_made")]
    assert patient
    assert await importer.one("select state from config.integrations") == "active"
    assert len(await mapping(importer)) == 3
    assert await told(importer) == [IntegrationKind.ERROR, IntegrationKind.RECOVERED]


async def test_a_destination_that_is_down_gets_its_fields_later(importer: World) -> None:
    """Proves AC1: nothing is mapped half."""
    importer.account.made_errors[BORN] = UnavailableError(HOST, "HTTP 503")

    await importer.drain(importer.writer())

    assert await mapping(importer) == []
    assert await importer.one("select state from config.integrations") == "active"
    assert await importer.one("select count(*) from delivery.wanted_fields") == 3


async def test_many_fields_are_made_in_turns_and_mapped_at_once(importer: World) -> None:
    """Proves AC1: a turn stays short, and everything is read once, not once for each turn."""
    many = [
        {"source": f"f{n}", "type": "text", "title": f"HubSpot: {n}"} | NO_STANDARD
        for n in range(AT_ONCE_MAX + 5)
    ]
    await want(importer, *many)
    writer = importer.writer()

    more = await writer.drain.drain(importer.destination, importer.workspace)
    first = importer.account.calls["make_attribute"]
    unmapped = await mapping(importer)
    rest = await writer.drain.drain(importer.destination, importer.workspace)

    assert (more, first, unmapped) == (True, AT_ONCE_MAX, [])
    assert rest is False
    assert len(await mapping(importer)) == len(many) + len(FIELDS)
    assert await importer.one("select count(*) from config.field_mappings") == 1


async def test_who_is_paused_waits_and_who_is_deleted_gets_none(importer: World) -> None:
    """Proves AC7."""
    writer = importer.writer()
    for state in ("paused", "archived"):
        await importer.configure(state=state)
        assert await look(importer, writer) == 0  # Nobody has to look there for them.
        await importer.drain(writer)

    assert importer.account.made == {}
    assert await importer.one("select mapping_version from config.integrations") == 0


async def test_only_automatic_imports_get_fields(world: World) -> None:
    """Proves W5: nobody else's mapping changes by itself."""
    await want(world, *FIELDS)

    assert await world.one("select count(*) from delivery.wanted_fields") == 0
    added = await world.one(
        'select config.add_fields(:i, \'[{"source": "a", "destination": "A"}]\')',
        i=world.integration,
    )
    assert added is None
