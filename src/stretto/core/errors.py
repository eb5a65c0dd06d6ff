"""Every exception that Stretto defines, and what is certain after each.

The exceptions of this module are exported from `stretto`; a program that calls a cluster meets no others, except those of its service. The
rest belong to the packages that raise them.

    Exception
    ├── StrettoError                     the base; raised itself where a command cannot go on: the text says why
    │   ├── ConfigurationError           the configuration is wrong: nothing was started or sent
    │   ├── RequestTooLarge              the operation was not sent, so it did not happen
    │   ├── ClusterClosed                the cluster object cannot be used: the operation was not sent, so it did not happen
    │   ├── OutcomeUnknown               the operation may have happened, may happen later, or never
    │   │   ├── RequestTimeout           the same: no quorum of replicas answered in time
    │   │   ├── ClusterUnavailable       the same: no replica answered
    │   │   ├── SessionExpired           the operation may have happened before its session was dropped; it will not happen later
    │   │   └── ClusterReset             the operation may have happened in a cluster whose state is gone; it will not happen later
    │   ├── ApplicationError             the operation failed on all replicas alike and changed nothing
    │   │   ├── OperationFailed          the same, because of a mistake in the service
    │   │   ├── NotActive                the same, since the cluster has not activated the version that has this method
    │   │   ├── KeyTooLong               the same, in the key-value store
    │   │   ├── ValueTooLong             the same, in the key-value store
    │   │   ├── NotANumber               the same, in the key-value store
    │   │   └── BadLimit                 the same, in the key-value store
    │   ├── StorageFailure               a disk operation failed: what is on disk is unknown, and the replica stops
    │   ├── Corrupt                      data on disk is damaged: the replica does not start, and changed nothing
    │   ├── ClusterFailure               a replica process did not start, or died
    │   ├── LoadFailure                  a measuring client failed: there is no measurement
    │   ├── Stalled                      a simulated measurement completed no operation: there is no measurement
    │   ├── NoNetwork                    the machine does not allow such network namespaces
    │   ├── NoDisk                       the machine does not allow such a mount
    │   ├── TestbedFailure               a testbed could not be made, found or changed
    │   ├── TrafficFailure               senders or receivers on a testbed failed: there is no measurement
    │   ├── Refused                      a switch refused a request, and changed nothing
    │   ├── Lost                         the connection to a switch was lost: the request may have been carried out
    │   ├── MutantError                  a mutant no longer fits the source: nothing was changed
    │   └── ScheduleError                a step of a mutant's schedule is not possible: nothing was searched
    │
    ├── Refused                          bytes from the network are not a frame for this node: they are counted and dropped
    ├── BadHeader                        a file does not begin with a header; reported as Corrupt
    ├── OtherVersion                     a file has an unknown version of the layout; reported as ConfigurationError
    ├── Violation                        a checker saw what must never happen
    ├── GaveUp                           the search for a linearization used up its budget: nothing was decided
    └── Missing                          an experiment lacks the rows for a figure: it is reported as not measured
"""

from __future__ import annotations

from pathlib import Path


class StrettoError(Exception):
    """The base of all errors that Stretto reports to its users."""


class ConfigurationError(StrettoError):
    """A configuration is wrong. The text says where (file and key), what is wrong, and what would be right.

    Parameters: `reason`, a sentence; `key`, the dotted key it is about, if there is one; `file`, the file that holds it, if there is one.
    """

    def __init__(self, reason: str, *, key: str | None = None, file: str | Path | None = None) -> None:
        self.reason = reason
        self.key = key
        self.file = None if file is None else str(file)
        super().__init__(": ".join(part for part in (self.file, key, reason) if part))

    def in_file(self, file: str | Path) -> ConfigurationError:
        """The same error with the name of the file in it."""
        return ConfigurationError(self.reason, key=self.key, file=file)


class RequestTooLarge(StrettoError):
    """The encoded operation is larger than `max_request_bytes`. It was not sent."""


class ClusterClosed(StrettoError):
    """The cluster object was closed, or was opened before a fork or in another event loop. The operation was not sent; connect again."""


class OutcomeUnknown(StrettoError):
    """The operation may have happened, may happen later, or never. Raised itself if the cluster object was closed during the call.

    Where the text says that the operation was not sent, it did not happen.
    """


class RequestTimeout(OutcomeUnknown):
    """Replicas answered, but no quorum of them within `request_timeout_ms`."""


class ClusterUnavailable(OutcomeUnknown):
    """No replica answered."""


class SessionExpired(OutcomeUnknown):
    """The replicas had dropped the session of this call.

    The operation may have happened before they did; it will not happen later. The next call opens a new session.
    """


class ClusterReset(OutcomeUnknown):
    """The cluster was started anew, empty, since this call was made, as f+1 replicas have said.

    The operation may have happened before; it will not happen later. The next call goes to the new cluster.
    """


class ApplicationError(StrettoError):
    """An operation of the service failed, identically on every replica, and changed nothing.

    A service raises its own subclasses. A client gets a subclass that the service declares as itself, and any other as
    `ApplicationError` with the same text.
    """


class OperationFailed(ApplicationError):
    """The operation raised an exception that is no ApplicationError: a mistake in the service. The text names the exception."""


class NotActive(ApplicationError):
    """The method belongs to a version of the service that is not active yet, since not all replicas have that code. Nothing happened."""
