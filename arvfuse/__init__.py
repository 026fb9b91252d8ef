"""arvfuse: the writable mount for content-addressed storage."""

__version__ = "0.1.0"
