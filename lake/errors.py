"""What can go wrong with the lake, as one-line messages that name the next step."""


class LakeError(Exception):
    """Base of all lake errors; the message is meant for the user."""


class OriginMismatch(LakeError):
    """The lake is bound to another origin than the rows about to be written."""


class LakeMissing(LakeError):
    """There is no lake at the given root."""


class UnusableRoot(LakeError):
    """The given root is none that a lake can be kept at."""


class Damaged(LakeError):
    """Files of the lake are missing, were cut short, or cannot be written."""


class ObjectStoreError(LakeError):
    """The object store cannot be reached, or does not let us do what we need."""


class NewerSchema(LakeError):
    """The lake was written by a newer version of Chainlake."""


class QueryRefused(LakeError):
    """A user's SQL statement was not a read, or DuckDB rejected it."""


class ExtensionMissing(LakeError):
    """An extension of DuckDB can neither be loaded from its wheel nor installed."""
