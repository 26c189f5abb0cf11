"""The main job once, judged: what `python -m local demo` does.

A source is filled, an integration is made as a person makes it, and contacts run to the end: all
of them, then a second time (which must cost nothing), then with one in a hundred edited. With a
quota below what is needed the first run stops, and goes on once the operator has raised it. After
each phase the destination is compared with what the rules demand, worked out from the source alone.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import httpx

from local import verify, wizard
from local.api import Api, Json
from local.errors import StackError
from local.files import FileSource
from local.outcome import Outcome, Phase, Wishes
from local.parties import DESTINATIONS, SOURCES
from local.providers import Provider
from local.stack import Stack
from local.verify import Before

SOURCE_LIST = "Newsletter"
INVALID_SHARE = 0.01
CHANGED_SHARE = 0.01
QUOTA_RAISED = 100_000  # Q1.

# Who is at the destination already, in the source's order: their consent must stay as it is (S3).
EXISTING, BLOCKED = 5, 3
STRANGER = ("stranger@example.com", "Not ours")

POLL_S, POLL_SHARE, POLL_MOST_S = 0.2, 0.02, 1.0
NO_PROGRESS_S = 90.0  # Longer than a lapsed lease and a destination's probe take together.
STOPPED_S = 5.0  # Longer than a page takes to be read and a drain to look again.
MAILS_WITHIN_S = 60.0  # Many times what the outbox, the topic and the notifier's sweep take.
WAITS_WHEN_STOPPED = frozenset({"quota", "backlog"})
UNDER_WAY = frozenset({"read", "importing"})  # Counts of a run that are no outcomes.
UNSETTLED = frozenset({"reading", "settling"})
BETWEEN = "between"  # CPU of what the demo itself asks; in no phase.

Source = Provider | FileSource
Progress = Callable[[str, int, int], None]  # Which phase, so far, of how many.


async def run(stack: Stack, wishes: Wishes, progress: Progress) -> Outcome:
    """Do the main job once and judge it. Raises `StackError` if it cannot even begin."""
    async with AsyncExitStack() as exits:
        source = await _open_source(exits, stack, wishes)
        party = DESTINATIONS[wishes.destination]
        destination = await exits.enter_async_context(
            Provider.connect(stack.providers[party.provider], party)
        )
        operator = await exits.enter_async_context(Api.connect(stack.api, stack.operator_key))
        before = await _prepare(source, destination, wishes)
        workspace = await wizard.create_workspace(operator, quota_limit=wishes.quota)
        api = await exits.enter_async_context(Api.connect(stack.api, workspace.api_key))
        destination_list = f"{SOURCE_LIST} from {source.party.label}"
        integration = await wizard.set_up(
            api,
            source_list=SOURCE_LIST,
            destination_list=destination_list,
            pair=(source.party, party),
            upload=source.upload if isinstance(source, FileSource) else None,
        )
        job = _Job(
            stack=stack,
            wishes=wishes,
            progress=progress,
            source=source,
            destination=destination,
            operator=operator,
            api=api,
            workspace=workspace.id,
            integration=integration,
            destination_list=destination_list,
            before=before,
            calls=int((await destination.calls())["total"]),
        )
        await job.run()
        return job.outcome


async def _open_source(exits: AsyncExitStack, stack: Stack, wishes: Wishes) -> Source:
    """Return the sandbox of the source, or the file that stands in its place."""
    party = SOURCES[wishes.source]
    if party.is_file:
        return FileSource.of(party, wishes.file)
    url = stack.providers[party.provider]
    return await exits.enter_async_context(Provider.connect(url, party))


async def _prepare(source: Source, destination: Provider, wishes: Wishes) -> Before:
    """Fill the source; put some of its people, and a stranger, at the destination already."""
    if not wishes.limits:
        await source.lift_limits()
        await destination.lift_limits()
    await source.fill(
        wishes.contacts, seed=wishes.seed, name=SOURCE_LIST, invalid_share=INVALID_SHARE
    )
    wanted = verify.wanted_of(await source.state(), SOURCE_LIST)
    emails = [contact["EMAIL"] for contact in wanted.contacts.values()][:EXISTING]
    contact = DESTINATIONS[wishes.destination].contact
    old = [contact(email, "From before") for email in emails]
    await destination.upsert([*old, contact(*STRANGER)])
    await destination.block(emails[:BLOCKED])
    return verify.before_of(await destination.state())


@dataclass(frozen=True, slots=True)
class _Totals:
    """What the integration's runs did so far, all together."""

    runs: int  # The newest run's number; 0: none yet.
    is_over: bool  # No run is reading or settling.
    ended: Mapping[int, str]  # Every run's state by its number.
    counts: Counter[str]

    @property
    def tasks(self) -> int:
        """Return how many contacts were written."""
        return sum(self.counts[name] for name in ("created", "updated", "removed"))

    @property
    def settled(self) -> int:
        """Return how many outcomes there are, those of contacts that had waited twice."""
        return sum(count for name, count in self.counts.items() if name not in UNDER_WAY)


# From how it was before the phase, how it is, and since how many seconds it is so.
IsOver = Callable[[_Totals, _Totals, float], Awaitable[bool]]


@dataclass(slots=True)
class _Job:
    """The phases, one after the other, and what is known between them."""

    stack: Stack
    wishes: Wishes
    progress: Progress
    source: Source
    destination: Provider
    operator: Api
    api: Api
    workspace: str
    integration: str
    destination_list: str
    before: Before
    calls: int  # At the destination so far.
    used: int = 0  # Of the quota so far.
    rejected: Counter[str] = field(default_factory=Counter)  # By reason, as contacts stand.
    stops: bool = False  # The quota is below what is needed.
    edited: int = 0  # Contacts that the last phase edits at the source.
    outcome: Outcome = field(init=False)

    def __post_init__(self) -> None:
        self.outcome = Outcome(self.wishes)

    @property
    def stay_off(self) -> frozenset[str]:
        """Who unsubscribed before, where that keeps them off every new list (S3)."""
        joins = DESTINATIONS[self.wishes.destination].unsubscribed_join
        return frozenset() if joins else self.before.blocked

    async def run(self) -> None:
        """Go through the phases, as far as they come, then look around."""
        try:
            await self._phases()
        except StackError as error:
            self.outcome.problems.append(error.what)
        await self._look_around()

    async def _phases(self) -> None:
        wanted = verify.wanted_of(await self.source.state(), SOURCE_LIST)
        due = len(wanted.contacts)
        self.stops = due > self.wishes.quota
        written = min(due, self.wishes.quota)
        ends = self._all_has_stopped if self.stops else self._run_is_over
        full = await self._phase("full", self._activate, ends)
        self._expect(full, created=written, updated=0, unchanged=0, tasks_charged=written)
        if self.stops:
            self._expect_waiting(full)
            await self._expect_status("stopped_quota")
            await self._mails()  # Raised before they have left, the limit has them suppressed.
            raised = await self._phase("raised", self._raise_quota, self._nothing_waits)
            self._expect(raised, created=due - written, updated=0, parked={})
            # How far it had read when it stopped is chance; in the end it must have read all.
            self._expect(raised, read=self.wishes.contacts - full.read)
            self._expect(raised, tasks_charged=due - written)
            await self._expect_status("active")
        else:
            self._expect(full, read=self.wishes.contacts, rejected=wanted.reasons, parked={})
        unchanged = await self._phase("unchanged", self._ask_for_a_run, self._run_is_over)
        self._expect(unchanged, created=0, updated=0, tasks_charged=0, parked={})
        changed = await self._phase("changed", self._edit, self._run_is_over)
        self._expect(changed, created=0, updated=self.edited, tasks_charged=self.edited)

    async def _activate(self) -> None:
        await wizard.activate(self.api, self.integration)

    async def _raise_quota(self) -> None:
        path = f"/v1/workspaces/{self.workspace}/quota"
        await self.operator.put(path, {"limit": QUOTA_RAISED})

    async def _ask_for_a_run(self) -> None:
        if isinstance(self.source, FileSource):
            await self.source.upload(self.api)  # A new file is what a new run takes.
            return
        await self.api.post(f"/v1/integrations/{self.integration}/runs")

    async def _edit(self) -> None:
        self.edited = max(1, round(CHANGED_SHARE * self.wishes.contacts))
        await self.source.change(self.edited, seed=self.wishes.seed + 1)
        await self._ask_for_a_run()

    async def _phase(
        self,
        name: str,
        begin: Callable[[], Awaitable[None]],
        is_over: IsOver,
    ) -> Phase:
        """Run one phase to its end, count it, and judge the destination."""
        before = await self._totals()
        self.stack.supervisor.enter(name)
        started_at_s = time.monotonic()
        await begin()
        after, still_s = await self._end_of(name, before, is_over)
        seconds = time.monotonic() - started_at_s - still_s
        self.stack.supervisor.enter(BETWEEN)
        if not self.outcome.phases:
            self.outcome.seconds = seconds
        phase = await self._counted(name, before, after)
        self.outcome.phases.append(phase)
        for number, state in after.ended.items():
            if state not in UNSETTLED | {"complete"} and before.ended.get(number) != state:
                self.outcome.problems.append(f"{name}: run {number} ended {state}")
        await self._judge(phase)
        return phase

    async def _end_of(
        self,
        name: str,
        before: _Totals,
        is_over: IsOver,
    ) -> tuple[_Totals, float]:
        """Wait for a phase's end; return how things stand, and since how many seconds they do.

        Raises `StackError` if nothing moves for too long.
        """
        began_at_s = moved_at_s = time.monotonic()
        last = before
        while True:
            now = await self._totals()
            expected = self.wishes.contacts
            self.progress(name, min(now.settled - before.settled, expected), expected)
            if now != last:
                moved_at_s, last = time.monotonic(), now
            still_s = time.monotonic() - moved_at_s
            if await is_over(before, now, still_s):
                self.progress(name, expected, expected)
                return now, still_s
            if still_s > NO_PROGRESS_S:
                what = f"nothing has moved for {NO_PROGRESS_S:g} s in phase {name!r}: {now}"
                raise StackError(what, f"see the logs in {self.stack.supervisor.folder / 'logs'}")
            # To ask costs the API what a contact costs: seldom, where much is to be done.
            waited_s = time.monotonic() - began_at_s
            await asyncio.sleep(min(max(POLL_S, POLL_SHARE * waited_s), POLL_MOST_S))

    async def _run_is_over(self, before: _Totals, now: _Totals, still_s: float) -> bool:
        return now.runs > before.runs and await self._nothing_waits(before, now, still_s)

    async def _nothing_waits(self, before: _Totals, now: _Totals, still_s: float) -> bool:
        """Return whether all is read, and nobody waits for anything."""
        if not now.is_over or not await self._is_booked(now):
            return False
        # First contacts wait for one another, to be imported together.
        path = f"/v1/integrations/{self.integration}/contacts"
        if (await self.api.get(path, status="parked", page_size=1))["items"]:
            return False
        # Who left for the destination between the two looks holds its units by now.
        return await self._is_booked(now)

    async def _all_has_stopped(self, before: _Totals, now: _Totals, still_s: float) -> bool:
        """Return whether nothing happens any more, for want of quota; a run may be half read."""
        quota = await self.api.get("/v1/quota")
        is_told = now.settled >= now.counts["read"] and not now.counts["importing"]
        has_stopped = now.runs > before.runs and not quota["left"] and is_told
        return has_stopped and still_s > STOPPED_S and await self._is_booked(now)

    async def _is_booked(self, now: _Totals) -> bool:
        """Return whether the quota knows what the runs tell, which they do a moment later."""
        quota = await self.api.get("/v1/quota")
        return not quota["held"] and bool(quota["used"] == now.tasks)

    async def _totals(self) -> _Totals:
        runs = await self.api.items(f"/v1/integrations/{self.integration}/runs")
        counts: Counter[str] = Counter()
        for each in runs:
            counts.update(each["counts"])
            counts.update(each["settled_later"])
        return _Totals(
            runs=max((int(each["run_no"]) for each in runs), default=0),
            is_over=not any(each["state"] in UNSETTLED for each in runs),
            ended={int(each["run_no"]): str(each["state"]) for each in runs},
            counts=counts,
        )

    async def _contacts(self, status: str) -> list[Json]:
        return await self.api.items(f"/v1/integrations/{self.integration}/contacts", status=status)

    async def _counted(self, name: str, before: _Totals, after: _Totals) -> Phase:
        counts = {each: after.counts[each] - before.counts[each] for each in after.counts}
        reported = Counter(each["reason"] for each in await self._contacts("rejected"))
        # A run counts all it rejects, those before it again or (when it goes on) the rest only.
        again = reported.total() == counts["rejected"]
        rejected = reported if again else reported - self.rejected
        self.rejected = reported
        parked = await self._contacts("parked")
        calls, self.calls = self.calls, int((await self.destination.calls())["total"])
        used, self.used = self.used, int((await self.api.get("/v1/quota"))["used"])
        return Phase(
            name=name,
            read=counts["read"],
            created=counts["created"],
            updated=counts["updated"],
            unchanged=counts["unchanged"],
            superseded=counts["superseded"],
            rejected=dict(rejected),
            parked=dict(Counter(each["reason"] for each in parked)),
            tasks_charged=self.used - used,
            destination_calls=self.calls - calls,
        )

    async def _judge(self, phase: Phase) -> None:
        """Compare both providers, and what the API tells, with the rules."""
        wanted = verify.wanted_of(await self.source.state(), SOURCE_LIST)
        reported = await self._contacts("rejected")
        waiting: set[str] = set()
        if not (await self.api.get("/v1/quota"))["left"]:
            # Stopped: what is not written yet, waits, be it read or not.
            written = {str(each["source_id"]) for each in await self._contacts("written")}
            waiting = wanted.contacts.keys() - written
            read = {str(each["source_id"]) for each in reported}
            wanted = wanted.only_rejecting(read)
        found = verify.differences(
            await self.destination.state(),
            list_name=self.destination_list,
            wanted=wanted,
            before=self.before,
            waiting=waiting,
            stay_off=self.stay_off,
        )
        found += verify.rejection_differences(reported, wanted)
        self.outcome.problems += [f"{phase.name}: {each}" for each in verify.shortened(found)]

    def _expect(self, phase: Phase, **expected: object) -> None:
        """Note what a phase counted and the rules do not demand."""
        for name, value in expected.items():
            counted = getattr(phase, name)
            if counted != value:
                problem = f"{phase.name}: {name} is {counted} and should be {value}"
                self.outcome.problems.append(problem)

    def _expect_waiting(self, phase: Phase) -> None:
        """Note if what was read and is neither written nor rejected does not wait for quota."""
        waiting = phase.parked
        count = phase.read - phase.created - sum(phase.rejected.values())
        # While a lane is behind, the rest of it waits for that before anyone asks for quota.
        if sum(waiting.values()) != count or waiting.keys() - WAITS_WHEN_STOPPED:
            problem = f"{phase.name}: {waiting} wait and it should be {count} for the quota"
            self.outcome.problems.append(problem)

    async def _expect_status(self, wanted: str) -> None:
        """Note if the integration is shown as anything else (Q3)."""
        status = (await self.api.get(f"/v1/integrations/{self.integration}"))["status"]
        if status != wanted:
            self.outcome.problems.append(f"the integration is shown as {status}, not as {wanted}")

    async def _look_around(self) -> None:
        """Take down what belongs to no phase: limits, quota, mails, cost."""
        outcome = self.outcome
        outcome.violations = sum(
            [int((await each.calls())["violations"]) for each in (self.source, self.destination)]
        )
        if outcome.violations:
            outcome.problems.append(f"{outcome.violations} calls were beyond a provider's limits")
        written = int((await self.source.calls())["writes"])
        if written:
            outcome.problems.append(f"{written} contacts were written at the source, not 0 (S2)")
        quota = await self.api.get("/v1/quota")
        outcome.quota = {name: quota[name] for name in ("limit", "used", "held")}
        charged = sum(phase.tasks_charged for phase in outcome.phases)
        if quota["used"] != charged:
            outcome.problems.append(f"the quota used is {quota['used']} and should be {charged}")
        outcome.mails, problems = await self._mails()
        outcome.problems += problems
        outcome.processes = {
            name: usage.report(without=BETWEEN)
            for name, usage in sorted(self.stack.supervisor.meter.usage.items())
        }

    async def _mails(self) -> tuple[list[Json], list[str]]:
        """Return the mails that came, and what is wrong with them (Q2, Q3)."""
        due = len(wizard.RECIPIENTS) if self.stops else 0
        deadline = time.monotonic() + MAILS_WITHIN_S
        async with httpx.AsyncClient(base_url=self.stack.mailbox, trust_env=False) as mailbox:
            while True:
                mails = [_mail(each) for each in (await mailbox.get("/api/messages")).json()]
                stopped = [each for each in mails if each["kind"] == "quota_100"]
                if len(stopped) >= due or time.monotonic() > deadline:
                    break
                await asyncio.sleep(POLL_S)
        return mails, _mail_problems(mails, stops=self.stops)


def _mail(message: Json) -> Json:
    headers = {name.lower(): value for name, value in message["headers"].items()}
    return {
        "kind": headers.get("x-contactsync-kind", "unknown"),
        "language": headers.get("content-language", "unknown"),
        "to": message["to"][0],
        "message_id": message["message_id"],
    }


def _mail_problems(mails: Sequence[Json], *, stops: bool) -> list[str]:
    problems = []
    for recipient in wizard.RECIPIENTS:
        kinds = Counter(each["kind"] for each in mails if each["to"] == recipient["email"])
        wanted = 1 if stops else 0
        if kinds["quota_100"] != wanted:
            problem = f"{kinds['quota_100']} mails that the quota is used up, not {wanted}"
            problems.append(f"{recipient['email']} got {problem}")
        if kinds["quota_80"] > wanted:
            problems.append(f"{recipient['email']} got {kinds['quota_80']} mails about 80 %")
        languages = {each["language"] for each in mails if each["to"] == recipient["email"]}
        if languages - {recipient["language"]}:
            problems.append(f"{recipient['email']} got a mail in another language")
    return problems
