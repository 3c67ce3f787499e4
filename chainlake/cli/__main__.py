"""``python -m chainlake.cli``."""

from chainlake.cli.app import main

main()
