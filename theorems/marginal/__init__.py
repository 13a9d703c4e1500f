"""Theorem 5, marginal: what a further example is worth to full and to parameter-efficient fine-tuning."""
