"""The contract of executors, written once and run for threads and every kind of process."""
