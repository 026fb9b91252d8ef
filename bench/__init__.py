"""Programs that measure and demonstrate arvfuse on the machine they run on."""
