"""The process that stores, commits and recovers, and the messages it exchanges with an engine."""
