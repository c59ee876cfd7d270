//! The columns of figures: what they are called, what they mean, and what stands in them.

use ungil_compare::Model;
use ungil_compare::comparison::Measurement;

use crate::text::figure::Figure;

/// One column of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Seconds for the whole job in an open pool.
    Time,
    /// Times faster than serial.
    TimesFaster,
    /// CPU cores used.
    CpuCores,
    /// Peak memory of caller and workers.
    Memory,
    /// Time to the first result.
    StartUp,
    /// Time to start one more worker.
    PerWorker,
    /// How late the caller gets its turn.
    CallerDelay,
    /// Whether caller and workers share memory.
    Sharing,
}

impl Column {
    /// All columns, from left to right.
    pub const ALL: [Column; 8] = [
        Column::Time,
        Column::TimesFaster,
        Column::CpuCores,
        Column::Memory,
        Column::StartUp,
        Column::PerWorker,
        Column::CallerDelay,
        Column::Sharing,
    ];

    /// Upper and lower line of the heading.
    pub fn heading(self) -> [&'static str; 2] {
        match self {
            Column::Time => ["", "time"],
            Column::TimesFaster => ["", "x serial"],
            Column::CpuCores => ["CPU", "cores"],
            Column::Memory => ["", "memory"],
            Column::StartUp => ["", "start-up"],
            Column::PerWorker => ["per", "worker"],
            Column::CallerDelay => ["caller", "delay"],
            Column::Sharing => ["shares", "memory"],
        }
    }

    /// The heading in one line.
    pub fn name(self) -> String {
        self.heading().join(" ").trim_start().to_owned()
    }

    /// What the figures of the column mean.
    pub fn definition(self) -> &'static str {
        match self {
            Column::Time => "the whole job in an open pool, median",
            Column::TimesFaster => "times as fast as serial, from ratios within rounds",
            Column::CpuCores => "CPU time of all processes, divided by the time",
            Column::Memory => "peak proportional set size of caller and workers together",
            Column::StartUp => {
                "from nothing to the first result of an empty task, in a fresh process"
            }
            Column::PerWorker => {
                "time to start all workers in a warm process, divided by their number"
            }
            Column::CallerDelay => {
                "99 of 100 ticks of the calling thread, one every 5 ms, were at most this late"
            }
            Column::Sharing => "whether caller and workers see each other's changes",
        }
    }

    /// Words that need a line of their own if they occur.
    pub fn words(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Column::Sharing => &[
                (TO_WORKER, "workers see the caller's changes, not the other way round"),
                (TO_CALLER, "the caller sees the workers' changes, not the other way round"),
            ],
            _ => &[],
        }
    }

    /// What was measured; `None` if it was not.
    pub fn figure(self, measurement: &Measurement) -> Option<Figure> {
        match self {
            Column::Time => Figure::estimated_duration(&measurement.time_s?),
            Column::TimesFaster => {
                let figure = Figure::estimated_times(&measurement.times_faster?)?;
                // Serial is compared with itself.
                let is_unit = measurement.setup.model == Model::Serial;
                Some(if is_unit { Figure::word(&figure.value) } else { figure })
            }
            Column::CpuCores => Figure::ratio(measurement.cpu_cores_used?),
            Column::Memory => Some(Figure::bytes(measurement.memory_peak_bytes?)),
            Column::StartUp => Figure::duration(measurement.cold_start?.first_result_s),
            Column::PerWorker => {
                let start = measurement.warm_start?;
                Figure::duration(start.all_workers_s / start.workers as f64)
            }
            Column::CallerDelay => Figure::duration(measurement.caller_delay?.p99_s),
            Column::Sharing => {
                let sharing = measurement.sharing?;
                Some(Figure::word(match (sharing.caller_sees_worker, sharing.worker_sees_caller) {
                    (true, true) => "yes",
                    (false, false) => "no",
                    (false, true) => TO_WORKER,
                    (true, false) => TO_CALLER,
                }))
            }
        }
    }
}

const TO_WORKER: &str = "to worker";
const TO_CALLER: &str = "to caller";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use ungil_compare::message::{Sharing, StartUp};

    fn value(column: Column, measurement: &Measurement) -> String {
        column.figure(measurement).map_or(String::new(), |figure| figure.value)
    }

    #[test]
    fn every_column_reads_its_own_figure() {
        let processes = &fixture::comparison().measurements[2];
        let values = Column::ALL.map(|column| value(column, processes));
        assert_eq!(
            values,
            ["78.1 ms", "1.94x", "1.97", "58.1 MB", "38.2 ms", "1.45 ms", "412 us", "no"]
        );
    }

    #[test]
    fn sharing_is_told_by_direction() {
        let mut measurement = fixture::comparison().measurements[1].clone();
        let cases = [
            (true, true, "yes"),
            (false, false, "no"),
            (true, false, "to caller"),
            (false, true, "to worker"),
        ];
        for (caller_sees_worker, worker_sees_caller, word) in cases {
            measurement.sharing = Some(Sharing { caller_sees_worker, worker_sees_caller });
            assert_eq!(value(Column::Sharing, &measurement), word);
        }
    }

    #[test]
    fn no_workers_have_no_time_each() {
        let mut measurement = fixture::comparison().measurements[1].clone();
        measurement.warm_start =
            Some(StartUp { first_result_s: 0.0, all_workers_s: 0.1, workers: 0 });
        assert_eq!(Column::PerWorker.figure(&measurement), None);
    }
}
