"""What a person sees on the terminal: tables, notes, progress, results. Only `chainlake.cli` imports it."""
