"""Enough of PromQL to say whether a rule fires on one collection."""

import operator
import re
from collections.abc import Callable, Mapping

import promql_parser as promql

Labels = tuple[tuple[str, str], ...]
Vector = dict[Labels, float]
# By name, the values by their labels.
Samples = Mapping[str, Vector]
ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}


def evaluated(expression: object, samples: Samples, now: float) -> Vector | float:
    """The value of a parsed expression. Raises NotImplementedError for what this cannot evaluate."""
    match expression:
        case promql.NumberLiteral():
            return float(expression.val)
        case promql.ParenExpr():
            return evaluated(expression.expr, samples, now)
        case promql.VectorSelector():
            return {
                labels: value for labels, value in samples.get(expression.name, {}).items() if _fits(expression, labels)
            }
        case promql.Call() if expression.func.name == "time":
            return now
        case promql.Call() if expression.func.name == "absent":
            return {} if evaluated(expression.args[0], samples, now) else {(): 1.0}
        case promql.AggregateExpr() if str(expression.op) == "sum":
            inner = evaluated(expression.expr, samples, now)
            assert isinstance(inner, dict)
            return {(): sum(inner.values())} if inner else {}
        case promql.BinaryExpr():
            left, right = (evaluated(side, samples, now) for side in (expression.lhs, expression.rhs))
            return _combined(str(expression.op), left, right)
    raise NotImplementedError(expression)


def _combined(symbol: str, left: Vector | float, right: Vector | float) -> Vector | float:
    if symbol in ARITHMETIC:
        calculate = ARITHMETIC[symbol]
        if isinstance(left, float) and isinstance(right, float):
            return calculate(left, right)
        keys = left if isinstance(left, dict) else right
        assert isinstance(keys, dict)
        pairs = {key: (_at(left, key), _at(right, key)) for key in keys}
        return {key: calculate(a, b) for key, (a, b) in pairs.items() if a is not None and b is not None}
    assert isinstance(left, dict)
    assert isinstance(right, float)
    return {key: value for key, value in left.items() if COMPARISONS[symbol](value, right)}


def _at(side: Vector | float, key: Labels) -> float | None:
    return side.get(key) if isinstance(side, dict) else side


def _fits(selector: promql.VectorSelector, labels: Labels) -> bool:
    has = dict(labels)
    for matcher in selector.matchers.matchers:
        value, wanted = has.get(matcher.name, ""), matcher.value
        if matcher.op == promql.MatchOp.Equal and value != wanted:
            return False
        if matcher.op == promql.MatchOp.Re and re.fullmatch(wanted, value) is None:
            return False
    return True
