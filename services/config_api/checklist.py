"""Whether a draft is complete: a decision over what is stored (W1 to W7).

The steps stand in the order in which a wizard shows them, but may be done in any. A step is
`missing` while nothing was chosen, `invalid` if what was chosen cannot be used now, else `done`.
Each error has a JSON Pointer into the integration and the words that a front end shows as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from libs.connectors.contract import Facts
from services.config_api.errors import Flaw
from services.config_api.store.connections import Connection
from services.config_api.store.integrations import Integration, MappingVersion, Sharing


class Step(StrEnum):
    """The steps of the wizard."""

    NAME = "name"
    SOURCE = "source"
    OPT_IN = "opt_in"
    DESTINATION = "destination"
    MAPPING = "mapping"


class StepState(StrEnum):
    """How far a step is."""

    DONE = "done"
    MISSING = "missing"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class StepResult:
    """A step, its state, and what is open in it."""

    step: Step
    state: StepState
    flaws: Sequence[Flaw]


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything a checklist looks at."""

    integration: Integration
    mapping: MappingVersion | None
    connections: Mapping[UUID, Connection]
    catalogue: Mapping[str, Facts]
    sharing: Sequence[Sharing] = ()  # Who else reads the source's account.
    plan: str = ""  # The workspace's.

    @property
    def source_facts(self) -> Facts | None:
        """Return what is known of the source's provider; None while none is chosen."""
        connection = self.connections.get(self.integration.source_connection_id or UUID(int=0))
        return self.catalogue.get(connection.provider) if connection else None

    @property
    def destination_facts(self) -> Facts | None:
        """Return what is known of the destination's provider; None while none is chosen."""
        chosen = self.integration.destination_connection_id or UUID(int=0)
        connection = self.connections.get(chosen)
        return self.catalogue.get(connection.provider) if connection else None


def is_ready(results: Sequence[StepResult]) -> bool:
    """Return whether nothing is open."""
    return all(result.state is StepState.DONE for result in results)


def review(draft: Draft, found: Mapping[Step, Sequence[Flaw]] | None = None) -> list[StepResult]:
    """Return every step; `found` adds what asking the providers brought to light.

    An automatic import has no mapping step: its fields are made by themselves (AC1).
    """
    return [
        _result(step, [*judge(draft), *(found or {}).get(step, ())])
        for step, judge in _JUDGES
        if not (draft.integration.is_automatic and step is Step.MAPPING)
    ]


def _result(step: Step, flaws: Sequence[Flaw]) -> StepResult:
    if not flaws:
        return StepResult(step, StepState.DONE, ())
    is_missing = all(flaw.code.endswith("_missing") for flaw in flaws)
    return StepResult(step, StepState.MISSING if is_missing else StepState.INVALID, flaws)


def _judge_name(draft: Draft) -> Iterable[Flaw]:
    if not draft.integration.name.strip():
        yield Flaw("name_missing", "Give the integration a name.", pointer="/name", rule="W1")


def _judge_source(draft: Draft) -> Iterable[Flaw]:
    integration = draft.integration
    chosen = integration.source_connection_id
    if chosen is None:
        yield Flaw(
            "source_connection_missing",
            "Choose the connection that contacts are read from.",
            pointer="/source/connection_id",
            rule="W2",
        )
        return
    yield from _judge_connection(draft, chosen, "/source/connection_id")
    yield from plan_needed(draft.source_facts, draft.plan, "/source/connection_id")
    yield from _judge_account(draft)
    if integration.source_object is None:
        yield Flaw(
            "source_object_missing",
            "Choose what is read: contacts, leads or what the provider has.",
            pointer="/source/object",
            rule="W3",
        )
    elif integration.source_list_id is None and _needs_list(draft, chosen):
        yield Flaw(
            "source_list_missing",
            "Choose the source list to sync.",
            pointer="/source/list_id",
            rule="W3",
        )


def _judge_account(draft: Draft) -> Iterable[Flaw]:
    """Say so if others have the account already (CC1): who was active, and who came first.

    An integration that was active itself is judged no more: its place is taken by it.
    """
    own = draft.integration
    if own.activated_at is None:
        earlier = [
            each
            for each in draft.sharing
            if each.was_activated or each.integration_id < own.integration_id
        ]
        yield from account_in_use(draft.source_facts, earlier)


def plan_needed(facts: Facts | None, plan: str, at: str) -> Iterable[Flaw]:
    """Say so if a workspace on this plan may not use a provider (SF1)."""
    if facts is None or facts.plan in (None, plan):
        return
    yield Flaw(
        "plan_needed",
        f"{facts.label} is part of the {facts.plan} plan only, and this workspace is on the "
        f"{plan} plan: ask for the other plan, or choose another provider.",
        pointer=at,
        rule="SF1",
    )


def account_in_use(facts: Facts | None, others: Sequence[Sharing]) -> Iterable[Flaw]:
    """Say so if as many integrations as may read one account do so without this one."""
    most = facts.integrations_per_account if facts is not None else None
    if facts is None or most is None or len(others) < most:
        return
    names = ", ".join(f"“{each.name}”" for each in others[:most])
    many = "one integration" if most == 1 else f"{most} integrations"
    yield Flaw(
        "account_in_use",
        f"A {facts.label} account can be used in {many} only, and this one is used in {names}: "
        "choose another account, or delete an integration that has it.",
        pointer="/source/connection_id",
    )


def _needs_list(draft: Draft, chosen: UUID) -> bool:
    connection = draft.connections.get(chosen)
    facts = draft.catalogue.get(connection.provider) if connection else None
    return any(
        object_.needs_list
        for object_ in (facts.objects if facts else ())
        if object_.name == draft.integration.source_object
    )


def _judge_opt_in(draft: Draft) -> Iterable[Flaw]:
    if draft.integration.opt_in_at is None:
        yield Flaw(
            "opt_in_missing",
            "Confirm that these contacts agreed to receive e-mails from you.",
            pointer="/opt_in/accepted",
            rule="W4",
        )


def _judge_destination(draft: Draft) -> Iterable[Flaw]:
    chosen = draft.integration.destination_connection_id
    if chosen is None:
        yield Flaw(
            "destination_connection_missing",
            "Choose the connection that contacts are written to.",
            pointer="/destination/connection_id",
            rule="W2",
        )
        return
    yield from _judge_connection(draft, chosen, "/destination/connection_id")
    yield from takes_automatic(draft)
    yield from goes_both_ways(draft)
    if draft.integration.destination_list_id is None:
        yield Flaw(
            "destination_list_missing",
            "Choose the list that contacts are added to, or create one.",
            pointer="/destination/list_id",
            rule="W6",
        )


def goes_both_ways(draft: Draft) -> Iterable[Flaw]:
    """Say so if two ways were wanted where there is one."""
    source, destination = draft.source_facts, draft.destination_facts
    if not draft.integration.is_two_way:
        return
    if source is not None and destination is not None and not draft.integration.is_automatic:
        if source.takes_edits and destination.tells_edits:
            return
        what = f"{source.label} and {destination.label}"
    else:
        what = "These"
    yield Flaw(
        "not_both_ways",
        f"{what} are synced one way only: both ways are for {_both_ways(draft.catalogue)}.",
        pointer="/two_way",
        rule="SF3",
    )


def _both_ways(catalogue: Mapping[str, Facts]) -> str:
    """Return who can be synced both ways, in words: "Salesforce with Brevo"."""
    sources = [each.label for each in catalogue.values() if each.takes_edits]
    destinations = [each.label for each in catalogue.values() if each.tells_edits]
    return f"{' or '.join(sources)} with {' or '.join(destinations)}"


def takes_automatic(draft: Draft) -> Iterable[Flaw]:
    """Say so if an automatic import was sent where there are none."""
    facts = draft.destination_facts
    if draft.integration.is_automatic and facts is not None and not facts.takes_automatic_imports:
        able = [each.label for each in draft.catalogue.values() if each.takes_automatic_imports]
        yield Flaw(
            "no_automatic_imports",
            f"{facts.label} takes no automatic imports: choose {' or '.join(able)}, or make an "
            "integration with a mapping.",
            pointer="/destination/connection_id",
            rule="AC1",
        )


def _judge_connection(draft: Draft, chosen: UUID, at: str) -> Iterable[Flaw]:
    connection = draft.connections.get(chosen)
    if connection is None:
        yield Flaw("connection_removed", "This connection was removed: choose another.", pointer=at)
    elif connection.state == "pending":
        yield Flaw(
            "connection_pending",
            "Nobody has logged in to this connection yet.",
            pointer=at,
            rule="W2",
        )
    elif connection.state == "needs_reauth":
        yield Flaw(
            "connection_needs_reauth",
            "The provider no longer accepts this connection's credentials: authorise it again.",
            pointer=at,
            rule="W2",
        )


def _judge_mapping(draft: Draft) -> Iterable[Flaw]:
    if draft.mapping is None or not draft.mapping.fields:
        yield Flaw(
            "mapping_missing",
            "Map source fields to attributes, at least one of e-mail and SMS.",
            pointer="/mapping/fields",
            rule="W5",
        )


_JUDGES = (
    (Step.NAME, _judge_name),
    (Step.SOURCE, _judge_source),
    (Step.OPT_IN, _judge_opt_in),
    (Step.DESTINATION, _judge_destination),
    (Step.MAPPING, _judge_mapping),
)
