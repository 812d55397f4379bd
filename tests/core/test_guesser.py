"""What members can make an edge do by asking it to guess at their ports."""

import pytest

from mesh.addresses import Endpoint
from mesh.constants import GUESS_PREDICTIONS, GUESS_PROBES, GUESS_SOCKETS, RELAY_HEADER_BYTES
from mesh.core.guesser import (
    ACCEPT_INTERVAL,
    AIM_BURST,
    AIM_RATE,
    PREDICT_BURST,
    PREDICT_RATE,
)
from mesh.core.hard_side import ROUND_OFFSETS, HardSide
from mesh.core.nat_kind import NatFiltering, NatKind, NatMapping, NatPorts
from mesh.events import SocketsUnwanted, SocketsWanted
from mesh.wire.datagram import PUNCH
from mesh.wire.messages import Guess, GuessStep, Members
from tests.core.edge_alone import HOME, Target, split
from tests.core.hostile_member import HostileMember
from tests.core.scripted_supernode import SEEN_AS, ScriptedSupernode, member_of

NAMED = Endpoint("203.0.113.66", 5000)


class Asked:
    """A registered target and members that ask it; none of them is reached directly.

    Attributes:
        punches: where punches went, as often as they did.
        answers: what the target said to the first member's asks.
    """

    def __init__(self, members: int = 1, *, introduced: bool = True, **changes: object) -> None:
        self.target = Target(**changes)
        self.supernode = ScriptedSupernode(self.target)
        self.supernode.take_in(0.0)
        self.members = [HostileMember(self.target, seed=10 + 2 * n) for n in range(members)]
        if introduced:
            self.supernode.members = tuple(
                member_of(member.identity, 77 + n, HOME) for n, member in enumerate(self.members)
            )
            news = Members(self.supernode.members, self.supernode.digest(), page=0, pages=0)
            self.supernode.deliver(self.supernode.seal(news), 1.0)
        for member in self.members:
            member.say_hello(1.0, candidates=(NAMED,), nat=(2, 2, 4, 0))
        self.target.engine.handle_timers(1.0)
        self.target.sent()
        self.punches: list[Endpoint] = []
        self.answers: list[Guess] = []
        self.asked = 0

    def ask(self, now: float, *, member: int = 0, stride: int = 0) -> None:
        self.asked += 1
        number = self.asked.to_bytes(8, "big")
        self.members[member].say(Guess(number, GuessStep.ASK, 30000, stride), now)
        self.collect(now)

    def collect(self, now: float) -> None:
        self.target.engine.handle_timers(now)
        sent = self.target.sent()
        self.punches += [to for datagram, to in sent if datagram == PUNCH]
        if len(self.members) > 1:
            return
        relayed = [(datagram[RELAY_HEADER_BYTES:], to) for datagram, to in sent]
        said = self.members[0].read([*sent, *relayed])
        self.answers += [each for each in said if isinstance(each, Guess)]

    def pass_time(self, start: float, seconds: float) -> float:
        for tick in range(1, int(seconds * 20) + 1):
            self.collect(start + tick * 0.05)
        return start + seconds


def test_an_ask_is_answered_by_punches_to_where_the_supernode_sees_the_member() -> None:
    asked = Asked()
    asked.ask(2.0)
    asked.pass_time(2.0, 2.0)
    assert len(asked.punches) == GUESS_PROBES
    assert {endpoint.host for endpoint in asked.punches} == {HOME.host}
    assert asked.answers[0].step is GuessStep.OPENED


def test_punches_are_paced() -> None:
    asked = Asked()
    asked.ask(2.0)
    assert len(asked.punches) <= 64
    asked.pass_time(2.0, 0.3)
    assert len(asked.punches) <= 8 * 64


def test_the_predicted_ports_are_punched_and_no_others() -> None:
    asked = Asked()
    asked.ask(2.0, stride=2)
    asked.pass_time(2.0, 1.0)
    expected = [Endpoint(HOME.host, 30000 + 2 * n) for n in range(1, GUESS_PREDICTIONS + 1)]
    assert asked.punches == expected


def test_one_member_gets_one_attempt_per_interval_however_often_it_asks() -> None:
    asked = Asked()
    now = 2.0
    for _ in range(400):
        asked.ask(now)
        now = asked.pass_time(now, 0.25)
    attempts = min(1 + (now - 2.0) // ACCEPT_INTERVAL, AIM_BURST + (now - 2.0) * AIM_RATE + 1)
    assert GUESS_PROBES <= len(asked.punches) <= attempts * GUESS_PROBES
    assert {answer.step for answer in asked.answers} == {GuessStep.OPENED, GuessStep.BUSY}


def test_many_members_get_no_more_than_all_together() -> None:
    asked = Asked(members=9)
    now = 2.0
    for turn in range(240):
        asked.ask(now, member=turn % 9)
        now = asked.pass_time(now, 0.5)
    attempts = AIM_BURST + (now - 2.0) * AIM_RATE + 1
    assert len(asked.punches) <= attempts * GUESS_PROBES


def test_predictions_are_bounded_as_well() -> None:
    asked = Asked()
    now = 2.0
    for turn in range(300):
        asked.ask(now, stride=1 + turn)
        now = asked.pass_time(now, 0.1)
    attempts = PREDICT_BURST + (now - 2.0) * PREDICT_RATE + 1
    assert len(asked.punches) <= attempts * GUESS_PREDICTIONS


def test_a_member_that_no_supernode_names_gets_none() -> None:
    asked = Asked(introduced=False)
    asked.ask(2.0)
    asked.pass_time(2.0, 2.0)
    assert not asked.punches


def test_an_edge_that_was_told_not_to_refuses() -> None:
    asked = Asked(hard_punch=False)
    asked.ask(2.0)
    asked.pass_time(2.0, 2.0)
    assert not asked.punches
    assert [answer.step for answer in asked.answers] == [GuessStep.REFUSED]


def test_an_answer_to_nothing_changes_nothing() -> None:
    asked = Asked()
    for step in (GuessStep.OPENED, GuessStep.BUSY, GuessStep.REFUSED):
        asked.members[0].say(Guess(bytes(8), step), 2.0)
    asked.pass_time(2.0, 1.0)
    assert not asked.punches
    reported = asked.target.engine.events_to_report()
    assert not [event for event in reported if isinstance(event, SocketsWanted)]


def test_sockets_that_nobody_waits_for_are_given_back() -> None:
    asked = Asked()
    asked.target.engine.events_to_report()
    asked.target.engine.sockets_opened([1000, 1001], 2.0)
    assert SocketsUnwanted((1000, 1001)) in asked.target.engine.events_to_report()
    asked.target.engine.socket_closed(1000, 2.0)


class Asking:
    """A registered target behind a hard NAT that shows random ports, and members who answer it.

    Attributes:
        opened: how often it asked for sockets.
        pings: how many datagrams left from these.
    """

    def __init__(self, members: int) -> None:
        self.target = target = Target()
        target.sent = self._sent  # type: ignore[method-assign]
        self.opened = self.pings = 0
        self.supernode = supernode = ScriptedSupernode(target)
        supernode.take_in(0.0)
        self.members = [HostileMember(target, seed=10 + 2 * n) for n in range(members)]
        supernode.members = tuple(
            member_of(member.identity, 77 + n, HOME) for n, member in enumerate(self.members)
        )
        news = Members(supernode.members, supernode.digest(), page=0, pages=0)
        supernode.deliver(supernode.seal(news), 1.0)
        [registration] = target.engine._supernodes
        observer = registration.nat_observer
        observer.registered(registration.contact.via, (40000, 40001), SEEN_AS, 1.0)
        hard = NatKind(NatMapping.DEPENDENT, NatFiltering.PORT, NatPorts.RANDOM)
        target.engine._context.our_nat.found(0, hard, 1.0)
        self.say_hello(1.0)

    def _sent(self) -> list[tuple[bytes, Endpoint]]:
        batches = self.target.engine.datagrams_to_send()
        sockets = [batch.socket for batch in batches for _ in split([batch])]
        self.pings += sum(socket >= 1000 for socket in sockets)
        return split(batches)

    def say_hello(self, now: float) -> None:
        for member in self.members:
            member.say_hello(now, nat=(1, 2, 1, 0))

    def run(self, start: float, seconds: float, answer: GuessStep, **options: bool) -> None:
        """Let time pass; members answer every ask like this."""
        engine = self.target.engine
        for tick in range(int(seconds * 20)):
            now = start + tick * 0.05
            if options.get("says_hello_again"):
                self.say_hello(now)
            engine.handle_timers(now)
            for event in engine.events_to_report():
                if isinstance(event, SocketsWanted):
                    self.opened += 1
                    first = 1000 * self.opened
                    engine.sockets_opened(list(range(first, first + event.count)), now)
            attempt = engine._guesser._attempt
            if isinstance(attempt, HardSide):
                [member] = [m for m in self.members if m.identity.edge_id == attempt.peer.edge_id]
                member.say(Guess(attempt._number, answer), now)
            self.supernode.collect(now)
            self.supernode.answer_pings(now)


def test_however_many_members_are_said_to_be_at_an_address_it_gets_few_pings() -> None:
    asking = Asking(members=9)
    asking.run(2.0, 120.0, GuessStep.OPENED)
    attempts = AIM_BURST + 120 * AIM_RATE + 1
    assert GUESS_SOCKETS <= asking.pings <= attempts * len(ROUND_OFFSETS) * GUESS_SOCKETS


@pytest.mark.parametrize("answer", [GuessStep.REFUSED, GuessStep.BUSY])
def test_who_asks_to_be_guessed_and_then_does_not_take_part_costs_no_sockets(
    answer: GuessStep,
) -> None:
    asking = Asking(members=1)
    asking.run(2.0, 60.0, answer, says_hello_again=True)
    assert asking.opened == 0
    asking.run(70.0, 70.0, GuessStep.OPENED)
    assert 1 <= asking.opened <= AIM_BURST + 1, "what came to nothing does not count"


def test_sockets_that_come_when_their_attempt_is_over_are_not_pinged_from() -> None:
    asking = Asking(members=1)
    engine = asking.target.engine
    for now in (2.0, 3.1):
        engine.handle_timers(now)
        asking.supernode.collect(now)
    assert isinstance(engine._guesser._attempt, HardSide), "it has asked, and waits for the answer"
    engine.events_to_report()
    late = list(range(1000, 1000 + GUESS_SOCKETS))
    engine.sockets_opened(late, 3.2)
    asking.supernode.collect(3.2)
    assert asking.pings == 0
    assert SocketsUnwanted(tuple(late)) in engine.events_to_report()
