"""What stops a gateway."""

from ingest.errors import UsageError


class GatewayError(UsageError, ValueError):
    """The gateway cannot be set up or started; one line says what was wrong, where, and the next step."""
