"""NautilusTrader over minute bars with the LTV ladder as a strategy; it has neither loan nor funding.

Runs in a virtual environment of its own (`bench.backtest`): bars of one path come as a .npy file of
closes; the last line printed is "<seconds> <orders>".

usage: nautilus_ladder.py closes.npy debt
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pandas as pd
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import Venue
from nautilus_trader.model.objects import Money
from nautilus_trader.persistence.wranglers import BarDataWrangler
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.trading.strategy import Strategy

INSTRUMENT = TestInstrumentProvider.btcusdt_perp_binance()
BARS = BarType.from_str(f"{INSTRUMENT.id}-1-MINUTE-LAST-EXTERNAL")
BAND = 0.05


class Ladder(Strategy):
    """CAUTION .02 coins, DANGER half a coin, CRITICAL one."""

    def __init__(self, debt: float) -> None:
        super().__init__()
        self.debt, self.held, self.orders = debt, 0.0, 0

    def on_start(self) -> None:
        """Listen to bars."""
        self.subscribe_bars(BARS)

    def on_bar(self, bar: Bar) -> None:
        """Hedge to the target of this LTV, outside a band."""
        ltv = self.debt / float(bar.close)
        target = 0.02 if ltv >= 0.65 else 0.0
        if ltv >= 0.80:
            target = 0.5 if ltv < 0.90 else 1.0
        step = target - self.held
        if abs(step) >= BAND:
            side = OrderSide.SELL if step > 0 else OrderSide.BUY
            order = self.order_factory.market(INSTRUMENT.id, side, INSTRUMENT.make_qty(abs(step)))
            self.submit_order(order)
            self.held, self.orders = target, self.orders + 1


def main(path: str, debt: float) -> None:
    """Time the run alone, not the making of bars."""
    close = np.load(path)
    opens = np.concatenate([close[:1], close[:-1]])
    frame = pd.DataFrame(
        {"open": opens, "high": np.maximum(opens, close) * 1.0003,
         "low": np.minimum(opens, close) * 0.9997, "close": close, "volume": 1.0},
        index=pd.date_range("2024-01-01", periods=len(close), freq="1min", tz="UTC"),
    )
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(Venue("BINANCE"), OmsType.NETTING, AccountType.MARGIN, [Money(1_000_000, USDT)])
    engine.add_instrument(INSTRUMENT)
    engine.add_data(BarDataWrangler(BARS, INSTRUMENT).process(frame))
    ladder = Ladder(debt)
    engine.add_strategy(ladder)
    began = time.perf_counter()
    engine.run()
    print(f"{time.perf_counter() - began:.4f} {ladder.orders}")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
