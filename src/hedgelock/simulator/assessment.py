"""Margin reports remembered by what they were made from, since orders ask for the same one often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hedgelock.simulator.margin import Exposure, MarginReport, assess

KEPT = 2  # an order asks about the pocket before and after it


@dataclass(slots=True)
class Assessments:
    """The last margin reports of one account."""

    _known: list[tuple[Any, MarginReport]] = field(default_factory=list)

    def assess(
        self, wallets: Mapping[str, Decimal], exposures: Sequence[Exposure], **given: Any
    ) -> MarginReport:
        """`margin.assess`, not computed again while everything it reads is equal.

        Arguments that can change in place are compared with a copy of what they were.
        """
        fixed = {k: v.copy() if isinstance(v, dict | set) else v for k, v in given.items()}
        facts = (wallets, exposures, fixed)
        for known, report in self._known:
            if known == facts:
                return report
        report = assess(wallets, exposures, **given)
        self._known = [(facts, report), *self._known[: KEPT - 1]]
        return report
