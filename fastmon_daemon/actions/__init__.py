"""What an operator does: retry, discard, include, replay, purge, reconcile; and the control socket that carries it.

It must not know the command line.
"""
