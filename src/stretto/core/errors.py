"""Every error that Stretto raises, and so every way in which a call can end other than by a result."""

from __future__ import annotations

from pathlib import Path


class StrettoError(Exception):
    """The base of all errors of Stretto."""


class ConfigurationError(StrettoError):
    """A configuration is wrong: says where (file and key) and what would be right.

    Parameters: `reason`, a sentence; `key`, the dotted key it is about, if there is one; `file`, where it was read.
    """

    def __init__(self, reason: str, *, key: str | None = None, file: str | Path | None = None) -> None:
        self.reason = reason
        self.key = key
        self.file = None if file is None else str(file)
        super().__init__(": ".join(part for part in (self.file, key, reason) if part))

    def in_file(self, file: str | Path) -> ConfigurationError:
        """The same error, told of a file."""
        return ConfigurationError(self.reason, key=self.key, file=file)


class RequestTooLarge(StrettoError):
    """The operation is larger than `max_request_bytes`; nothing was sent."""


class RequestTimeout(StrettoError):
    """No quorum answered in time. The operation may have happened, may happen later, or never."""


class ClusterUnavailable(StrettoError):
    """No replica answered at all. If the operation had been sent, it is as uncertain as after a `RequestTimeout`."""


class SessionExpired(StrettoError):
    """The cluster had dropped the session of this call. The operation did not run in this attempt, but an earlier
    transmission of it may have; the next call opens a new session."""


class ApplicationError(StrettoError):
    """An operation of the service failed, identically on every replica, and changed nothing.

    A service raises its own subclasses. On the client side a subclass that the service declares comes back as itself,
    any other as `ApplicationError` with the same text.
    """
