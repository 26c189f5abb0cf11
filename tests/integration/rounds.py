"""Random edits on both sides, and what must come of them: the model of a two-way integration.

The model knows nothing of runs, hashes or records. It looks at both sides after every step of a
flow. A side that changed although nobody edited it was written to by a flow, and that must be by
the rule: with something that stood on the other side since the two last agreed, and not over an
edit that is the newer one (on a tie Salesforce's). In the end both sides hold the same.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from tests.fakes import CrashError
from tests.integration.both_ways import NAMES, BothWays, Content, Flow

Side = Literal["salesforce", "brevo"]
FIRST_NAMES = ("Ada", "Bob", "Cyd", "Dea")  # So few that edits are taken back again and again.
LAST_NAMES = ("Ahl", "Berg", "Cole")
BIRTHDAYS = ("1990-01-01", "1991-02-03", None)
POINTS = (1.5, 2.718, 3.1, None)  # 2.718 Salesforce rounds, and Brevo does not.
VALUES = {
    "FirstName": FIRST_NAMES,
    "LastName": LAST_NAMES,
    "Birthdate": BIRTHDAYS,
    "Points__c": POINTS,
}
SIDES: tuple[Side, ...] = ("salesforce", "brevo")
POLLER_STEPS = ("read", "sent", "acknowledged", "told")
WRITER_STEPS = ("classified", "held", "called", "settled", "read_back", "untold", "told")


def rounded(content: Content) -> Content:
    """Return a content as both sides can keep it."""
    points = content.get("Points__c")
    return content if points is None else {**content, "Points__c": round(points, 2)}


@dataclass
class Couple:
    """A record and its contact: what stands on both sides, and what stood there since they agreed.

    `seen` has each content that a person left on a side, with the last second in which it stood;
    `flowed` what flows wrote there. Of two writes within one second of Salesforce's, a page that is
    read in between cannot be told to be older: it may come back once (docs/decisions/0131).
    """

    record: str
    contact: int
    agreed: Content
    stands: dict[Side, Content]
    seen: dict[Side, list[tuple[Content, int]]]
    flowed: dict[Side, list[tuple[Content, int]]]
    is_deleted: bool = False  # At Salesforce; the contact stays.

    def edited(self, side: Side, content: Content, second: int) -> None:
        """Note what a person left on a side."""
        self.stands[side] = content
        self.seen[side].append((content, second))

    def at(self, side: Side, content: Content) -> int | None:
        """Return the last second in which a person left this on a side; None: nobody did."""
        return max(self._when(side, content), default=None)

    def _when(self, side: Side, content: Content) -> list[int]:
        wanted = rounded(content)
        return [at for each, at in self.seen[side] if rounded(each) == wanted]

    def may_be_late(self, side: Side, content: Content) -> bool:
        """Return whether a flow wrote this on a side before its last write, in the same second.

        Only Salesforce's clock is so coarse: what was read there between the two may come late.
        """
        if side == "brevo" or not self.flowed[side]:
            return False
        wanted, (*before, (_, second)) = rounded(content), self.flowed[side]
        return any(rounded(each) == wanted and at == second for each, at in before)

    def look(self, side: Side, content: Content, second: int) -> None:
        """See what stands on a side after a flow has worked; it must be by the rule."""
        if content == self.stands[side]:
            return
        other: Side = "brevo" if side == "salesforce" else "salesforce"
        written = self.at(other, content)
        is_late = written is None and self.may_be_late(other, content)
        assert is_late or written is not None, f"an echo at {side}: {content}, not {self.agreed}"
        if written is not None and rounded(self.stands[side]) != rounded(self.agreed):
            # What has given way, was edited and was taken back, still looks as it did (ADR 0131).
            edit = min(self._when(side, self.stands[side]))
            stands = edit >= written if side == "salesforce" else edit > written
            assert not stands, f"{side}: {self.stands[side]} of {edit} lost to one of {written}"
        self.stands[side] = self.agreed = content
        self.seen[side] = []
        self.flowed[side].append((content, second))


@dataclass
class Rounds:
    """One history: edits, flows at work, deaths and deliveries, as a seed draws them."""

    world: BothWays
    draw: Random
    couples: list[Couple] = field(default_factory=list)
    deaths: int = 0
    log: list[str] = field(default_factory=list)
    entered: int = 0

    async def begin(self, count: int) -> None:
        """Add people, and let them come to Brevo."""
        records = [
            await self.world.add(
                Email=f"person{number}@example.com",
                FirstName="Ada",
                LastName="Ahl",
                MobilePhone=f"+4479111234{number:02}",
            )
            for number in range(count)
        ]
        await self.world.settle()
        there = {content["Email"]: id_ for id_, (content, _) in (await self._contacts()).items()}
        self.couples = [
            Couple(record, there[f"person{number}@example.com"], {}, {}, {}, {})
            for number, record in enumerate(records)
        ]
        standing = await self.world.records()
        for couple in self.couples:
            content = standing[couple.record][0]
            couple.agreed = content
            couple.stands = {"salesforce": content, "brevo": content}
            couple.seen = {"salesforce": [], "brevo": []}
            couple.flowed = {"salesforce": [], "brevo": []}
        await self.check()

    async def round(self) -> None:
        """Let some edits happen, and some work between them."""
        for _ in range(self.draw.randint(1, 6)):
            couple, fate = self.draw.choice(self.couples), self.draw.random()
            if fate < 0.35:
                await self.world.pass_time(self.draw.choice([0, 0, 1, 2]))
                await self._edit(couple, self.draw.choice(SIDES))
            elif fate < 0.5:
                await self._contend(couple)
            elif fate < 0.53:
                await self.merge(couple)
            elif fate < 0.55:
                await self.replace(couple)
            else:
                await self._work(self.draw.choice([self.world.there, self.world.back]))

    async def check(self) -> None:
        """Let everything come to rest; both sides must hold the same by then."""
        await self.world.settle(after=self.look)
        for couple in self.couples:
            ours, theirs = couple.stands["salesforce"], couple.stands["brevo"]
            assert rounded(ours) == rounded(theirs), (ours, theirs, self.log[-40:])
            couple.agreed, couple.seen = ours, {"salesforce": [], "brevo": []}

    async def look(self) -> None:
        """Look at both sides after a flow has worked."""
        records, contacts = await self.world.records(), await self._contacts()
        for couple in self.couples:
            try:
                if not couple.is_deleted:
                    couple.look("salesforce", *records[couple.record])
                couple.look("brevo", *contacts[couple.contact])
            except AssertionError as error:
                error.add_note("\n".join(self.log[-60:]))
                raise

    async def _contacts(self) -> dict[int, tuple[Content, int]]:
        return await self.world.contacts()

    async def _edit(self, couple: Couple, side: Side) -> None:
        content, _ = await self._standing(couple, side)
        name = self.draw.choice(list(VALUES))
        value = self.draw.choice([each for each in VALUES[name] if each != content.get(name)])
        await self.enter(couple, side, **{name: value})

    async def enter(self, couple: Couple, side: Side, **values: Any) -> str:
        """Edit a couple on a side; without values give it a first name that it never had."""
        self.entered += 1
        given = values or {"FirstName": f"Name {self.entered}"}
        if side == "salesforce":
            await self.world.edit(couple.record, **rounded(given))
        else:
            own = {NAMES[name]: value for name, value in given.items()}
            await self.world.edit_there(couple.contact, **own)
        content, second = await self._standing(couple, side)
        couple.edited(side, content, second)
        self.log.append(f"{couple.contact}: {side} {given} at {second}: {content}")
        return str(content.get("FirstName"))

    async def _contend(self, couple: Couple) -> None:
        """Edit both sides, within one second or a little apart: the clocks decide, or a tie."""
        first, then = self.draw.sample(SIDES, 2)
        await self.world.begin_second()
        await self._edit(couple, first)
        await self.world.pass_time(self.draw.choice([0, 0, 1, 2]))
        await self._edit(couple, then)

    async def merge(self, couple: Couple) -> None:
        """Merge the record into another, whose values stand from now on: an edit like any."""
        await self.world.pass_time(1)
        couple.record = await self.world.merge(couple.record, **self._drawn(couple))
        content, second = await self._standing(couple, "salesforce")
        couple.edited("salesforce", content, second)
        self.log.append(f"{couple.contact}: merged into {couple.record} at {second}: {content}")

    async def replace(self, couple: Couple) -> None:
        """Delete the record; what is edited at Brevo then is nobody's. Add it anew."""
        await self.check()
        await self.world.delete(couple.record)
        couple.is_deleted = True
        await self.world.settle(after=self.look)
        await self._edit(couple, "brevo")
        await self.world.settle(after=self.look)
        address = couple.stands["salesforce"]["Email"]
        couple.record = await self.world.add(Email=address, **self._drawn(couple))
        couple.is_deleted = False
        content, second = await self._standing(couple, "salesforce")
        # The two have never agreed on anything: Salesforce's stands, whenever Brevo's was edited.
        couple.agreed, couple.seen = couple.stands["brevo"], {"salesforce": [], "brevo": []}
        couple.edited("salesforce", content, second)
        self.log.append(f"{couple.contact}: anew as {couple.record} at {second}: {content}")
        await self.check()

    def _drawn(self, couple: Couple) -> Content:
        """Return what a record holds that comes in a couple's place; the phone is the same."""
        values = {name: self.draw.choice(each) for name, each in VALUES.items()}
        return {**rounded(values), "MobilePhone": couple.stands["salesforce"]["MobilePhone"]}

    async def _standing(self, couple: Couple, side: Side) -> tuple[Content, int]:
        if side == "salesforce":
            return (await self.world.records())[couple.record]
        return (await self._contacts())[couple.contact]

    async def _work(self, flow: Flow) -> None:
        """Let a flow read, write, or handle once more what it had handled; it may die at it."""
        await self.world.pass_time(self.draw.choice([0, 0, 1]))
        what = self.draw.choice(["poll", "write", "write", "again", "drain"])
        if what == "write" and not flow.journal.events:
            what = "poll"
        dies_at = None
        if self.draw.random() < 0.5:
            dies_at = self.draw.choice(POLLER_STEPS if what == "poll" else WRITER_STEPS)
        self.log.append(f"{flow.provider} {what}" + (f", dies at {dies_at}" if dies_at else ""))

        def reached(step: str) -> None:
            if step == dies_at:
                self.deaths += 1
                raise CrashError

        try:
            match what:
                case "poll":
                    await self.world.poll(flow, reached=reached)
                case "write":
                    await self.world.write(flow, reached=reached)
                case "again":
                    await self.world.deliver_again(flow, self.draw.randrange(10), reached=reached)
                case _:
                    await self.world.drain(flow)
        except CrashError:
            self.log.append("died")
        await self.look()
