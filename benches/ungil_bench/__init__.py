"""Measures executors beside each other: peers, rows, rounds, and what is written of them.

Nothing is imported here: a process that measures its own start imports this package first.
"""
