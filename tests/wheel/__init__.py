"""The wheel, as somebody has it who never saw the repository."""
