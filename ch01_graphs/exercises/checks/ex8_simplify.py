"""Check of exercise 8: simplify an expression."""

from random import Random
from typing import Any

from common.exercises.exercise import Arguments, Case, Exercise


def rewrite_top(expression: Any) -> tuple[Any, bool]:
    """Apply a rule to an expression, but not to its operands; tell whether there was one."""
    if not isinstance(expression, tuple):
        return expression, False
    operator, left, right = expression
    if isinstance(left, int) and isinstance(right, int):
        return (left + right if operator == "+" else left * right), True
    for one, other in ((left, right), (right, left)):
        if operator == "*" and one == 0:
            return 0, True
        if one == (0 if operator == "+" else 1):
            return other, True
    return expression, False


def rewrite_once(expression: Any) -> tuple[Any, bool]:
    """Apply one rule at the first place where one applies; tell whether there was one."""
    simpler, found = rewrite_top(expression)
    for place in (1, 2) if isinstance(simpler, tuple) and not found else ():
        part, found = rewrite_once(simpler[place])
        if found:
            return (*simpler[:place], part, *simpler[place + 1 :]), True
    return simpler, found


def rewrite_to_the_end(expression: Any) -> Any:
    """Apply one rule after the other until none applies."""
    found = True
    while found:
        expression, found = rewrite_once(expression)
    return expression


def simplify_from_the_top(expression: Any) -> Any:
    """Typical mistake: apply the rules to an expression before its operands are simplified."""
    simpler, found = rewrite_top(expression)
    if found:
        return simplify_from_the_top(simpler)
    if not isinstance(simpler, tuple):
        return simpler
    return (simpler[0], *map(simplify_from_the_top, simpler[1:]))


def simplify_without_operands(expression: Any) -> Any:
    """Typical mistake: apply the rules to the whole expression only."""
    return rewrite_top(expression)[0]


def sample_expression(generator: Random, size: int) -> Arguments:
    """Random expression of at most `size` levels."""

    def draw(levels: int) -> Any:
        if levels == 0 or generator.random() < 0.2:
            return generator.choice([0, 1, 1, 2, "x", "y"])
        return (generator.choice("+*"), draw(levels - 1), draw(levels - 1))

    return {"expression": draw(min(size, 4))}


SIMPLIFY = Exercise(
    file="ex8_simplify",
    function="simplify",
    reference=rewrite_to_the_end,
    cases=(
        Case({"expression": "x"}, "an input stays as it is"),
        Case({"expression": ("+", "x", "y")}, "no rule applies"),
        Case({"expression": ("+", 1, 2)}, "constant folding"),
        Case({"expression": ("*", 2, 3)}, "constant folding"),
        Case({"expression": ("+", "x", 0)}, "neutral element of addition"),
        Case({"expression": ("+", 0, "x")}, "neutral element of addition, on the left"),
        Case({"expression": ("*", "x", 1)}, "neutral element of multiplication"),
        Case({"expression": ("*", 0, "x")}, "a product with 0 is 0"),
        Case({"expression": ("+", "x", 1)}, "1 is not neutral in a sum"),
        Case({"expression": ("+", ("*", 1, "x"), "y")}, "a rule applies to an operand"),
        Case({"expression": ("+", ("*", 0, "x"), "y")}, "after the operand is 0, a rule applies to the sum"),
        Case({"expression": ("*", ("+", 1, 1), ("+", ("*", "x", 0), 3))}, "constants appear step by step"),
    ),
    sample=sample_expression,
    hint="Simplify the left and the right operand first, by calling `simplify` itself. Then look at the rules once.",
    mistakes={
        "simplify the operands first: a rule may apply to an expression only after they changed": simplify_from_the_top,
        "the rules apply to every part of the expression, so `simplify` must call itself": simplify_without_operands,
        "0 times an expression is 0, not the expression": lambda expression: product_with_zero(expression),
    },
)


def product_with_zero(expression: Any) -> Any:
    """Typical mistake: treat 0 as the neutral element of the product."""
    if not isinstance(expression, tuple):
        return expression
    operator, left, right = expression[0], product_with_zero(expression[1]), product_with_zero(expression[2])
    if isinstance(left, int) and isinstance(right, int):
        return left + right if operator == "+" else left * right
    for one, other in ((left, right), (right, left)):
        if one == 0 or (operator == "*" and one == 1):
            return other
    return (operator, left, right)
