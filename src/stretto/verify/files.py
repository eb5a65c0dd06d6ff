"""Files of recorded histories."""

from __future__ import annotations

from pathlib import Path

import msgspec

from stretto.core.errors import ConfigurationError
from stretto.core.model import Model
from stretto.verify import history, jepsen
from stretto.verify.events import steps_of as steps_of_events
from stretto.verify.linearizability import steps_of
from stretto.verify.search import Step


def read(file: Path, history_format: str, model: Model) -> list[Step]:
    """The history in a file of the format "jsonl", "edn" or "jepsen". Raises ConfigurationError with the file, the line and the reason."""
    try:
        with file.open("rb") as lines:
            if history_format == "jsonl":
                steps = steps_of(history.from_lines(lines), model)
                if not steps:
                    raise ValueError("no operation was found")
                return steps
            events = jepsen.events_of_edn if history_format == "edn" else jepsen.events_of_log
            return steps_of_events(events(line.decode("utf-8", "backslashreplace") for line in lines), model)
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=file) from None
    except (ValueError, msgspec.DecodeError) as error:
        raise ConfigurationError(str(error), file=file) from None
