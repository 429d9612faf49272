"""Operator actions: retry, discard, include, replay, purge, reconcile; and the control socket that carries them."""
