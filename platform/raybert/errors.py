"""The errors that are a person's to mend: jobs print them and exit with 2."""


class UserError(Exception):
    """A mistake in settings, paths or resources; the message says what, where and what is right."""


class InvalidContent(UserError):
    """Input that turns out broken on the way: the message names the file and the place in it."""
