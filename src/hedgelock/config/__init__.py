"""Configuration: environment and `.env`, checked whole at start, the only reader of `os.environ`.

`load()` returns `Settings` or raises one `ConfigError` that lists every problem at once.
"""

from hedgelock.config.load import load
from hedgelock.config.machine import Ports
from hedgelock.config.reference import Row, describe, env_example, reference_page
from hedgelock.config.settings import Endpoint, Mode, Settings

__all__ = [
    "Endpoint",
    "Mode",
    "Ports",
    "Row",
    "Settings",
    "describe",
    "env_example",
    "load",
    "reference_page",
]
