"""How text on the command line becomes values."""

from __future__ import annotations

import itertools
import os
from typing import Any

from ungil._failures import Failure, describe_exception, describe_value, place

_ITEMS_LIMIT = 10_000_000


def evaluate(text: str, option: str, namespace: dict[str, Any]) -> Any:
    """The value of a Python expression.

    Args:
        text: The expression.
        option: The option that it comes from, for the message.
        namespace: The names that it may use.

    Raises:
        Failure: It is no expression, or it raises.
    """
    try:
        # The user's own text in the user's own program: as safe as the function itself.
        return eval(compile(text.strip(), f"<{option}>", "eval"), dict(namespace))
    except SyntaxError as error:
        raise Failure("items", f"{option} {text!r} is no Python expression: {error.msg}") from None
    except BaseException as error:
        hint = ""
        if isinstance(error, NameError) and error.name in {"true", "false", "null"}:
            hint = " (Python writes True, False and None)"
        elif isinstance(error, NameError):
            hint = " (names are looked up in the function's module)"
        where = f" at {place(error)}" if place(error) and not place(error).startswith("<") else ""
        raise Failure(
            "items", f"{option} {text!r} failed: {describe_exception(error)}{hint}{where}"
        ) from None


def evaluate_items(text: str, namespace: dict[str, Any]) -> list[Any]:
    """The items that a file has, one a line, or that a Python expression gives.

    Args:
        text: The path or the expression.
        namespace: The names that the expression may use.

    Raises:
        Failure: It is neither, or what it gives cannot be iterated.
    """
    if os.path.isfile(text):
        try:
            with open(text, encoding="utf-8-sig") as file:
                lines = file.read().split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(
                "items", f"--items {text} cannot be read as text: {describe_exception(error)}"
            ) from None
        return [line_value(line) for line in lines if line.strip()]
    try:
        value = evaluate(text, "--items", namespace)
    except Failure as failure:
        # An expression that runs and fails is one, whatever it looks like.
        is_no_expression = isinstance(failure.__context__, (SyntaxError, NameError))
        if is_no_expression and _looks_like_a_file(text):
            raise Failure(
                "items", f"--items {text}: there is no such file, and it is no Python expression"
            ) from None
        raise failure from None
    if isinstance(value, (str, bytes)):
        raise Failure(
            "items",
            f"--items gave the text {describe_value(value)}, which would run one task a "
            f"character: write [{describe_value(value)}] for one task",
        )
    try:
        items = list(itertools.islice(value, _ITEMS_LIMIT + 1))
    except BaseException as error:
        if isinstance(error, TypeError) and not hasattr(value, "__iter__"):
            hint = f": for {value} tasks write range({value})" if isinstance(value, int) else ""
            raise Failure(
                "items", f"--items gave {describe_value(value)}, which is not iterable{hint}"
            ) from None
        raise Failure(
            "items", f"--items {text!r} failed while iterating: {describe_exception(error)}"
        ) from None
    if len(items) > _ITEMS_LIMIT:
        raise Failure("items", f"--items gave more than {_ITEMS_LIMIT:,} items: give fewer")
    return items


def _looks_like_a_file(text: str) -> bool:
    return os.sep in text or (" " not in text and "(" not in text and "." in text)


def line_value(line: str) -> Any:
    """A Python literal, or failing that the text itself."""
    import ast

    try:
        return ast.literal_eval(line.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return line
