"""Directories as the kernel sees them: trees of collections, projects, by_id, the root."""
