"""Values as text: three digits and a unit that suits."""

from __future__ import annotations

_SCALES = {
    "tasks/s": [(1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")],
    "s": [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")],
    "B": [(float(1 << 30), "GiB"), (float(1 << 20), "MiB"), (1024.0, "KiB"), (1.0, "B")],
    "/s": [(1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")],
    "1": [(1.0, "")],
}


def amount(value: float, unit: str) -> str:
    """A value with three digits and a unit that suits it."""
    scales = _SCALES[unit]
    if value == 0:
        return f"0 {'s' if unit == 's' else scales[-1][1]}".strip()
    scale, name = next((each for each in scales if abs(value) >= each[0]), scales[-1])
    return f"{digits(value / scale)} {name}".strip()


def digits(value: float) -> str:
    """Three digits, or all that are before the point."""
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def count_text(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}".replace(",", " ")


def point_text(value: float | int | str, unit: str) -> str:
    """Where on an axis something is."""
    if isinstance(value, str):
        return value
    return count_text(value) if unit == "1" and isinstance(value, int) else amount(value, unit)


def counted(count: int, noun: str) -> str:
    """A number of things."""
    return f"{count_text(count)} {noun}{'' if count == 1 else 's'}"
