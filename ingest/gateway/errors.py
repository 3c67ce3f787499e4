"""The one exception of this package."""


class GatewayError(ValueError):
    """A gateway that cannot be built or started as asked: bad options, a bad replay file, a port in use.

    The message is one line that says what was wrong, where, and what to do next.
    """
