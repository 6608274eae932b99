"""What one assessment looks at: each table row read once, and the names of what was not there."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.domain.instrument import CollateralTerms, Instrument
from hedgelock.domain.market import MarketTick
from hedgelock.domain.money import ONE
from hedgelock.domain.policy import HedgePolicy
from hedgelock.domain.step import Tables


class Sources:
    """The table rows one assessment uses, each read once, and the names of those it missed."""

    def __init__(self, tables: Tables, hedge: HedgePolicy) -> None:
        """Nothing is read yet."""
        self.hedge = hedge
        self.markets: dict[str, MarketTick | None] = {}
        """Every instrument whose price matters; None = it has none yet."""
        self.missing: dict[str, None] = {}
        """Names of what is needed and not there, in order."""
        self._tables = tables
        self._terms: dict[str, CollateralTerms | None] = {}
        self._instruments: dict[str, Instrument | None] = {}

    def market(self, instrument: str) -> MarketTick | None:
        """Prices of an instrument; missed when there are none."""
        if instrument not in self.markets:
            tick = self.markets[instrument] = self._tables.market(instrument)
            if tick is None:
                self.missing[f"market:{instrument}"] = None
        return self.markets[instrument]

    def pricing(self, coin: str) -> str:
        """The instrument whose index prices `coin`: the hedge's own, else the coin's linear one."""
        hedge = self.hedge
        return hedge.instrument if coin == hedge.coin else f"linear:{coin}{hedge.quote}"

    def price(self, coin: str) -> Decimal | None:
        """Index price in quote, missed when there is none; the quote coin is 1."""
        if coin == self.hedge.quote:
            return ONE
        tick = self.market(self.pricing(coin))
        return None if tick is None else tick.index_price

    def is_priced(self, coin: str) -> bool:
        """Whether `coin` (not the quote) has a price; not missed when it has none."""
        name = self.pricing(coin)
        return self.markets.get(name) is not None or self._tables.market(name) is not None

    def terms(self, coin: str) -> CollateralTerms | None:
        """Collateral ratios of a coin; not missed when there are none."""
        if coin not in self._terms:
            self._terms[coin] = self._tables.terms(coin)
        return self._terms[coin]

    def instrument(self, name: str) -> Instrument | None:
        """Contract terms; missed when there are none."""
        if name not in self._instruments:
            found = self._instruments[name] = self._tables.instrument(name)
            if found is None:
                self.missing[f"instrument:{name}"] = None
        return self._instruments[name]
