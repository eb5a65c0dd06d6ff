"""Bugs in the replicated state: undo, sessions, checkpoints, and state transfer."""

from __future__ import annotations

from stretto.mutants.hunters import network
from stretto.mutants.mutant import Mutant

_SESSIONS = "stretto.replication.sessions"
_STATE = "stretto.replication.state"
_TRANSFER = "stretto.replication.transfer"

_SMALL = ("--set", "limits.checkpoint_operations=7")
_CHUNKS = ("--set", "limits.max_transfer_bytes=200", "--set", "settle_ns=5000000000")

MUTANTS = (
    Mutant(
        "undo-without-sessions",
        "Rolling back undoes the session table too",
        _STATE,
        "self.sessions.undo(self.log.entry_at(place), self._session_undos.pop())",
        "self._session_undos.pop()",
        network(3),
    ),
    Mutant(
        "undo-without-machine",
        "Rolling back undoes the state machine too",
        _STATE,
        "self.machine.undo(undo)",
        "pass",
        network(3),
    ),
    Mutant(
        "own-entries-kept",
        "In a repaired log, the committed entries replace the replica's own",
        _STATE,
        "kept = self.log.matching_prefix(position, entries)",
        "kept = min(self.log.last, position + len(entries))",
        network(3),
    ),
    Mutant(
        "dropped-session-executes",
        "A request of a session that was dropped never runs",
        _STATE,
        "        self._results.append(result)\n",
        "        else:\n"
        "            result, undo = self.machine.execute(request.operation, request.time_ns, request.entropy)\n"
        "        self._results.append(result)\n",
        network(3),
    ),
    Mutant(
        "dropped-sessions-stay-dropped",
        "Undoing the opening of a session restores the sessions that it dropped",
        _SESSIONS,
        "            for session, record in undo:\n                self._insert(session, record)\n",
        "",
        network(3),
    ),
    Mutant(
        "checkpoint-of-what-is-speculative",
        "A checkpoint is the state at its position, not at the last position when that is committed",
        _STATE,
        "            self.checkpoint = self._speculative_checkpoints.pop(0)\n",
        "            taken = self._speculative_checkpoints.pop(0)\n"
        "            image = Image(self.sessions.image(), self.machine.snapshot(), self.time_ns, self.configuration, 1)\n"
        "            state = _encode_image(image)\n"
        "            self.checkpoint = Checkpoint(taken.position, taken.hash, taken.outcome, state)\n",
        network(3, *_SMALL),
    ),
    Mutant(
        "checkpoint-without-sessions",
        "A checkpoint includes the session table",
        _STATE,
        "image = Image(self.sessions.image(), self.machine.snapshot(), self.time_ns, self.configuration, self.attempted)",
        "image = Image([], self.machine.snapshot(), self.time_ns, self.configuration, self.attempted)",
        network(3, *_SMALL),
    ),
    Mutant(
        "checkpoint-survives-roll-back",
        "A checkpoint of a position that is rolled back is dropped",
        _STATE,
        "        while self._speculative_checkpoints and self._speculative_checkpoints[-1].position > position:\n"
        "            self._speculative_checkpoints.pop()\n",
        "",
        network(3, *_SMALL),
    ),
    Mutant(
        "entries-compacted-early",
        "Entries that have been committed just now are kept, so that their clients can be answered",
        _STATE,
        "compacted_to = max(compacted_to, min(self.checkpoint.position, former))\n"
        "            self.checkpoint = self._speculative_checkpoints.pop(0)\n",
        "compacted_to = self.checkpoint.position\n            self.checkpoint = self._speculative_checkpoints.pop(0)\n",
        network(3, *_SMALL),
    ),
    Mutant(
        "checkpoint-chunks-mixed",
        "The chunks of a checkpoint are of one checkpoint, and have its digest",
        _TRANSFER,
        "return (chunk.position, chunk.digest, chunk.size) == (outline.position, outline.digest, outline.size)",
        "return True",
        network(3, *_SMALL, *_CHUNKS),
    ),
    Mutant(
        "checkpoint-begun-again",
        "A transfer continues from the bytes that have arrived",
        _TRANSFER,
        "message.offset if same and message.offset < len(checkpoint.state) else 0",
        "0",
        network(3, *_SMALL, *_CHUNKS),
    ),
)
