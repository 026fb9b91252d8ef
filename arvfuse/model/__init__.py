"""Pure values and rules: no I/O, threads, clock or logging."""
