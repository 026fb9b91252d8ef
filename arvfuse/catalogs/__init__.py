"""Adapters of the Catalog port."""
