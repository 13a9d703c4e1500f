"""What the claims of Theorem 5 are judged on."""
