"""The five theorems, and what they share: claims, search, exact arithmetic, reports."""
