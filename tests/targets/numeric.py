"""A function that returns arrays."""

from __future__ import annotations

from typing import Any

import numpy


def arrays(item: int) -> dict[str, Any]:
    values = numpy.arange(4.0) * item
    values[1] = numpy.nan
    return {"values": values, "sum": values.sum(), "when": numpy.datetime64("NaT", "s")}


# The first call prepares much inside NumPy; no task should have to.
arrays(0)
