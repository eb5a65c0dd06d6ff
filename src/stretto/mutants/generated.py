"""Generated mutants: every way to change one expression or statement of a function by a few fixed rules.

Comparisons lose or gain their boundary, sums lose their constant, conditions are negated or lose a part, `and` becomes `or`, `min`
becomes `max`, a statement or an early return is left out. What only speaks to people (reports, metrics, counts of ignored messages) and
what only checks (assertions, snapshots) is left as it is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import stretto

PACKAGE = Path(stretto.__file__).parent
PARTS = ("replication", "protocols")
"""The packages whose code is mutated."""

_UNTOUCHED_FUNCTIONS = {"__init__", "metrics", "snapshot", "check_invariants", "__repr__", "__str__"}
_UNTOUCHED_CALLS = {"report", "ignore"}
_BOUNDARIES: dict[type[ast.cmpop], ast.cmpop] = {ast.Lt: ast.LtE(), ast.LtE: ast.Lt(), ast.Gt: ast.GtE(), ast.GtE: ast.Gt()}
_OPPOSITES: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(),
    ast.Is: ast.IsNot(),
    ast.IsNot: ast.Is(),
    ast.In: ast.NotIn(),
    ast.NotIn: ast.In(),
}
_OPPOSITE_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}


class Change(NamedTuple):
    """One generated mutant.

    - `module`, `function`: the qualified name of the function, or of the outermost one around the place;
    - `line`, `last_line`: the place in the module; `old`, `new`: the text there, as it is and as it would be;
    - `nth`: how often the same change of the same text comes before this one in the function;
    - `start`, `end`: offsets in the module's source, in bytes.
    """

    module: str
    function: str
    line: int
    last_line: int
    old: str
    new: str
    nth: int
    start: int
    end: int

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """Names the change, also after the lines have moved."""
        return self.module, self.function, self.old, self.new, self.nth

    @property
    def file(self) -> Path:
        """The file of the module."""
        return _file(self.module)

    def planted(self, source: bytes) -> bytes:
        """The module's source with the change in it."""
        return source[: self.start] + self.new.encode() + source[self.end :]

    def code(self) -> CodeType:
        """The function's code with the change in it."""
        return self._find(compile(self.planted(self.file.read_bytes()), str(self.file), "exec"))

    def original_code(self) -> CodeType:
        """The function's code as it is. It is equal to the code of the function that was imported."""
        return self._find(compile(self.file.read_bytes(), str(self.file), "exec"))

    def _find(self, code: CodeType) -> CodeType:
        inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        found = [one for one in inner if one.co_qualname == self.function and one.co_firstlineno <= self.line]
        if found:
            return found[-1]  # (a property's setter has the name of its getter)
        return next(self._find(candidate) for candidate in inner if self.function.startswith(f"{candidate.co_qualname}."))


def _file(module: str) -> Path:
    return PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")


def changes(parts: tuple[str, ...] = PARTS) -> list[Change]:
    """All generated mutants of these packages, in the order of the source."""
    files = sorted(file for part in parts for file in (PACKAGE / part).rglob("*.py"))
    return [change for file in files for change in changes_in(_module(file), file.read_text(encoding="utf-8"))]


def _module(file: Path) -> str:
    return ".".join((PACKAGE.name, *file.relative_to(PACKAGE).with_suffix("").parts))


def changes_in(module: str, source: str) -> Iterator[Change]:
    """All generated mutants of the functions in a module's source."""
    lines = [0]
    for line in source.encode().splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    for name, function in _functions(ast.parse(source), ""):
        yield from _changes_of(module, name, function, source.encode(), lines)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef) and child.name not in _UNTOUCHED_FUNCTIONS:
            yield f"{prefix}{child.name}", child


def _changes_of(module: str, name: str, function: ast.FunctionDef, source: bytes, lines: list[int]) -> Iterator[Change]:
    counts: dict[tuple[str, str], int] = {}
    seen: set[tuple[int, int, str]] = set()
    for node, new in _mutated_block(function.body, is_whole=True):
        start = lines[node.lineno - 1] + node.col_offset
        end = lines[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        if (start, end, new) in seen:
            continue
        seen.add((start, end, new))
        old = source[start:end].decode()
        nth = counts[old, new] = counts.get((old, new), -1) + 1
        yield Change(module, name, node.lineno, node.end_lineno or node.lineno, old, new, nth, start, end)


_Place = ast.stmt | ast.expr


def _mutated_block(block: list[ast.stmt], is_whole: bool = False) -> Iterator[tuple[_Place, str]]:
    for statement in block:
        yield from _mutated_statement(statement, is_last=is_whole and statement is block[-1])


def _mutated_statement(node: ast.stmt, is_last: bool) -> Iterator[tuple[_Place, str]]:
    if isinstance(node, ast.Assert | ast.Raise) or _only_speaks(node):
        return
    if _only_acts(node):
        yield node, "pass"
    elif isinstance(node, ast.Return):
        if not is_last:
            yield node, ast.unparse(node.value) if isinstance(node.value, ast.Call) else "pass"
        if isinstance(node.value, ast.Call) and not _only_speaks(node.value):
            yield node, "return None"
    elif isinstance(node, ast.If | ast.While):
        yield node.test, f"not ({ast.unparse(node.test)})"
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield from _mutated_statement(child, is_last=False)
        else:
            yield from _mutated_inside(child)


def _only_acts(node: ast.stmt) -> bool:
    """Whether a statement can be left out without leaving a name undefined."""
    if isinstance(node, ast.Assign):
        return not any(isinstance(part, ast.Name) for target in node.targets for part in _targets(target))
    return isinstance(node, ast.AugAssign | ast.Delete | ast.Continue | ast.Break) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    )


def _targets(target: ast.expr) -> list[ast.expr]:
    return target.elts if isinstance(target, ast.Tuple | ast.List) else [target]


def _only_speaks(node: ast.AST) -> bool:
    """Whether this is a call that only tells people something, or a statement with nothing else."""
    if isinstance(node, ast.Expr):
        node = node.value
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _UNTOUCHED_CALLS


def _mutated_inside(node: ast.AST) -> Iterator[tuple[_Place, str]]:
    """The changes of an expression, and of all expressions in it."""
    if _only_speaks(node) or isinstance(node, ast.JoinedStr | ast.arguments):
        return
    if isinstance(node, ast.expr):
        yield from ((node, ast.unparse(new)) for new in _mutated_expression(node))
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield from _mutated_statement(child, is_last=False)
        else:
            yield from _mutated_inside(child)


def _mutated_expression(node: ast.expr) -> Iterator[ast.expr]:
    replaced = partial(_replaced, node)
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            other = _BOUNDARIES.get(type(operator)) or _OPPOSITES[type(operator)]
            yield replaced(ops=[*node.ops[:index], other, *node.ops[index + 1 :]])
    elif isinstance(node, ast.BoolOp):
        yield replaced(op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        for index in range(len(node.values)):
            left = [*node.values[:index], *node.values[index + 1 :]]
            yield replaced(values=left) if len(left) > 1 else left[0]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub) and isinstance(node.right, ast.Constant):
        yield node.left
    elif isinstance(node, ast.IfExp):
        yield replaced(test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _OPPOSITE_CALLS:
        yield replaced(func=ast.Name(_OPPOSITE_CALLS[node.func.id]))


def _replaced(node: ast.expr, **fields: object) -> ast.expr:
    return type(node)(**{**{name: getattr(node, name) for name in node._fields}, **fields})
