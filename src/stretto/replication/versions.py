"""Versions: when the code of all replicas knows a later version of the service, the leader makes it the active one.

    each replica ---CodeVersion---> all others        when it enters a view, and from time to time
    the leader, when all members have said so in their present incarnation: the next view, whose log ends with the configuration

So replicas with newer code can be started one by one, beside those with older code: they behave as the active version until the last one
is there. The same entry carries those settings of the file that decide outcomes. What two replicas' code says of the active version is
compared: one that f+1 others contradict stops.
"""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address
from stretto.core.state_machine import FAILURE, VersionedMachine
from stretto.replication.group import Group, Status
from stretto.replication.messages import CodeVersion, Configuration, Upgrade, UpgradeReply
from stretto.replication.part import Part
from stretto.replication.state import ReplicatedState
from stretto.replication.view_change import ViewChange

INTERVAL_NS = 1_000_000_000
"""How often a replica repeats what its code and its file say."""

_SHOWN = 200
"""How many characters of a failure and of a line of a signature are shown."""


class Versions(Part):
    """The part of a replica that compares the replicas' code, and changes the active version.

    - `told`: by member, what it said last; and in `spoken`, the incarnation in which it said so.

    A machine without versions has the configuration of its file, for good, and nothing is said or compared.
    """

    def __init__(self, group: Group, state: ReplicatedState, view_change: ViewChange, config: ClusterConfig) -> None:
        super().__init__()
        self.group = group
        self.port = group.port
        self.state = state
        self.view_change = view_change
        self.told: dict[int, CodeVersion] = {}
        self.spoken: dict[int, int] = {}
        self._machine = state.machine if isinstance(state.machine, VersionedMachine) else None
        self._max_sessions = config.limits.max_sessions
        self._has_reported = False
        self.handlers = {CodeVersion: self.on_code_version, Upgrade: self.on_upgrade}
        self.timers = {"versions": self.on_timer}
        state.on_newer_code = self._stop_as_too_old
        state.on_configured = self._report

    @property
    def wants_another(self) -> bool:
        """Whether our code knows a later version than the active one, or our file has other settings."""
        machine = self._machine
        return machine is not None and Configuration(machine.code_version, self._max_sessions) != self.state.configuration

    def enter_view(self) -> None:
        """See `Part`. Tell the others soon what our code is."""
        self._hasten()

    def begin_view(self) -> None:
        """See `Part`. Another version may be active now; and the leader may know already that all are ready for the next one."""
        self._hasten()

    def _hasten(self) -> None:
        if self._machine is not None:
            self.port.set_timer("versions", 0)

    def on_timer(self) -> None:
        """Tell the others again: a message may have been lost."""
        self.port.set_timer("versions", INTERVAL_NS - self.port.random.randrange(INTERVAL_NS // 4))
        if self.group.in_service:
            own = self._own(asks=len(self.told) < self.group.n)
            self.group.send_to_peers(own)
            self._keep(self.group.index, own)

    def _own(self, *, asks: bool) -> CodeVersion:
        machine, version = self._machine, self.state.configuration.version
        assert machine is not None
        known = (machine.code_version, self._max_sessions)
        return CodeVersion(self.group.incarnations, *known, version, machine.signature(version), asks)

    def on_code_version(self, source: Address, message: CodeVersion) -> None:
        """Keep what a member says of its code; compare it with ours."""
        if self._machine is None:
            return self.group.ignore("versions of another machine")
        if message.asks:
            self.port.send(source, self._own(asks=False))
        return self._keep(source, message)

    def _keep(self, member: Address, message: CodeVersion) -> None:
        self.told[member] = message
        self.spoken[member] = message.incarnations[member]
        self._compare()
        self._configure_if_all_are_ready()

    # Comparing

    def _compare(self) -> None:
        """Stop if f+1 others say something else of the active version than our code does."""
        own = self.told.get(self.group.index)
        if own is None:
            return
        others = [self.told[member] for member in self.group.current_voters(self.spoken)]
        differing = [other.signature for other in others if other.version == own.version and other.signature != own.signature]
        if not differing:
            self._has_reported = False
        elif len(differing) >= self.group.quorums.majority:
            self.port.stop(self._difference(own, differing[0]))
        elif not self._has_reported:
            self._has_reported = True
            self.port.report("code differs", reason=self._difference(own, differing[0]))

    def _difference(self, own: CodeVersion, theirs: tuple[str, ...]) -> str:
        here, there = set(own.signature), set(theirs)
        ours, other = (min(lines, default="nothing")[:_SHOWN] for lines in (here - there, there - here))
        return (
            f"this replica's code differs from that of others, though it is the same version, {own.version}, of the service: it has"
            f" {ours}, where they have {other}. Every change of a service needs a new `version`, and `since` or `until` where it adds or"
            " removes something"
        )

    # Changing the configuration

    def _configure_if_all_are_ready(self) -> None:
        """As the leader, change the configuration if all members, in their present incarnations, are ready for another one."""
        group, state = self.group, self.state
        if not group.is_leader or group.status not in (Status.NORMAL, Status.SEALED) or state.is_sealed:
            return
        ready = self.group.current_voters(self.spoken)
        if len(ready) < group.n:
            return
        wanted = self._wanted([self.told[member] for member in ready])
        if wanted != state.configuration:
            self.view_change.configure(wanted)
        elif group.status is Status.SEALED:
            self.view_change.start_next("no other configuration")

    def _wanted(self, told: list[CodeVersion]) -> Configuration:
        """The newest version that all know, unless it has failed before; and the settings, if all files have the same."""
        present = self.state.configuration
        version = max(present.version, min(said.code_version for said in told))
        if version <= self.state.attempted:
            version = present.version
        settings = {said.max_sessions for said in told}
        return Configuration(version, settings.pop() if len(settings) == 1 else present.max_sessions)

    def on_upgrade(self, source: Address, message: Upgrade) -> None:
        """An operator asks for the newest version, without some members, or once more after an upgrade that failed."""
        version, reason = self._upgradable(set(message.without))
        self.port.send(source, UpgradeReply(message.nonce, version, reason))
        if not reason:
            self.view_change.configure(Configuration(version, self.state.configuration.max_sessions))

    def _upgradable(self, without: set[int]) -> tuple[int, str]:
        """The version that can become active; or the active one, and why none can."""
        group, active = self.group, self.state.configuration.version
        members = [member for member in range(group.n) if member not in without]
        ready = group.current_voters(self.spoken)
        missing = [member for member in members if member not in ready]
        if len(members) < group.quorums.majority:
            return active, f"these are not a majority: {len(members)} of {group.n} replicas"
        if missing:
            return active, f"not known what code these replicas have: {missing}; start them, or go on without them"
        version = min(self.told[member].code_version for member in members)
        if version <= active:
            codes = ", ".join(f"replica {member}: {self.told[member].code_version}" for member in members)
            return active, f"version {active} is active, and not all know a later one ({codes})"
        return version, ""

    def _stop_as_too_old(self, version: int) -> None:
        assert self._machine is not None
        self.port.stop(f"version {version} of the service is active, and this replica's code is of version {self._machine.code_version}")

    def _report(self, result: bytes) -> None:
        configuration, attempted = self.state.configuration, self.state.attempted
        if result[:1] == FAILURE:
            reason = result[1:].decode("utf-8", "replace")[:_SHOWN]
            self.port.report("upgrade failed", version=attempted, active=configuration.version, reason=reason)
        else:
            self.port.report("configured", version=configuration.version, max_sessions=configuration.max_sessions)

    # Watching

    def metrics(self) -> dict[str, Any]:
        """See `Part`. `code_versions`: by member, the newest version that its code knows."""
        configuration = self.state.configuration
        if self._machine is None:
            return {}
        return {
            "version": configuration.version,
            "attempted_version": self.state.attempted,
            "max_sessions": configuration.max_sessions,
            "code_versions": {str(member): said.code_version for member, said in sorted(self.told.items())},
        }

    def snapshot(self) -> Any:
        """See `Part`."""
        return [sorted(self.told.items()), sorted(self.spoken.items()), self._has_reported]
