"""Theorem 4, sensitivity: what a disturbance of the data costs, and how much of it a method can take back."""
