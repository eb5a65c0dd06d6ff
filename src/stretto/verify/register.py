"""The model of a register with read, write and compare-and-set. It is nil before the first write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stretto.core.model import UNKNOWN, Query

_ARGUMENTS = {"read": 0, "write": 1, "cas": 2}


class CasRegister:
    """One register. Operations are `("read",)`, `("write", value)` and `("cas", expected, value)`; nil is None. See Model."""

    name = "cas-register"

    def operation(self, name: str, arguments: Sequence[Any]) -> Any:
        """See Model."""
        if name not in _ARGUMENTS:
            raise ValueError(f"a register has no operation {name!r}; it has {', '.join(_ARGUMENTS)}")
        if len(arguments) != _ARGUMENTS[name]:
            raise ValueError(f"{name} takes {_ARGUMENTS[name]} values, not {len(arguments)}")
        return (name, *arguments)

    def decode(self, operation: bytes, result: bytes | None) -> tuple[Any, Any]:
        """See Model. Always raises ValueError: there is no such service."""
        raise ValueError(f"the model {self.name} has no service, so it cannot decode recorded operations; its histories are text")

    def key(self, operation: Any) -> str:
        """See Model. There is one key."""
        return "the register"

    def initial(self) -> None:
        """See Model."""

    def step(self, state: Any, operation: Any) -> tuple[Any, Any]:
        """See Model."""
        name, *arguments = operation
        if name == "read":
            return state, state
        if name == "write":
            return None, arguments[0]
        expected, value = arguments
        return (True, value) if state == expected else (False, state)

    def is_query(self, operation: Any, result: Any) -> bool:
        """See Model."""
        return operation[0] == "read" or result is False

    def overwrites(self, operation: Any, result: Any) -> bool:
        """See Model."""
        return bool(operation[0] == "write")

    def parts(self, operation: Any, result: Any, keys: Sequence[Any]) -> Mapping[Any, Query]:
        """See Model. No operation has several keys."""
        raise NotImplementedError

    def describe(self, operation: Any, result: Any) -> str:
        """See Model."""
        name, *arguments = operation
        text = " ".join([name, *map(self.describe_state, arguments)])
        if result is UNKNOWN or name == "write":
            return text
        if name == "cas":
            return text if result else f"{text}: refused"
        return f"{text}: {self.describe_state(result)}"

    def describe_state(self, state: Any) -> str:
        """See Model."""
        return "nil" if state is None else str(state)
