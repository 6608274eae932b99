"""The environment of child processes: ours, with the command line's settings on top."""

from __future__ import annotations

import os

from hedgelock.config.load import show, variables
from hedgelock.config.settings import Settings


def child_environment(settings: Settings) -> dict[str, str]:
    """What a child must see so that `load()` there gives the same settings.

    Only what the command line changed is added: the rest it reads itself, secrets included.
    """
    environment = dict(os.environ)
    for variable in variables():
        if settings.origin(variable.name) != "command line":
            continue
        owner = settings if variable.group is None else getattr(settings, variable.group)
        environment[variable.name] = show(getattr(owner, variable.field))
    return environment
