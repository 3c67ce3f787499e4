"""The commands, a module per group. Only `chainlake.cli.app` imports them."""
