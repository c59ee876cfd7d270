"""What a comparison found, as objects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

__all__ = ["Advice", "CallerDelay", "Estimate", "Measurement", "Report", "StartUp"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimated value.

    Attributes:
        value: The estimate, in the unit of what it estimates.
        low: Lower end of its 95 % interval, ``None`` if there were too few samples for one.
        high: Upper end of its 95 % interval, likewise.
        samples: How many samples it rests on.
    """

    value: float
    low: float | None
    high: float | None
    samples: int

    @classmethod
    def _of(cls, data: Mapping[str, Any] | None) -> Estimate | None:
        if data is None:
            return None
        interval = data["interval"] or {"low": None, "high": None}
        return cls(data["value"], interval["low"], interval["high"], data["samples"])


@dataclass(frozen=True, slots=True)
class StartUp:
    """Time from nothing to workers that answer.

    Attributes:
        first_result_s: Seconds to the first result of a task that does nothing.
        all_workers_s: Seconds until every worker had begun its first task.
        workers: How many workers came up.
    """

    first_result_s: float
    all_workers_s: float
    workers: int


@dataclass(frozen=True, slots=True)
class CallerDelay:
    """How late a tick every 5 ms was in the calling thread.

    Attributes:
        p50_s: Median, in seconds.
        p99_s: 99th percentile, in seconds.
        max_s: The latest, in seconds.
        ticks: How many ticks there were.
    """

    p50_s: float
    p99_s: float
    max_s: float
    ticks: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """One way to run the job, and what was measured of it.

    Attributes:
        engine: Whose executors.
        model: ``"serial"``, ``"threads"``, ``"processes"``, ``"processes-threads"``,
            ``"asyncio"`` or ``"interpreters"``.
        workers: Workers at once.
        threads_per_worker: Threads inside each worker.
        time_s: Seconds for the whole job in an open pool, median over the rounds.
        times_faster: Times faster than serial.
        cpu_cores_used: CPU cores used while the job ran.
        memory_peak_bytes: Peak proportional set size of caller and workers, in bytes.
        cold_start: Start-up in a fresh process.
        warm_start: Start-up of a second pool in the same process.
        caller_delay: How late the calling thread got its turn.
        shares_memory: Whether worker and caller see each other's changes.
        once_time_s: Seconds for the job from nothing to the closed pool, median.
        results: ``"equal"``, ``"different"``, ``"cannot_tell"`` or ``"not_compared"``.
        failure: Why there are no figures, or no more; ``None`` if all went well.
    """

    engine: str
    model: str
    workers: int
    threads_per_worker: int
    time_s: Estimate | None
    times_faster: Estimate | None
    cpu_cores_used: float | None
    memory_peak_bytes: int | None
    cold_start: StartUp | None
    warm_start: StartUp | None
    caller_delay: CallerDelay | None
    shares_memory: bool | None
    once_time_s: Estimate | None
    results: str
    failure: str | None

    @classmethod
    def _of(cls, data: Mapping[str, Any]) -> Measurement:
        setup, failure, sharing = data["setup"], data["failure"], data["sharing"]
        delay = data["caller_delay"]
        return cls(
            engine=setup["engine"],
            model=setup["model"].replace("_", "-"),
            workers=setup["workers"],
            threads_per_worker=setup["threads_per_worker"],
            time_s=Estimate._of(data["time_s"]),
            times_faster=Estimate._of(data["times_faster"]),
            cpu_cores_used=data["cpu_cores_used"],
            memory_peak_bytes=data["memory_peak_bytes"],
            cold_start=StartUp(**data["cold_start"]) if data["cold_start"] else None,
            warm_start=StartUp(**data["warm_start"]) if data["warm_start"] else None,
            caller_delay=CallerDelay(**delay) if delay else None,
            shares_memory=all(sharing.values()) if sharing else None,
            once_time_s=Estimate._of(data["once_time_s"]),
            results=data["agreement"]["state"],
            failure=failure["message"] if failure else None,
        )


@dataclass(frozen=True, slots=True)
class Advice:
    """Which model fits, and how sure that is.

    Attributes:
        choice: The measurement of the model to use.
        fastest: All measurements that are as fast as the fastest.
        certainty: ``"winner"``, ``"tie"``, ``"undecided"`` or ``"alone"``.
        sentence: The advice with its reason.
    """

    choice: Measurement
    fastest: tuple[Measurement, ...]
    certainty: str
    sentence: str


class Report:
    """The result of [`compare`][ungil.compare]. ``print`` shows the table and the sentences.

    Attributes:
        target: The function's name.
        tasks: Calls in one run of the job.
        measurements: Every way the job was run.
        once: Which model fits if the job runs once, start-up included; ``None`` if the budget
            left no time to measure that.
        repeated: Which model fits if the job runs repeatedly in an open pool; ``None`` if
            nothing finished.
        notes: What to know before using the figures.
        data: Everything, as in the JSON file whose schema is ``docs/compare.schema.json``.
    """

    def __init__(self, data: dict[str, Any], text: str) -> None:
        self.data = data
        self.target: str = data["target"]
        self.tasks: int = data["tasks"]
        self.measurements = tuple(Measurement._of(each) for each in data["measurements"])
        self.once = self._advice(data["once"])
        self.repeated = self._advice(data["repeated"])
        self.notes: tuple[str, ...] = tuple(note["message"] for note in data["notes"])
        self._text = text

    def _advice(self, data: Mapping[str, Any] | None) -> Advice | None:
        if data is None:
            return None
        return Advice(
            choice=self.measurements[data["choice"]],
            fastest=tuple(self.measurements[at] for at in data["fastest"]),
            certainty=data["certainty"],
            sentence=data["sentence"],
        )

    def __getitem__(self, model: str) -> Measurement:
        """The fastest measurement of a model, by its name.

        Raises:
            KeyError: The model was not run.
        """
        name = model.replace("_", "-")
        found = [each for each in self.measurements if each.model == name]
        if not found:
            raise KeyError(model)
        return min(found, key=lambda each: each.time_s.value if each.time_s else float("inf"))

    def to_json(self, path: str | PathLike[str] | None = None) -> str:
        """The whole report as JSON.

        Args:
            path: A file to write it to as well.

        Returns:
            The JSON text.

        Raises:
            OSError: The file cannot be written.
        """
        from ungil import __version__

        document = {"schema": "ungil.compare/1", "ungil": __version__, "comparisons": [self.data]}
        text = json.dumps(document, indent=2) + "\n"
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return text

    def __str__(self) -> str:
        return self._text.rstrip()

    def __repr__(self) -> str:
        # What a notebook or the interactive prompt shows.
        return str(self)
