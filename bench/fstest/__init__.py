"""The parts of the stress program fstest.py."""
