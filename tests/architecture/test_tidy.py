"""The house rules hold, and each of them notices a planted violation."""

from __future__ import annotations

import pytest
import tidy

pytestmark = pytest.mark.no_cover  # nothing of HedgeLock runs here

DOMAIN = "src/hedgelock/domain/planted.py"
SERVICE = "src/hedgelock/services/planted.py"
TEST = "tests/domain/test_planted.py"

LONGER: dict[str, int] = {
    "src/hedgelock/domain/risk.py": 430,
    "src/hedgelock/services/runner.py": 425,
}
"""What may be longer than asked for, and up to how many lines. Entries may shrink, never grow."""


def findings(rules: tuple[tidy.Rule, ...], file: tidy.File) -> list[str]:
    return [f"{f.path}:{f.line}: {f.text}" for rule in rules for f in rule(file)]


def test_source_is_tidy() -> None:
    """No module of the package breaks a house rule."""
    found = [x for file in tidy.files(tidy.SOURCE) for x in findings(tidy.SOURCE_RULES, file)]
    assert not found, "\n".join(found)


def test_tests_are_tidy() -> None:
    """No test mocks or sleeps, and no helper has a vague name."""
    found = [x for file in tidy.files(tidy.TESTS) for x in findings(tidy.TEST_RULES, file)]
    assert not found, "\n".join(found)


def test_nothing_grows_beyond_reading() -> None:
    """Functions stay within 60 lines and modules within 400, but for those listed above."""
    found = dict(size for file in tidy.files(tidy.SOURCE) for size in tidy.sizes(file))
    problems = tidy.too_long(found, LONGER)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (tidy.no_floats_in_domain, DOMAIN, "x = float('1')"),
        (tidy.no_floats_in_domain, DOMAIN, "x = 0.5"),
        (tidy.pure_domain, DOMAIN, "import time"),
        (tidy.pure_domain, DOMAIN, "from structlog import get_logger"),
        (tidy.pure_domain, DOMAIN, "async def decide(): ..."),
        (tidy.one_clock, SERVICE, "import time\nnow = time.time()"),
        (tidy.one_clock, SERVICE, "from datetime import datetime\nnow = datetime.now()"),
        (tidy.no_chance, SERVICE, "import uuid\nx = uuid.uuid4()"),
        (tidy.no_chance, SERVICE, "import random\nx = random.random()"),
        (tidy.no_chance, SERVICE, "import random\nx = random.Random()"),
        (tidy.no_print, SERVICE, "print('x')"),
        (tidy.one_configuration, SERVICE, "import os\nx = os.environ['X']"),
        (tidy.one_configuration, SERVICE, "import os\nx = os.getenv('X')"),
        (tidy.typed_messages, DOMAIN, "class Fact(Message, frozen=True):\n    rows: dict[str, int]"),
        (tidy.typed_messages, DOMAIN, "class Fact(message.Value):\n    anything: Any | None"),
        (tidy.telling_names, "src/hedgelock/domain/utils.py", ""),
        (tidy.telling_names, "src/hedgelock/common/money.py", ""),
        (tidy.narrow_except, SERVICE, "try:\n    x = 1\nexcept Exception:\n    pass"),
        (tidy.narrow_except, SERVICE, "try:\n    x = 1\nexcept:\n    pass"),
        (tidy.narrow_except, SERVICE, "try:\n    x = 1\nexcept (ValueError, BaseException):\n    pass"),
        (tidy.no_mocks, TEST, "from unittest.mock import Mock"),
        (tidy.no_mocks, TEST, "import unittest.mock"),
        (tidy.no_sleeps, TEST, "import time\ntime.sleep(0.1)"),
        (tidy.no_sleeps, TEST, "import asyncio\nasyncio.sleep(delay)"),
    ],
)
def test_every_rule_notices(rule: tidy.Rule, path: str, text: str) -> None:
    """A guard that finds nothing in a planted violation guards nothing."""
    assert list(rule(tidy.parse(path, text)))


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (tidy.no_floats_in_domain, SERVICE, "x = 0.5"),
        (tidy.no_floats_in_domain, DOMAIN, "x = Decimal('0.5')"),
        (tidy.one_clock, "src/hedgelock/clock.py", "import time\nnow = time.time_ns()"),
        (tidy.one_clock, SERVICE, "import time\nnow = time.monotonic()"),
        (tidy.no_chance, SERVICE, "import random\nx = random.Random(7)"),
        (tidy.one_configuration, "src/hedgelock/config/load.py", "import os\nx = os.environ"),
        (tidy.narrow_except, "src/hedgelock/services/runner.py", "try:\n    x = 1\nexcept Exception:\n    pass"),
        (tidy.no_sleeps, TEST, "import asyncio\nasyncio.sleep(0)"),
        (tidy.no_sleeps, "tests/integration/test_demo.py", "import time\ntime.sleep(0.1)"),
        (tidy.typed_messages, DOMAIN, "class Hold(Struct):\n    boxes: dict[str, int]"),
    ],
)
def test_rules_leave_the_rest_alone(rule: tidy.Rule, path: str, text: str) -> None:
    """A guard that finds everything is switched off by the next reader."""
    assert not list(rule(tidy.parse(path, text)))


def test_long_code_is_noticed() -> None:
    """Too long a function or module is found; a list entry that nobody needs is found as well."""
    text = "def long():\n" + "    x = 1\n" * 400
    found = dict(tidy.sizes(tidy.parse(SERVICE, text)))
    assert found == {SERVICE: 401, f"{SERVICE}::long": 401}
    assert len(tidy.too_long(found, {})) == 2
    assert tidy.too_long(found, {SERVICE: 401, f"{SERVICE}::long": 400}) == [
        f"{SERVICE}::long: 401 lines"
    ]
    assert tidy.too_long({}, {SERVICE: 401}) == [f"{SERVICE}: is short now, drop it from the list"]
