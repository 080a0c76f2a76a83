"""Computes the labels of a PromQL expression's result without a Prometheus, and finds mistakes in the expression.

`WrongError` is raised for a series or label that does not exist and for two sides that can never match. Prometheus
returns an empty result for these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import promql_parser as promql

Labels = frozenset[str]
KEEPING = {"topk", "bottomk"}  # aggregations that choose series and leave their labels
SETS = {"and", "or", "unless"}


class WrongError(Exception):
    """An expression with a mistake."""


def parse(expression: str) -> promql.Expr:
    """The syntax tree of an expression, with Grafana's interval variables replaced by 5m."""
    try:
        return promql.parse(re.sub(r"\$__(rate_interval|interval|range)\b", "5m", expression))
    except ValueError as error:
        raise WrongError(f"{expression}: {error}") from error


def selectors(expression: str) -> Iterator[promql.VectorSelector]:
    """Every selector in an expression."""
    found = []

    def note(node):
        if isinstance(node, promql.MatrixSelector):
            found.append(node.vector_selector)
        elif isinstance(node, promql.VectorSelector):
            found.append(node)

    promql.walk(parse(expression), note)
    return iter(found)


def labels_of(expression: str, known: Mapping[str, Labels]) -> Labels | None:
    """The labels that every series of the result has; None for a scalar. `known` is series to their labels."""
    return _Reader(known).read(parse(expression))


class _Reader:
    def __init__(self, known: Mapping[str, Labels]) -> None:
        self._known = known

    def read(self, node) -> Labels | None:
        match node:
            case promql.NumberLiteral() | promql.StringLiteral():
                labels = None
            case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
                labels = self.read(node.expr)
            case promql.MatrixSelector():
                labels = self._selected(node.vector_selector)
            case promql.VectorSelector():
                labels = self._selected(node)
            case promql.AggregateExpr():
                labels = self._aggregated(node)
            case promql.BinaryExpr():
                labels = self._combined(node)
            case promql.Call():
                labels = self._called(node)
        return labels

    def _selected(self, node) -> Labels:
        if node.name not in self._known:
            raise WrongError(f"{node.name}: no such series")
        labels = self._known[node.name]
        self._has(labels, {matcher.name for matcher in node.matchers.matchers}, node)
        return labels

    def _aggregated(self, node) -> Labels:
        labels = self.read(node.expr)
        named = frozenset(node.modifier.labels if node.modifier else ())
        self._has(labels, named, node)
        if str(node.op) in KEEPING:
            return labels
        is_without = node.modifier and node.modifier.type == promql.AggModifierType.Without
        return labels - named if is_without else named

    def _combined(self, node) -> Labels | None:
        left, right = self.read(node.lhs), self.read(node.rhs)
        if left is None or right is None:
            return right if left is None else left
        operation, modifier = str(node.op), node.modifier
        matching = modifier.matching if modifier else None
        named = frozenset(matching.labels if matching else ())
        is_on = matching is not None and matching.type == promql.LabelModifierType.Include
        for side in (left, right):
            self._has(side if is_on else left | right, named, node)
        if not is_on and left - named != right - named and operation != "or":
            raise WrongError(f"{node.prettify()}: never match: {sorted(left)} and {sorted(right)}")
        if operation in SETS:
            return left & right if operation == "or" else left
        if modifier and modifier.card == promql.VectorMatchCardinality.ManyToOne:
            return left | self._added(right, node)
        if modifier and modifier.card == promql.VectorMatchCardinality.OneToMany:
            return right | self._added(left, node)
        return named if is_on else left - named

    def _added(self, one: Labels, node) -> Labels:
        added = frozenset(node.modifier.group_labels or ())
        self._has(one, added, node)
        return added

    def _called(self, node) -> Labels | None:
        name = node.func.name
        if name == "absent":
            (selector,) = node.args
            self._selected(selector)
            return frozenset(m.name for m in selector.matchers.matchers if m.op == promql.MatchOp.Equal)
        read = [labels for argument in node.args if (labels := self.read(argument)) is not None]
        if name in {"vector", "time"}:
            return frozenset() if name == "vector" else None
        if name.startswith("label_") or len(read) != 1:
            raise WrongError(f"{node.prettify()}: not understood")
        if name == "histogram_quantile":
            self._has(read[0], {"le"}, node)
            return read[0] - {"le"}
        return read[0]

    def _has(self, labels: Labels, named: set[str] | Labels, node) -> None:
        if missing := set(named) - labels:
            raise WrongError(f"{node.prettify()}: no label {sorted(missing)}, only {sorted(labels)}")
