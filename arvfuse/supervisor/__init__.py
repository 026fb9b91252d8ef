"""Composition roots: the supervisor, the engine, the backend process."""
