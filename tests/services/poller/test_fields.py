"""Fields that a source has got are asked for by the run that finds them (AC1)."""

from collections.abc import Sequence

import pytest

from libs.common.errors import UnavailableError
from libs.connectors.contract import Field, FieldType, NotMappable
from tests.services.poller.fakes import FakeSource
from tests.services.poller.world import World

EMAIL = Field("email", "Email", FieldType.EMAIL, unique=True)
NAME = Field("firstname", "First name", FieldType.TEXT)
CITY = Field("city", "City", FieldType.TEXT)
VIP = Field("vip", "VIP", FieldType.BOOLEAN, NotMappable.BOOLEAN)


async def asked(world: World) -> dict[str, str]:
    rows = await world.rows("select source, title from delivery.wanted_fields order by source")
    return {row.source: row.title for row in rows}


@pytest.fixture
def source() -> FakeSource:
    made = FakeSource()
    made.add("1", "2")
    made.fields = [EMAIL, NAME]
    return made


async def automatic(world: World) -> None:
    await world.execute("update config.integrations set kind = 'automatic'")


async def test_a_field_that_the_source_has_got_is_asked_for_once(
    world: World, source: FakeSource
) -> None:
    """Proves AC1: by the next run, which goes on with the mapping there is."""
    integration = await world.integrate()
    await automatic(world)
    await world.poll(integration, source)
    before = await asked(world)
    source.fields += [CITY, VIP]

    await world.poll(integration, source)
    found = await asked(world)
    await world.execute("update delivery.wanted_fields set refused = 'duplicate'")
    await world.poll(integration, source)

    assert before == {}
    assert found == {"city": "Fake – City"}  # noqa: RUF001  # as it is made
    assert await asked(world) == found
    assert {part.mapping_version for part in world.journal.parts} == {1}
    assert len(world.journal.ends) == 3
    row = await world.row("select refused from delivery.wanted_fields")
    assert row.refused == "duplicate"  # Nobody asks for it again but a person.


async def test_a_field_that_the_source_has_lost_is_left_alone(
    world: World, source: FakeSource
) -> None:
    """Proves AC1. Fault 46: nobody could take it out of the mapping, so it is not asked for."""
    integration = await world.integrate()
    await automatic(world)
    await world.poll(integration, source)
    source.fields = [EMAIL]

    await world.poll(integration, source)

    now_ms = (await world.row("select max(from_ms) as at from sync.positions")).at
    source.contacts["1"].modified_ms = now_ms + 1
    await world.poll(integration, source)

    asked_for = [part.properties for part in world.journal.parts]
    assert asked_for == [["email", "firstname"], ["email"]]


async def test_criteria_do_not_map_a_field(world: World, source: FakeSource) -> None:
    """Proves AC1: a field that is only compared with still gets its place."""
    condition = {"field": "city", "operator": "is_set"}
    integration = await world.integrate(criteria={"match": "all", "conditions": [condition]})
    await automatic(world)
    source.fields.append(CITY)

    await world.poll(integration, source)

    assert list(await asked(world)) == ["city"]


async def test_who_maps_by_hand_is_not_asked_for_fields(world: World, source: FakeSource) -> None:
    """Proves W5: and it costs no call."""
    integration = await world.integrate()
    source.fields.append(CITY)

    await world.poll(integration, source)

    assert await asked(world) == {}
    assert "fields" not in source.calls


async def test_fields_that_cannot_be_read_put_the_run_off(world: World, source: FakeSource) -> None:
    """Proves AC1: as any call does; the next run asks again."""
    integration = await world.integrate()
    await automatic(world)

    async def fail(object_name: str) -> Sequence[Field]:
        raise UnavailableError(host="fake", reason="HTTP 503")

    source.describe_fields = fail  # type: ignore[method-assign]  # a source that is down
    await world.attendant(source).attend(await world.claim_one(integration))

    schedule = await world.schedule(integration)
    assert schedule.failures == 1
    assert world.journal.ends == []
