"""How the kernel talks to us."""
