"""The wizard: how an integration is changed, mapped, activated and ended (W1 to W8).

The order is always the same: read in one transaction and check the ETag, ask the providers with no
transaction open, decide, write in one transaction by compare-and-set. So two people never
overwrite each other, and what a provider refuses leaves nothing behind.

What contacts are read and where they go is fixed once an integration was active: its links, its
quota and its deletions belong to that pair of lists. Everything else can be edited at any time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ids, phone
from libs.common.ids import Prefix
from libs.connectors.automatic import EVERY_MINUTES, WantedField, has_address, wanted_fields
from libs.connectors.contract import Destination, Facts, Field, Source, Sweep
from services.config_api import connect, etags, mapping
from services.config_api.accounts import find_facts
from services.config_api.checklist import (
    Draft,
    Step,
    StepResult,
    account_in_use,
    goes_both_ways,
    is_ready,
    review,
    takes_automatic,
)
from services.config_api.errors import (
    ApiError,
    ConflictError,
    Flaw,
    InvalidError,
    NeedsReauthorisationError,
    NotReadyError,
    ProviderMisconfiguredError,
    StaleError,
)
from services.config_api.mapping import Cost, Pair
from services.config_api.models import found
from services.config_api.routing import Caller, Parts
from services.config_api.store import audit, connections, imports, workspaces
from services.config_api.store import integrations as store
from services.config_api.store import runs as run_store
from services.config_api.store.connections import Connection
from services.config_api.store.integrations import Integration, MappingVersion
from services.config_api.units import Units

FIXED = ("source_connection_id", "source_object", "source_list_id")
FIXED_TOO = ("destination_connection_id", "destination_list_id")


@dataclass(frozen=True, slots=True)
class Desk:
    """Who configures what with what: the arguments that every function here shares."""

    parts: Parts
    units: Units
    caller: Caller


@dataclass(frozen=True, slots=True)
class Wishes:
    """A PATCH, resolved: columns of the integration to set, and criteria where they were sent.

    `at` says where in the body a column came from, for pointers.
    """

    columns: Mapping[str, Any]
    at: Mapping[str, str]
    accepts_opt_in: bool | None = None
    sends_criteria: bool = False
    criteria: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """A mapping that was held against what the providers have now."""

    fields: Sequence[Mapping[str, Any]]
    contacts: int | None


@dataclass(frozen=True, slots=True)
class Saved:
    """An integration with its mapping, and what the change costs."""

    integration: Integration
    mapping: MappingVersion
    cost: Cost


async def load_draft(desk: Desk, integration_id: UUID, if_match: str | None = None) -> Draft:
    """Return an integration with its mapping and connections; raise StaleError for an old ETag."""

    async def work(session: AsyncSession) -> Draft:
        integration = found(await store.find(session, integration_id), "integration")
        return await draft_of(desk.parts, session, integration)

    draft = await desk.units.run(work)
    if if_match is not None:
        etags.check(if_match, draft.integration.version)
    return draft


async def draft_of(parts: Parts, session: AsyncSession, integration: Integration) -> Draft:
    """Return everything a checklist looks at."""
    chosen = {integration.source_connection_id, integration.destination_connection_id} - {None}
    rows = [await connections.find(session, each) for each in chosen if each is not None]
    source = integration.source_connection_id
    sharing = (
        await store.find_sharing(session, integration=integration.integration_id, connection=source)
        if source is not None
        else []
    )
    return Draft(
        integration=integration,
        mapping=await store.find_mapping(
            session, integration.integration_id, integration.mapping_version
        ),
        connections={row.connection_id: row for row in rows if row is not None},
        catalogue={facts.provider: facts for facts in parts.accounts.catalogue},
        sharing=sharing,
        plan=found(await workspaces.find(session, integration.workspace_id), "workspace").plan,
    )


async def change(desk: Desk, integration_id: UUID, if_match: str, wishes: Wishes) -> Integration:
    """Change any step of an integration, in any order; raise ApiError and change nothing."""
    draft = await load_draft(desk, integration_id, if_match)
    refuse_archived(draft.integration)
    refuse_way_back(draft.integration)
    wanted = _apply(desk, draft.integration, wishes)
    chosen = await desk.units.run(lambda session: draft_of(desk.parts, session, wanted))
    flaws = [
        *_check_fixed(draft.integration, wanted, wishes),
        *_check_chosen(desk, chosen, wishes),
    ]
    if flaws:
        raise InvalidError(detail="The integration cannot be changed like that.", flaws=flaws)
    wanted = await _look_up(desk, draft.integration, chosen, wishes)
    return await desk.units.run(lambda session: _save_change(desk, session, draft, wanted, wishes))


def refuse_archived(integration: Integration) -> None:
    """Refuse to touch what was deleted."""
    if integration.state == "archived":
        raise ConflictError(detail="This integration was deleted.", state=integration.state)


def refuse_way_back(integration: Integration) -> None:
    """Refuse to change a way back by itself: it follows its integration."""
    if integration.way_back_of is not None:
        raise ConflictError(
            detail="This is the way back of another integration: change that one.",
            state=integration.state,
            integration_id=ids.show(Prefix.INTEGRATION, integration.way_back_of),
        )


def refuse_automatic(integration: Integration) -> None:
    """Refuse to map by hand what maps itself (AC1)."""
    if integration.is_automatic:
        raise ConflictError(
            detail="An automatic import maps its fields by itself: make another integration to "
            "choose them.",
            state=integration.state,
        )


def _apply(desk: Desk, integration: Integration, wishes: Wishes) -> Integration:
    wanted = replace(integration, **wishes.columns)
    if wanted.source_connection_id != integration.source_connection_id:
        wanted = replace(
            wanted,
            source_object=wishes.columns.get("source_object"),
            source_list_id=wishes.columns.get("source_list_id"),
        )
    if wanted.destination_connection_id != integration.destination_connection_id:
        wanted = replace(wanted, destination_list_id=wishes.columns.get("destination_list_id"))
    if wishes.accepts_opt_in is False:
        return replace(wanted, opt_in_at=None, opt_in_by=None)
    if wishes.accepts_opt_in and wanted.opt_in_at is None:
        by = f"{desk.caller.name} ({desk.caller.actor})"
        return replace(wanted, opt_in_at=desk.parts.clock.now(), opt_in_by=by)
    return wanted


def _check_fixed(before: Integration, wanted: Integration, wishes: Wishes) -> list[Flaw]:
    if before.activated_at is None:
        return []
    flaws = [
        Flaw(
            "fixed_after_activation",
            "This is fixed once an integration was active: make a new integration instead.",
            pointer=wishes.at[column],
        )
        for column in (*FIXED, *FIXED_TOO)
        if column in wishes.columns and getattr(before, column) != getattr(wanted, column)
    ]
    if wanted.opt_in_at is None:
        flaws.append(
            Flaw(
                "opt_in_needed",
                "Pause or delete the integration instead: it may not run without the opt-in.",
                pointer="/opt_in/accepted",
                rule="W4",
            )
        )
    return flaws


def _check_chosen(desk: Desk, chosen: Draft, wishes: Wishes) -> list[Flaw]:
    """Return what is wrong with the choice of connections and objects."""
    wanted, flaws = chosen.integration, []
    for side, connection_id in (
        ("source", wanted.source_connection_id),
        ("destination", wanted.destination_connection_id),
    ):
        column = f"{side}_connection_id"
        if column not in wishes.columns or connection_id is None:
            continue
        connection = chosen.connections.get(connection_id)
        facts = _facts(desk, connection)
        if facts is None:
            detail = "There is no such connection in this workspace."
            flaws.append(Flaw("unknown_connection", detail, pointer=wishes.at[column]))
        elif not getattr(facts, f"is_{side}"):
            detail = f"{facts.label} is no {side}."
            flaws.append(Flaw(f"no_{side}", detail, pointer=wishes.at[column]))
    if "source_connection_id" in wishes.columns and not flaws and wanted.activated_at is None:
        flaws.extend(account_in_use(chosen.source_facts, chosen.sharing))
    if "destination_connection_id" in wishes.columns and not flaws:
        flaws.extend(takes_automatic(chosen))
    flaws.extend(_check_two_way(chosen, wishes))
    if wanted.is_automatic and wanted.interval_minutes != EVERY_MINUTES:
        flaws.append(
            Flaw(
                "interval_fixed",
                f"An automatic import syncs every {EVERY_MINUTES} minutes, always.",
                pointer="/interval_minutes",
                rule="AC2",
            )
        )
    flaws.extend(_check_source_object(desk, chosen, wishes))
    country = wanted.default_country
    if country is not None and country not in phone.COUNTRIES:
        flaws.append(
            Flaw(
                "unknown_country",
                "Send the two letters of ISO 3166-1, such as DE.",
                pointer="/default_country",
            )
        )
    return flaws


def _check_two_way(chosen: Draft, wishes: Wishes) -> list[Flaw]:
    """Return why two ways cannot be had where they are asked for now (SF3)."""
    if "is_two_way" not in wishes.columns or not chosen.integration.is_two_way:
        return []
    mapped = mapping.check_both_ways(chosen.mapping.fields) if chosen.mapping else []
    return [*goes_both_ways(chosen), *(replace(flaw, pointer="/two_way") for flaw in mapped)]


def _facts(desk: Desk, connection: Connection | None) -> Facts | None:
    return None if connection is None else find_facts(desk.parts.accounts, connection.provider)


def _check_source_object(desk: Desk, chosen: Draft, wishes: Wishes) -> list[Flaw]:
    wanted = chosen.integration
    connection = chosen.connections.get(wanted.source_connection_id or UUID(int=0))
    if wanted.source_connection_id is None:
        return [
            Flaw(
                "connection_first",
                "Choose the source connection first.",
                pointer=wishes.at[column],
            )
            for column in ("source_object", "source_list_id")
            if wishes.columns.get(column) is not None
        ]
    facts = _facts(desk, connection)
    if facts is None or wishes.columns.get("source_object") is None:
        return []
    if wanted.source_object in {each.name for each in facts.objects}:
        return []
    return [
        Flaw(
            "unknown_object",
            f"{facts.label} has no such object.",
            pointer=wishes.at["source_object"],
            rule="W3",
        )
    ]


async def _look_up(desk: Desk, before: Integration, chosen: Draft, wishes: Wishes) -> Integration:
    """Ask the providers for the lists and fields that were named; return the integration named."""
    wanted = chosen.integration
    flaws: list[Flaw] = []
    if _differs(before, wanted, FIXED):
        name = await _source_list_name(desk, chosen)
        if wanted.source_list_id is not None and name is None:
            flaws.append(_no_list("/source/list_id", "W3"))
        wanted = replace(wanted, source_list_name=name)
    if _differs(before, wanted, FIXED_TOO):
        name = await _destination_list_name(desk, chosen)
        if wanted.destination_list_id is not None and name is None:
            flaws.append(_no_list("/destination/list_id", "W6"))
        wanted = replace(wanted, destination_list_name=name)
    if wishes.criteria is not None:
        fields = await _source_fields(desk, chosen)
        flaws.extend(mapping.check_criteria(wishes.criteria, fields))
    if flaws:
        raise InvalidError(detail="The integration cannot be changed like that.", flaws=flaws)
    return wanted


def _differs(before: Integration, wanted: Integration, columns: Sequence[str]) -> bool:
    """Return whether another list is meant: the same id is another list in another account."""
    return any(getattr(before, column) != getattr(wanted, column) for column in columns)


def _no_list(at: str, rule: str) -> Flaw:
    return Flaw("unknown_list", "The provider has no such list (any more).", pointer=at, rule=rule)


async def _source_list_name(desk: Desk, chosen: Draft) -> str | None:
    list_id = chosen.integration.source_list_id
    if list_id is None:
        return None
    connection, object_name = _source_of(chosen)
    try:
        found_list = await connect.ask_source(
            desk.parts, desk.units, connection, lambda side: side.find_list(object_name, list_id)
        )
    except ProviderMisconfiguredError as error:
        if error.members.get("provider_code") != "list_missing":
            raise
        return None
    return None if found_list.is_deleted else found_list.name


async def _destination_list_name(desk: Desk, chosen: Draft) -> str | None:
    wanted = chosen.integration
    if wanted.destination_list_id is None:
        return None
    connection = _destination_of(chosen)
    lists = await connect.ask_destination(
        desk.parts, desk.units, connection, lambda side: side.find_lists()
    )
    return next(
        (
            each.name
            for each in lists
            if each.id == wanted.destination_list_id and not each.is_deleted
        ),
        None,
    )


def _source_of(draft: Draft) -> tuple[Connection, str]:
    """Return the source's connection and object; raise ConflictError if they are not chosen."""
    integration = draft.integration
    connection = draft.connections.get(integration.source_connection_id or UUID(int=0))
    if connection is None or integration.source_object is None:
        raise ConflictError(
            detail="Choose the source first: its connection and what is read.",
            flaws=[
                Flaw("source_missing", "Choose the source first.", pointer="/source", rule="W2")
            ],
        )
    return connection, integration.source_object


def _destination_of(draft: Draft) -> Connection:
    """Return the destination's connection; raise ConflictError if it is not chosen."""
    chosen = draft.integration.destination_connection_id
    connection = draft.connections.get(chosen or UUID(int=0))
    if connection is None:
        raise ConflictError(
            detail="Choose the destination first.",
            flaws=[
                Flaw(
                    "destination_missing",
                    "Choose the destination first.",
                    pointer="/destination",
                    rule="W2",
                )
            ],
        )
    return connection


async def _source_fields(desk: Desk, draft: Draft) -> Sequence[Field]:
    connection, object_name = _source_of(draft)
    return await connect.ask_source(
        desk.parts, desk.units, connection, lambda side: side.describe_fields(object_name)
    )


async def _save_change(
    desk: Desk, session: AsyncSession, draft: Draft, wanted: Integration, wishes: Wishes
) -> Integration:
    before = draft.integration
    fields = list(draft.mapping.fields) if draft.mapping else []
    criteria = draft.mapping.criteria if draft.mapping else None
    criteria_changed = wishes.sends_criteria and wishes.criteria != criteria
    if criteria_changed:
        wanted = await _add_mapping(desk, session, wanted, fields, wishes.criteria)
    if wanted == before:
        return before
    saved = await _save(session, wanted)
    # Nothing was agreed on yet, or not lately: everybody is compared once (docs/decisions/0131).
    turns_two_way = saved.is_two_way and not before.is_two_way
    # A number that could not be read without a country may be readable with another one.
    rereads = (criteria_changed or turns_two_way) or (
        before.default_country != saved.default_country
        and any(each["destination_type"] == "phone" for each in fields)
    )
    await _reschedule(session, saved, full=rereads)
    changed = [
        name
        for name in Integration.__dataclass_fields__
        if getattr(before, name) != getattr(saved, name) and name not in ("version", "updated_at")
    ]
    await _record(desk, session, "integration.changed", saved, {"changed": changed})
    return saved


async def _add_mapping(
    desk: Desk,
    session: AsyncSession,
    wanted: Integration,
    fields: Sequence[Mapping[str, Any]],
    criteria: Mapping[str, Any] | None,
) -> Integration:
    """Store a new mapping version; return the integration that goes by it."""
    version = wanted.mapping_version + 1
    wanted = replace(wanted, mapping_version=version)
    if not await _is_present(session, wanted):
        raise StaleError(detail="Somebody else changed the integration at the same moment.")
    await store.add_mapping(
        session,
        integration=wanted.integration_id,
        workspace=wanted.workspace_id,
        version=version,
        fields=fields,
        criteria=criteria,
        created_by=desk.caller.actor,
    )
    return wanted


async def _is_present(session: AsyncSession, wanted: Integration) -> bool:
    """Lock the integration; return whether its version is still the one that was read."""
    return await store.lock(session, wanted.integration_id) == wanted.version


async def _save(session: AsyncSession, wanted: Integration) -> Integration:
    saved = await store.save(session, wanted)
    if saved is None:
        raise StaleError(detail="Somebody else changed the integration at the same moment.")
    if saved.mapping_version and (saved.is_two_way or saved.way_back_id is not None):
        return await _follow(session, saved)
    return saved


async def _follow(session: AsyncSession, leading: Integration) -> Integration:
    """Let the way back follow its integration, and the poller of it hear of that."""
    version = await store.find_mapping(session, leading.integration_id, leading.mapping_version)
    way_back = leading.way_back_id or ids.computed("way_back", leading.integration_id)
    state = await store.follow(
        session,
        leading,
        way_back=way_back,
        fields=mapping.turned(found(version, "mapping").fields),
    )
    if state == "active":
        await store.schedule(session, way_back, full=False)
    else:
        await store.unschedule(session, way_back)
        await run_store.cancel_reading(session, way_back)
    return replace(leading, way_back_id=way_back)


async def _reschedule(session: AsyncSession, integration: Integration, *, full: bool) -> None:
    """Tell the poller of a change to an active integration; others are told when they resume."""
    if integration.state != "active":
        return
    if (
        integration.is_automatic
        and await store.find_scheduled_mapping(session, integration.integration_id) is None
    ):
        return  # Who makes its first fields has it read.
    if full:
        await run_store.cancel_reading(session, integration.integration_id)
    await store.schedule(session, integration.integration_id, full=full)


async def check_mapping(desk: Desk, draft: Draft, pairs: Sequence[Pair]) -> Checked:
    """Hold a mapping against both accounts; raise InvalidError that lists all that is wrong."""
    connection, object_name = _source_of(draft)
    destination = _destination_of(draft)
    sweep = Sweep(
        object=object_name,
        list_id=draft.integration.source_list_id,
        properties=(),
        since_ms=None,
        until_ms=int(desk.parts.clock.now().timestamp() * 1000),
    )

    async def ask(side: Source) -> tuple[Sequence[Field], int | None]:
        return await side.describe_fields(object_name), await side.count(sweep)

    async def describe(side: Destination) -> Sequence[Field]:
        return await side.describe_attributes()

    fields, contacts = await connect.ask_source(desk.parts, desk.units, connection, ask)
    attributes = await connect.ask_destination(desk.parts, desk.units, destination, describe)
    flaws = mapping.check(pairs, fields, attributes)
    composed = [] if flaws else mapping.compose(pairs, fields, attributes)
    if draft.integration.is_two_way and not flaws:
        flaws = mapping.check_both_ways(composed)
    if flaws:
        raise InvalidError(detail="The mapping cannot be saved.", flaws=flaws)
    return Checked(composed, contacts)


async def cost_of(
    session: AsyncSession,
    draft: Draft,
    checked: Checked,
) -> Cost:
    """Return what saving a checked mapping means."""
    before = draft.mapping.fields if draft.mapping else []
    is_first = draft.integration.activated_at is None
    full = is_first or mapping.needs_full_run(before, checked.fields, criteria_changed=False)
    if not full:
        return Cost(full_run=False, tasks_at_most=0)
    known = await store.count_contacts(session, draft.integration.integration_id)
    counts = [count for count in (known, checked.contacts) if count is not None]
    return Cost(full_run=True, tasks_at_most=max(counts, default=None))


async def save_mapping(
    desk: Desk, integration_id: UUID, if_match: str, pairs: Sequence[Pair]
) -> Saved:
    """Save a mapping as a new version; the same mapping again changes nothing."""
    draft = await load_draft(desk, integration_id, if_match)
    refuse_archived(draft.integration)
    refuse_automatic(draft.integration)
    refuse_way_back(draft.integration)
    checked = await check_mapping(desk, draft, pairs)

    async def work(session: AsyncSession) -> Saved:
        cost = await cost_of(session, draft, checked)
        if draft.mapping is not None and draft.mapping.fields == list(checked.fields):
            return Saved(draft.integration, draft.mapping, cost)
        criteria = draft.mapping.criteria if draft.mapping else None
        wanted = await _add_mapping(desk, session, draft.integration, checked.fields, criteria)
        saved = await _save(session, wanted)
        await _reschedule(session, saved, full=cost.full_run)
        await _record(
            desk, session, "mapping.saved", saved, {"mapping_version": saved.mapping_version}
        )
        version = await store.find_mapping(session, integration_id, saved.mapping_version)
        return Saved(saved, found(version, "mapping"), cost)

    return await desk.units.run(work)


async def activate(desk: Desk, integration_id: UUID, if_match: str) -> Integration:
    """Start syncing a draft (W7); raise NotReadyError with everything that is open."""
    draft = await load_draft(desk, integration_id, if_match)
    refuse_way_back(draft.integration)
    if draft.integration.state != "draft":
        raise ConflictError(
            detail="Only a draft is activated; a paused integration is resumed.",
            state=draft.integration.state,
        )
    return await _start(desk, draft, "integration.activated")


async def resume(desk: Desk, integration_id: UUID, if_match: str | None) -> Integration:
    """Go on with an integration that was paused or had an error."""
    draft = await load_draft(desk, integration_id, if_match)
    refuse_way_back(draft.integration)
    if draft.integration.state not in ("paused", "error"):
        raise ConflictError(
            detail="Only an integration that is paused or in error is resumed.",
            state=draft.integration.state,
        )
    return await _start(desk, draft, "integration.resumed")


async def _start(desk: Desk, draft: Draft, action: str) -> Integration:
    refuse_unready(review(draft, await _find_live_flaws(desk, draft)))
    wanted = await _automatic_fields(desk, draft) if draft.integration.is_automatic else []

    async def work(session: AsyncSession) -> Integration:
        integration = draft.integration
        # The plan may have been lost while the providers were asked: who takes it away stops
        # what is active, so nothing may become so beside it (SF1).
        plan = await workspaces.hold_plan(session, integration.workspace_id)
        refuse_unready(review(replace(draft, plan=plan)))
        full = await _must_read_all(session, draft)
        saved = await _save(
            session,
            replace(
                integration,
                state="active",
                error_reason=None,
                activated_at=integration.activated_at or desk.parts.clock.now(),
            ),
        )
        if wanted:
            await store.want_fields(session, saved.integration_id, wanted)
        # Without a field nothing can be read yet: whoever makes the first ones has it read.
        if draft.mapping is not None and draft.mapping.fields:
            await store.schedule(session, saved.integration_id, full=full)
        await _record(desk, session, action, saved, {})
        return saved

    return await desk.units.run(work)


async def _automatic_fields(desk: Desk, draft: Draft) -> Sequence[WantedField]:
    """Return the source's fields that are to be made at the destination (AC1)."""
    facts = draft.source_facts
    assert facts is not None, "the checklist has seen to it"
    known = {entry["source"] for entry in (draft.mapping.fields if draft.mapping else ())}
    wanted = wanted_fields(facts.label, await _source_fields(desk, draft), known)
    if not known and not has_address(wanted):
        raise NotReadyError(
            detail=f"{facts.label} has no field of an e-mail address that contacts are told apart "
            "by.",
            flaws=[
                Flaw("identity_missing", "Choose another source.", pointer="/source", rule="W5")
            ],
        )
    return wanted


def refuse_unready(results: Sequence[StepResult]) -> None:
    """Raise NotReadyError, which lists everything that is open, unless nothing is."""
    if not is_ready(results):
        raise NotReadyError(
            detail="The integration cannot be activated before these steps are done: "
            + ", ".join(result.step for result in results if result.flaws)
            + ".",
            flaws=[flaw for result in results for flaw in result.flaws],
        )


async def _must_read_all(session: AsyncSession, draft: Draft) -> bool:
    """Return whether the mapping changed, while nothing was polled, by more than lost fields."""
    integration_id = draft.integration.integration_id
    scheduled = await store.find_scheduled_mapping(session, integration_id)
    if scheduled is None or draft.mapping is None or await _has_new_file(session, draft):
        return True
    before = await store.find_mapping(session, integration_id, scheduled)
    if before is None:
        return True
    return mapping.needs_full_run(
        before.fields,
        draft.mapping.fields,
        criteria_changed=before.criteria != draft.mapping.criteria,
    )


async def _has_new_file(session: AsyncSession, draft: Draft) -> bool:
    """Return whether a file was confirmed while nothing was polled: only a full run reads it."""
    facts, source = draft.source_facts, draft.integration.source_connection_id
    if facts is None or not facts.reads_files or source is None:
        return False
    return await imports.is_unread(
        session, integration=draft.integration.integration_id, connection=source
    )


async def _find_live_flaws(desk: Desk, draft: Draft) -> Mapping[Step, Sequence[Flaw]]:
    """Ask both accounts whether lists and fields are still there; only if the rest is done."""
    if not is_ready(review(draft)):
        return {}
    live: dict[Step, list[Flaw]] = {Step.SOURCE: [], Step.DESTINATION: [], Step.MAPPING: []}
    try:
        if draft.integration.source_list_id and await _source_list_name(desk, draft) is None:
            live[Step.SOURCE].append(_no_list("/source/list_id", "W3"))
        if await _destination_list_name(desk, draft) is None:
            live[Step.DESTINATION].append(_no_list("/destination/list_id", "W6"))
        is_by_hand = not draft.integration.is_automatic
        if not any(live.values()) and draft.mapping is not None and is_by_hand:
            await check_mapping(desk, draft, mapping.pairs_of(draft.mapping.fields))
    except NeedsReauthorisationError as error:
        step = Step(_side_of(draft, error))
        live[step].append(_dead(error, f"/{step}/connection_id"))
    except InvalidError as error:
        live[Step.MAPPING].extend(
            replace(flaw, pointer=f"/mapping{flaw.pointer}") for flaw in error.flaws
        )
    return live


def _side_of(draft: Draft, error: NeedsReauthorisationError) -> str:
    """Return which of the two accounts an error is about."""
    source = draft.integration.source_connection_id
    is_source = source and error.members["connection_id"] == ids.show(Prefix.CONNECTION, source)
    return "source" if is_source else "destination"


def _dead(error: ApiError, at: str) -> Flaw:
    return Flaw("connection_needs_reauth", error.detail, pointer=at, rule="W2")


async def pause(desk: Desk, session: AsyncSession, integration: Integration) -> Integration:
    """Stop polling; what is on its way waits until the integration is resumed."""
    refuse_way_back(integration)
    if integration.state not in ("active", "error"):
        raise ConflictError(detail="Only an active integration is paused.", state=integration.state)
    saved = await _save(session, replace(integration, state="paused"))
    await store.unschedule(session, saved.integration_id)
    await _record(desk, session, "integration.paused", saved, {})
    return saved


async def archive(desk: Desk, session: AsyncSession, integration: Integration) -> None:
    """Delete an integration: it stops, and its history stays readable."""
    refuse_way_back(integration)
    if integration.state == "archived":
        return
    saved = await _save(
        session, replace(integration, state="archived", archived_at=desk.parts.clock.now())
    )
    await store.unschedule(session, saved.integration_id)
    await run_store.cancel_reading(session, saved.integration_id)
    await _record(desk, session, "integration.deleted", saved, {})


async def _record(
    desk: Desk,
    session: AsyncSession,
    action: str,
    integration: Integration,
    details: Mapping[str, object],
) -> None:
    await audit.record(
        session,
        workspace=integration.workspace_id,
        actor=desk.caller.actor,
        action=action,
        subject=ids.show(Prefix.INTEGRATION, integration.integration_id),
        details=details,
    )
