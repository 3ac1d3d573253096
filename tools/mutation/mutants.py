"""The faults: what is changed in a syntax tree, and where."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import NamedTuple

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
OPERATIONS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "amin": "amax", "amax": "amin"}
DROPPED = (ast.Expr, ast.Delete, ast.AugAssign, ast.Raise)


class Site(NamedTuple):
    """One place that can be changed, and how."""

    kind: str
    node: ast.stmt | ast.expr  # what is shown of it
    change: Callable[[], None]  # in place


class Mutant(NamedTuple):
    """A changed module."""

    line: int
    kind: str
    before: str
    after: str
    code: ast.Module


def sites(tree: ast.Module) -> list[Site]:
    """Every place of a module that can be changed, in the order of the source."""
    found: list[Site] = []
    for statement in _statements(tree):
        found += _of_statement(statement)
        for node in _expressions(statement):
            found += _of_expression(node, statement)
    return found


def mutant(source: str, index: int) -> Mutant:
    """The module with the place of that number changed."""
    tree = ast.parse(source)
    site = sites(tree)[index]
    before = ast.unparse(site.node)
    site.change()
    ast.fix_missing_locations(tree)
    # what was taken out or wrapped shows nothing of it itself
    after = {"dropped": "pass", "negation": f"not ({before})"}.get(site.kind) or ast.unparse(site.node)
    return Mutant(site.node.lineno, site.kind, before, after, tree)


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that do something: no imports, no docstrings, no bare annotations."""
    for node in ast.walk(tree):
        for body in (getattr(node, "body", None), getattr(node, "orelse", None), getattr(node, "finalbody", None)):
            for statement in body if isinstance(body, list) else ():
                docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
                if not docstring and not isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass):
                    statement.body_of = body  # where it can be taken out
                    yield statement


def _expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    """The expressions of a statement itself; not its annotations, decorators and messages, nor statements inside."""
    if isinstance(statement, ast.Raise | ast.ClassDef):
        return
    if isinstance(statement, ast.FunctionDef):
        todo: list[ast.AST] = [*statement.args.defaults, *filter(None, statement.args.kw_defaults)]
    else:
        todo = [child for name, child in _children(statement) if name != "annotation"]
    while todo:
        node = todo.pop(0)
        if isinstance(node, ast.expr):
            yield node
        todo = [child for _, child in _children(node)] + todo


def _children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else (value,):
            # strict=True of a zip guards programmers, and no run reaches what it refuses
            guard = isinstance(child, ast.keyword) and child.arg == "strict"
            if isinstance(child, ast.AST) and not guard and not isinstance(child, ast.stmt | ast.JoinedStr):
                yield name, child


def _of_statement(node: ast.stmt) -> list[Site]:
    if isinstance(node, DROPPED) or (isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name)):
        body: list[ast.stmt] = node.body_of

        def drop() -> None:
            body[body.index(node)] = ast.Pass()

        return [Site("dropped", node, drop)]
    if isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        return [Site("return None", node, lambda: setattr(node, "value", ast.Constant(None)))]
    return []


def _of_expression(node: ast.expr, statement: ast.stmt) -> list[Site]:
    found = []
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        other = COMPARISONS[type(node.ops[0])]()
        found.append(Site("comparison", node, lambda: node.ops.__setitem__(0, other)))
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        swapped = OPERATIONS[type(node.op)]()
        found.append(Site("arithmetic", node, lambda: setattr(node, "op", swapped)))
    if isinstance(node, ast.BoolOp):
        turned = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        found.append(Site("logic", node, lambda: setattr(node, "op", turned)))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        found.append(Site("sign", node, lambda: setattr(node, "op", ast.UAdd())))
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        found.append(Site("constant", node, lambda: setattr(node, "value", _another(node.value))))
    if isinstance(node, ast.Name) and node.id in NAMES:
        found.append(Site("name", node, lambda: setattr(node, "id", NAMES[node.id])))
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        found.append(Site("name", node, lambda: setattr(node, "attr", NAMES[node.attr])))
    branch = node if isinstance(node, ast.IfExp) else statement
    if isinstance(branch, ast.IfExp) or (isinstance(branch, ast.If | ast.While) and branch.test is node):
        found.append(
            Site("negation", branch.test, lambda: setattr(branch, "test", ast.UnaryOp(ast.Not(), branch.test)))
        )
    return found


def _another(value: float) -> float:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else (value * 2 or 1.0)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
