"""The single mutations of a module: each replaces one piece of its source text, found by the syntax tree.

The rest of the text is unchanged, so the diff shows only the mutation.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: (r"in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
    ast.Is: (r"is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
}
LOGGERS = {"logger", "log", "logging"}
INERT_NAMES = {"__all__", "__slots__"}
BUILTIN_TYPES = {"str", "int", "float", "bytes", "bool", "dict", "list", "tuple", "set"}
NEEDS_PARENTHESES = (ast.BoolOp, ast.IfExp, ast.Lambda, ast.NamedExpr)
STATEMENTS = (ast.stmt, ast.ExceptHandler)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True, slots=True)
class Mutation:
    """One piece of a module's text and its replacement."""

    file: str
    line: int
    begin: int
    """Offsets in the module as UTF-8 bytes."""
    end: int
    old: str
    new: str
    statement: tuple[int, int]
    """First and last line of the statement (or of its head), because a tracer sees only some of its lines."""
    source_line: str
    """The line where the piece begins, stripped; with `file` and `change` the key in the list of equivalents."""

    @property
    def change(self) -> str:
        """The replacement, on one line."""
        return f"{_flat(self.old)} -> {_flat(self.new)}"

    def apply(self, source: str) -> str:
        """Return the mutated module. Raises: ValueError if the syntax tree does not change."""
        raw = source.encode()
        changed = (raw[: self.begin] + self.new.encode() + raw[self.end :]).decode()
        if ast.dump(ast.parse(changed)) == ast.dump(ast.parse(source)):
            raise ValueError(f"{self.file}:{self.line}: {self.change} changes nothing")
        return changed

    def diff(self, source: str) -> str:
        """Return the mutation as a unified diff."""
        before, after = source.splitlines(keepends=True), self.apply(source).splitlines(keepends=True)
        return "".join(difflib.unified_diff(before, after, f"a/{self.file}", f"b/{self.file}"))


def sites(file: str, source: str) -> list[list[Mutation]]:
    """Return the places of a module that can be mutated, each with its alternatives."""
    module = _Module(file, source)
    return [site for statement in ast.parse(source).body for site in module.sites(statement)]


def function_lines(source: str) -> set[int]:
    """Return the lines inside functions, which an import alone does not run."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, FUNCTIONS[:2])]
    return {line for node in functions for line in range(node.body[0].lineno, (node.end_lineno or 0) + 1)}


class _Module:
    def __init__(self, file: str, source: str) -> None:
        self._file = file
        self._raw = source.encode()
        self._lines = [line.decode() for line in self._raw.splitlines()]
        self._starts = [0]
        for line in self._raw.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def sites(self, node: ast.AST, parents: tuple[ast.AST, ...] = ()) -> Iterator[list[Mutation]]:
        if _is_inert(node):
            return
        statement = _head(next(n for n in (node, *reversed(parents)) if isinstance(n, STATEMENTS)))
        found = [self._mutation(piece, new, statement) for piece, new in self._alternatives(node, parents)]
        if found:
            yield found
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns"}:
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self.sites(child, (*parents, node))

    def _mutation(self, piece: ast.expr | ast.stmt, new: str, statement: tuple[int, int]) -> Mutation:
        begin, end = self._span(piece)
        return Mutation(
            self._file, piece.lineno, begin, end, self._raw[begin:end].decode(), new, statement,
            self._lines[piece.lineno - 1].strip(),
        )  # fmt: skip

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._starts[node.lineno - 1] + node.col_offset, self._starts[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.expr | ast.stmt) -> str:
        begin, end = self._span(node)
        return self._raw[begin:end].decode()

    def _operand(self, node: ast.expr) -> str:
        return f"({self._text(node)})" if isinstance(node, NEEDS_PARENTHESES) else self._text(node)

    def _between(self, whole: ast.expr | ast.stmt, left: ast.expr, right: ast.expr, old: str, new: str) -> str:
        """The text of *whole* with the operator between two neighbours exchanged; *old* is a regular expression."""
        begin, end = self._span(whole)
        after, before = self._span(left)[1], self._span(right)[0]
        gap = self._raw[after:before].decode()
        gap = re.sub(rf"(#[^\n]*)|{old}", lambda found: found[1] or new, gap)  # a comment may contain the operator, too
        return self._raw[begin:after].decode() + gap + self._raw[before:end].decode()

    def _alternatives(self, node: ast.AST, parents: tuple[ast.AST, ...]) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
        """Pieces to replace, with what to put there."""
        for kind, made in self._kinds.items():
            if isinstance(node, kind):
                for piece, new in made(self, node, parents):
                    if new != self._text(piece):
                        yield piece, new

    def _compare(self, node: ast.Compare, _: tuple[ast.AST, ...]) -> Iterator[tuple[ast.expr, str]]:
        neighbours = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, neighbours, neighbours[1:], strict=False):
            yield node, self._between(node, left, right, *COMPARISONS[type(operator)])

    def _bool_op(self, node: ast.BoolOp, _: tuple[ast.AST, ...]) -> Iterator[tuple[ast.expr, str]]:
        word, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        operands = [self._operand(value) for value in node.values]
        yield node, f" {other} ".join(operands)
        for index in range(len(operands)):
            yield node, f" {word} ".join(operands[:index] + operands[index + 1 :])

    def _bin_op(self, node: ast.BinOp, parents: tuple[ast.AST, ...]) -> Iterator[tuple[ast.expr, str]]:
        if type(node.op) not in ARITHMETIC or _is_type(node) or _is_text(node):
            return
        if _is_alias(node) and not _in_function(parents):
            return
        old, new = ARITHMETIC[type(node.op)]
        changed = self._between(node, node.left, node.right, re.escape(old), new)
        # These bind more tightly or loosely than what takes their place.
        yield node, f"({changed})" if isinstance(node.op, ast.Pow | ast.BitOr | ast.BitAnd) else changed

    def _aug_assign(self, node: ast.AugAssign, _: tuple[ast.AST, ...]) -> Iterator[tuple[ast.stmt, str]]:
        if type(node.op) in ARITHMETIC:
            old, new = ARITHMETIC[type(node.op)]
            yield node, self._between(node, node.target, node.value, re.escape(old), new)

    def _unary_op(self, node: ast.UnaryOp, _: tuple[ast.AST, ...]) -> Iterator[tuple[ast.expr, str]]:
        if isinstance(node.op, ast.Not):
            yield node, f"({self._text(node.operand)})"

    def _condition(self, node: ast.If | ast.While, _: tuple[ast.AST, ...]) -> Iterator[tuple[ast.expr, str]]:
        if isinstance(node.test, ast.Constant):
            return
        yield from self._negated(node.test)
        yield node.test, "False"
        if isinstance(node, ast.If):  # a `while True` would only wait for the time limit
            yield node.test, "True"

    def _choice(self, node: ast.IfExp, _: tuple[ast.AST, ...]) -> Iterator[tuple[ast.expr, str]]:
        yield from self._negated(node.test)

    def _negated(self, test: ast.expr) -> Iterator[tuple[ast.expr, str]]:
        if not isinstance(test, ast.UnaryOp):  # a `not` is a place of its own
            yield test, f"not ({self._text(test)})"

    def _filter(self, node: ast.comprehension, _: tuple[ast.AST, ...]) -> Iterator[tuple[ast.expr, str]]:
        for test in node.ifs:
            yield test, f"(not ({self._text(test)}))"

    def _constant(self, node: ast.Constant, _: tuple[ast.AST, ...]) -> Iterator[tuple[ast.expr, str]]:
        if isinstance(node.value, int | float) and not isinstance(node.value, bool):
            for step in (1, -1):
                changed = repr(node.value + step)
                yield node, f"({changed})" if changed.startswith("-") else changed

    def _return(self, node: ast.Return, _: tuple[ast.AST, ...]) -> Iterator[tuple[ast.expr, str]]:
        if node.value is not None:  # callers seldom tell False from None
            yield node.value, "True" if ast.unparse(node.value) == "False" else "None"

    def _call(self, node: ast.stmt, parents: tuple[ast.AST, ...]) -> Iterator[tuple[ast.stmt, str]]:
        value = node.value if isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign) else None
        value = value.value if isinstance(value, ast.Await) else value
        if isinstance(value, ast.Call) and _in_function(parents):
            yield node, "pass"

    def _break(self, node: ast.Break, _: tuple[ast.AST, ...]) -> Iterator[tuple[ast.stmt, str]]:
        yield node, "continue"

    def _continue(self, node: ast.Continue, _: tuple[ast.AST, ...]) -> Iterator[tuple[ast.stmt, str]]:
        yield node, "break"

    def _defaults(self, node: ast.arguments, _: tuple[ast.AST, ...]) -> Iterator[tuple[ast.expr, str]]:
        for default in (*node.defaults, *node.kw_defaults):
            yield from self._flipped(default)

    def _field(self, node: ast.AnnAssign, parents: tuple[ast.AST, ...]) -> Iterator[tuple[ast.expr, str]]:
        if parents and isinstance(parents[-1], ast.ClassDef):  # the default argument of a dataclass
            yield from self._flipped(node.value)

    def _flipped(self, default: ast.expr | None) -> Iterator[tuple[ast.expr, str]]:
        if isinstance(default, ast.Constant) and isinstance(default.value, bool):
            yield default, repr(not default.value)
        elif isinstance(default, ast.Constant) and isinstance(default.value, str):
            yield default, repr("" if default.value else "mutant")

    def _except(self, node: ast.ExceptHandler, _: tuple[ast.AST, ...]) -> Iterator[tuple[ast.expr, str]]:
        if isinstance(node.type, ast.Tuple):
            names = [self._text(name) for name in node.type.elts]
            for index in range(len(names)):
                yield node.type, f"({', '.join([*names[:index], *names[index + 1 :], ''])})".replace(", )", ",)")
        elif node.type is not None:
            yield node.type, "()"

    _kinds: dict[type[ast.AST], Callable[..., Iterator[tuple[ast.expr | ast.stmt, str]]]] = {  # noqa: RUF012
        ast.Compare: _compare,
        ast.BoolOp: _bool_op,
        ast.BinOp: _bin_op,
        ast.AugAssign: _aug_assign,
        ast.UnaryOp: _unary_op,
        ast.If: _condition,
        ast.While: _condition,
        ast.IfExp: _choice,
        ast.comprehension: _filter,
        ast.Constant: _constant,
        ast.Return: _return,
        ast.stmt: _call,
        ast.Break: _break,
        ast.Continue: _continue,
        ast.arguments: _defaults,
        ast.AnnAssign: _field,
        ast.ExceptHandler: _except,
    }


def _head(node: ast.AST) -> tuple[int, int]:
    assert isinstance(node, STATEMENTS)
    body = getattr(node, "body", None)
    return node.lineno, max(node.lineno, body[0].lineno - 1) if body else node.end_lineno or node.lineno


def _is_inert(node: ast.AST) -> bool:
    """Where a mutation says nothing of the tests: texts, logs, what only a type checker reads."""
    if isinstance(node, ast.Call):
        return _root(node) in LOGGERS
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) or _is_inert(node.value)
    if isinstance(node, ast.If):
        return ast.unparse(node.test) in {"TYPE_CHECKING", "__name__ == '__main__'"}
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id in INERT_NAMES for target in node.targets)
    # Python 3.11 does not know where the pieces of an f-string stand.
    return isinstance(node, ast.JoinedStr | ast.Assert | ast.pattern)


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Call | ast.Attribute):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_type(node: ast.expr) -> bool:
    """Whether this is a union of types, such as the second argument of isinstance."""
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.BitOr) and (_is_type(node.left) or _is_type(node.right))
    if isinstance(node, ast.Attribute):
        return node.attr[:1].isupper() and not node.attr.isupper()
    if isinstance(node, ast.Name):
        return node.id in BUILTIN_TYPES or (node.id[:1].isupper() and not node.id.isupper())
    return isinstance(node, ast.Constant) and node.value is None


def _is_text(node: ast.BinOp) -> bool:
    """Whether a text is joined or a path put together: another operator would only be a TypeError."""
    return any(
        isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str | bytes))
        for side in (node.left, node.right)
    )


def _is_alias(node: ast.BinOp) -> bool:
    return isinstance(node.op, ast.BitOr) and isinstance(node.left, ast.Subscript)


def _in_function(parents: tuple[ast.AST, ...]) -> bool:
    return any(isinstance(parent, FUNCTIONS) for parent in parents)


def _flat(text: str) -> str:
    return " ".join(text.split())
