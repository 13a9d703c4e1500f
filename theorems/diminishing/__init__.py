"""Theorem 3, diminishing: what a larger rank of the update still buys."""
