"""Programs for the people who maintain arvfuse."""
