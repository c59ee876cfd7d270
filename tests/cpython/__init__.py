"""CPython's own tests of ``concurrent.futures``, run with our executors."""
