"""The mutants of a module: each has one changed expression or statement."""

from __future__ import annotations

import ast
import difflib
from collections import Counter
from collections.abc import Collection, Iterator
from copy import copy
from typing import Any, Final, NamedTuple

from mutants.tables import EQUIVALENT
from tiers import PACKAGE, ROOT

OPERATORS: Final[dict[type[ast.AST], Any]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
}  # fmt: skip
#: Comparisons that are negated by the other operator.
NEGATED: Final = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
SWAPPED: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
#: Imports, types, messages and assertions have no mutants.
SKIPPED: Final = (ast.Assert, ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.arg)


class Mutant(NamedTuple):
    """A change of a module: the bytes from ``start`` to ``end`` are replaced."""

    module: str
    function: str
    before: str
    after: str
    start: int
    end: int
    place: int

    def __str__(self) -> str:
        """Return the name: a change that a function has several times ends with its number."""
        name = f"{self.module} {self.function}: {self.before} -> {self.after}"
        return name if self.place == 1 else f"{name} #{self.place}"

    def apply(self, source: bytes) -> bytes:
        """Return the changed source."""
        return source[: self.start] + self.after.encode() + source[self.end :]

    def make_diff(self) -> str:
        """Return the change as a diff."""
        source = (ROOT / PACKAGE / self.module).read_bytes()
        old, new = (text.decode().splitlines(keepends=True) for text in (source, self.apply(source)))
        return "".join(difflib.unified_diff(old, new, self.module, self.module, n=2))


def change_expression(node: ast.AST) -> Iterator[Any]:
    """Yield the expressions that may replace one, as nodes or as text."""
    match node:
        case ast.Compare(ops=operators):
            for index, operator in enumerate(operators):
                changed = copy(node)
                changed.ops = [*operators[:index], OPERATORS[type(operator)](), *operators[index + 1 :]]
                yield changed
        case ast.BoolOp() | ast.BinOp() if type(node.op) in OPERATORS:
            operation: Any = copy(node)
            operation.op = OPERATORS[type(node.op)]()
            yield operation
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Constant(value=bool(value)):
            yield str(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield repr(value + 1)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords) if name[0].islower():
            if name in SWAPPED:
                yield ast.Call(ast.Name(SWAPPED[name]), arguments, keywords)
            if name in {"min", "max"} and not keywords and len(arguments) > 1:
                # An argument dropped, of two: the other one remains.
                yield from arguments
            yield from (
                ast.Call(node.func, arguments, [row for row in keywords if row != other])
                for other in keywords
                # Zipped rows have equal lengths anyway.
                if other.arg != "strict"
            )


def change_statement(node: ast.AST, *, last: bool) -> Iterator[str]:
    """Yield the statements that may replace one; the ``last`` one of a function returns anyway."""
    match node:
        case ast.Continue():
            yield "break"
        case ast.Return() if not last:
            yield "pass"
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "pass"
        case ast.For() | ast.If(orelse=[]) if not last:
            yield "return"


def list_changes(node: ast.AST, function: str = "") -> Iterator[tuple[str, ast.AST, Any]]:
    """Yield the changes below a node: the name of the function, the replaced node, and what replaces it."""
    if isinstance(node, SKIPPED) or (isinstance(node, ast.Expr) and ast.unparse(node).startswith("LOG.")):
        return
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".lstrip(".")
    # A number of a module is a fact or a choice: a test that repeats it proves nothing.
    if function or not isinstance(node, ast.Constant):
        yield from ((function, node, changed) for changed in change_expression(node))
    for field, value in ast.iter_fields(node):
        children = [child for child in (value if isinstance(value, list) else [value]) if isinstance(child, ast.AST)]
        for place, child in enumerate(children if field not in {"annotation", "returns", "decorator_list"} else ()):
            yield from list_changes(child, function)
            last = isinstance(node, ast.FunctionDef) and place == len(children) - 1
            yield from ((function, child, text) for text in change_statement(child, last=last) if function)
            is_negated = isinstance(child, ast.UnaryOp) or isinstance(getattr(child, "ops", [None])[0], NEGATED)
            if field in {"test", "ifs"} and not is_negated and ast.unparse(child) != "TYPE_CHECKING":
                yield function, child, f"(not ({ast.unparse(child)}))"


def list_mutants(module: str, source: bytes, known: Collection[str] = EQUIVALENT) -> Iterator[Mutant]:
    """Yield the mutants of a module, without those that are known to change nothing."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    names: Counter[tuple[str, str, str]] = Counter()
    node: Any
    for function, node, changed in list_changes(ast.parse(source)):
        after = changed if isinstance(changed, str) else f"({ast.unparse(changed)})"
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        names[function, ast.unparse(node), after] += 1
        place = names[function, ast.unparse(node), after]
        mutant = Mutant(module, function, ast.unparse(node), after, start, end, place)
        if str(mutant) not in known:
            yield mutant
