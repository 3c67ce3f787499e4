"""What a person or a schedule starts: steps, the command line, and the Prefect flows."""
