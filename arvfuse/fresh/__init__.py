"""What every node that the kernel sees is built on: freshness, use counts, attributes, answers that have to wait."""
