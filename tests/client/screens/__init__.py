"""Whole screens of hand-made snapshots: what the terminal shows, exactly, with its styles.

`python -m tests.client.screens` writes the expected ones anew, into the files beside this one: read the difference.
"""
