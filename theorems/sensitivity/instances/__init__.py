"""What the claims of Theorem 4 are judged on."""
