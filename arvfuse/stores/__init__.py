"""Adapters of the BlockStore port and the wrappers around them."""
