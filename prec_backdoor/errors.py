"""The one exception for mistakes of a user: bad flags, bad files, a wrong checkpoint."""


class UserError(ValueError):
    """Says in one line what is wrong, where, and how to mend it; the launchers print it without a traceback."""
