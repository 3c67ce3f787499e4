"""Services of the host: systemd units and launchd plists for an installation's own paths."""
