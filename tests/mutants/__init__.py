"""Whether the tests notice when the core is wrong: `make mutants`, or `python -m tests.mutants`."""
