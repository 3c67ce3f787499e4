"""What keeps tables small and recoverable; one maintainer at a time (`lock`)."""
