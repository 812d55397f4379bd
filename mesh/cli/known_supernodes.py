"""What an edge can tell others of its supernodes: invites, and what ``--supernode`` takes."""

from collections.abc import Sequence

from mesh.cli.embedded import places_for_others
from mesh.cli.invite import Invite, format_invite
from mesh.cli.membership import Membership
from mesh.cli.supernodes import SupernodeTarget
from mesh.cli.values import HostPort, SupernodeAddress, format_supernode
from mesh.errors import MeshError


class KnownSupernodes:
    """The supernodes of one edge, with what it has learnt of them since it started.

    Attributes:
        fingerprints: their keys, "" where none has been shown yet.
        host_ports: where they may answer; those of an embedded one change with our addresses.
    """

    def __init__(self, targets: Sequence[SupernodeTarget], membership: Membership) -> None:
        """Begin with what is known from the start."""
        self._targets = targets
        self._membership = membership
        self.fingerprints = [target.fingerprint for target in targets]
        self.host_ports = [target.host_ports for target in targets]

    def invite(self, primary: int, mapped: Sequence[HostPort]) -> str:
        """Return the invite to the community: the primary supernode first, then the others.

        Args:
            primary: the number of the supernode that answers fastest.
            mapped: where a router forwards to it, if it is embedded.

        Raises:
            MeshError: its key is not known yet, or no place where others could reach it.
        """
        fingerprint, host_ports = self.fingerprints[primary], self.host_ports[primary]
        if not fingerprint:
            raise MeshError("no supernode has answered yet, so there is no invite; try again later")
        told = places_for_others(host_ports)
        told = (*told[:1], *mapped, *told[1:])
        if not told:
            raise MeshError(
                f"no invite: the supernode is known here as {host_ports[0]} only, which means"
                " nothing elsewhere; join with --supernode and an address that others can reach"
            )
        return format_invite(
            Invite(
                host_ports=told,
                community=self._membership.keys.name,
                fingerprint=fingerprint,
                ways=self._targets[primary].ways,
                spares=self._spares(primary),
                is_open=self._membership.secret is None,
                secret=self._membership.secret,
            )
        )

    def named(self) -> list[str]:
        """Return them as ``--supernode`` takes them, with the keys that are known."""
        return [
            format_supernode(self._address(number, self.host_ports[number]))
            for number in range(len(self._targets))
        ]

    def _spares(self, primary: int) -> tuple[SupernodeAddress, ...]:
        """Return the others that can be reached from elsewhere and whose keys are known."""
        found = []
        for number in range(len(self._targets)):
            told = places_for_others(self.host_ports[number])
            if number != primary and told and self.fingerprints[number]:
                found.append(self._address(number, told))
        return tuple(found)

    def _address(self, number: int, host_ports: tuple[HostPort, ...]) -> SupernodeAddress:
        target = self._targets[number]
        return SupernodeAddress(host_ports, self.fingerprints[number], target.ways, target.has_udp)
