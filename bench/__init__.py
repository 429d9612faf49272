"""Measurements that a program makes and a person reads; no test depends on them."""
