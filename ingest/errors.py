"""Failures that end a step, as one-line messages for the user. `exit_code` follows the command line's contract."""


class ChainlakeError(Exception):
    """Base: a failure whose message says what was wrong, where, and what to do next."""

    exit_code = 1


class UsageError(ChainlakeError):
    """Wrong usage or configuration: a bad file, a date without a session, a slot that is over."""

    exit_code = 2


class MalformedAnswer(ChainlakeError):
    """The gateway described something in words that make none, and would do so again."""


class BrokerUnreachable(ChainlakeError):
    """The gateway cannot be reached, refuses the client id, or was lost."""

    exit_code = 3
