"""What kind of NAT is in front of an edge, judged from what others saw; docs/protocol.md 12.8.

The words are those of RFC 4787. A NAT *maps* an inside endpoint to a port of its own: the same for
all destinations (endpoint-independent) or another one for each (dependent, "symmetric"). It
*filters* what comes back to that port. Where the mapping is dependent the peer cannot be told
beforehand where to send: it has to be predicted (sequential ports) or guessed (random ones).

Pure: observations in, a verdict out.
"""

import enum
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mesh.addresses import Endpoint

MAX_DRIFT = 64
"""How far apart two mappings made within a second may be to count as a sequence: other flows take
ports in between. Two random ports are as close in one of 500 cases, and a prediction that fails
says so."""


class NatMapping(enum.IntEnum):
    """What the public port depends on, besides the inside endpoint; the number goes to peers."""

    UNKNOWN = 0
    INDEPENDENT = 1
    DEPENDENT = 2


class NatFiltering(enum.IntEnum):
    """What must have been sent to before it may answer; the number goes to peers.

    From the ports of one address it cannot be told whether the address matters.
    """

    UNKNOWN = 0
    ADDRESS = 1
    PORT = 2


class NatPorts(enum.IntEnum):
    """Which public port a mapping gets; the number goes to peers."""

    UNKNOWN = 0
    PRESERVED = 1
    CHANGED = 2
    SEQUENTIAL = 3
    RANDOM = 4


class Hopeless(enum.StrEnum):
    """Why no direct path to a peer is tried any more, or none can be had."""

    BOTH_HARD = "both NATs use another port for every destination, which nobody can tell beforehand"
    REFUSED_HERE = "only guessing at ports could find a way, and this edge was told not to"
    REFUSED_THERE = "only guessing at ports could find a way, and the peer was told not to"


class Role(enum.Enum):
    """Whose public port has to be guessed for a direct path between two edges."""

    NOBODY = "plain probing is all that can be done"
    OURS = "our NAT is the hard one"
    THEIRS = "the peer's NAT is the hard one"


_MAPPING_WORDS = ("unknown", "endpoint-independent", "dependent")
_FILTERING_WORDS = ("unknown", "none or by address", "by address and port")
_PORTS_WORDS = ("unknown", "preserved", "changed", "sequential", "random")


@dataclass(frozen=True, slots=True)
class NatKind:
    """A verdict; what is not known is UNKNOWN.

    Attributes:
        step: from one sequential port to the next, possibly negative; else 0.
    """

    mapping: NatMapping = NatMapping.UNKNOWN
    filtering: NatFiltering = NatFiltering.UNKNOWN
    ports: NatPorts = NatPorts.UNKNOWN
    step: int = 0

    @property
    def words(self) -> tuple[str, str, str]:
        """Mapping, filtering and ports for people and scripts."""
        return (
            _MAPPING_WORDS[self.mapping],
            _FILTERING_WORDS[self.filtering],
            _PORTS_WORDS[self.ports],
        )


def judge(local_port: int, seen: Sequence[Endpoint], filtering: NatFiltering) -> NatKind:
    """Return the kind of NAT that shows one socket of ours like this.

    Args:
        local_port: the port that the socket is bound to.
        seen: the socket's endpoint as several destinations saw it, in the order in which they were
            first sent to; at least two of them say something about the mapping.
        filtering: what was found out about that.
    """
    if len(seen) < 2:
        return NatKind(filtering=filtering)
    if len(set(seen)) == 1:
        ports = NatPorts.PRESERVED if seen[0].port == local_port else NatPorts.CHANGED
        return NatKind(NatMapping.INDEPENDENT, filtering, ports)
    step = step_between(seen)
    ports = NatPorts.SEQUENTIAL if step else NatPorts.RANDOM
    return NatKind(NatMapping.DEPENDENT, filtering, ports, step)


def step_between(seen: Sequence[Endpoint]) -> int:
    """Return the step of the sequence that the ports are in, 0 where they are in none.

    The last two are close together in time; what lies between older ones is other flows' too, but a
    multiple of the step as well.
    """
    if len({endpoint.host for endpoint in seen}) > 1:
        return 0
    steps = [b.port - a.port for a, b in itertools.pairwise(seen)]
    last = steps[-1]
    if not 0 < abs(last) <= MAX_DRIFT:
        return 0
    near = [abs(step) for step in steps if abs(step) <= MAX_DRIFT]
    return int(math.copysign(math.gcd(*near), last))


def role_between(ours: NatKind, theirs: NatKind) -> Role:
    """Return whose port has to be guessed for a direct path."""
    kinds = (ours.mapping, theirs.mapping)
    if kinds == (NatMapping.DEPENDENT, NatMapping.INDEPENDENT):
        return Role.OURS
    if kinds == (NatMapping.INDEPENDENT, NatMapping.DEPENDENT):
        return Role.THEIRS
    return Role.NOBODY


def is_hopeless(ours: NatKind, theirs: NatKind) -> bool:
    """Whether both ports would have to be guessed: 50,000 probes a side for an even chance."""
    return ours.mapping is theirs.mapping is NatMapping.DEPENDENT


def hopelessness(
    ours: NatKind, theirs: NatKind, *, we_refuse: bool, they_refuse: bool
) -> Hopeless | None:
    """Return why no direct path can be expected, None where one may be found."""
    if is_hopeless(ours, theirs):
        return Hopeless.BOTH_HARD
    role = role_between(ours, theirs)
    easy = theirs if role is Role.OURS else ours
    if role is Role.NOBODY or easy.filtering is not NatFiltering.PORT:
        return None
    if we_refuse:
        return Hopeless.REFUSED_HERE
    return Hopeless.REFUSED_THERE if they_refuse else None


def to_told(kind: NatKind, *, refuses: bool) -> tuple[int, ...]:
    """Return what a hello says of our NAT: mapping, filtering, ports, and whether we refuse."""
    if kind == NatKind() and not refuses:
        return ()
    return (int(kind.mapping), int(kind.filtering), int(kind.ports), int(refuses))


def from_told(told: tuple[int, ...]) -> tuple[NatKind, bool]:
    """Read what `to_told` wrote; a peer may say anything, and what we do not know is UNKNOWN."""
    if len(told) < 4:
        return NatKind(), False
    mapping, filtering, ports, refuses = told[:4]
    return (
        NatKind(
            NatMapping(mapping) if mapping <= max(NatMapping) else NatMapping.UNKNOWN,
            NatFiltering(filtering) if filtering <= max(NatFiltering) else NatFiltering.UNKNOWN,
            NatPorts(ports) if ports <= max(NatPorts) else NatPorts.UNKNOWN,
        ),
        bool(refuses),
    )
