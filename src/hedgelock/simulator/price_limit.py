"""Price limits: how far from mark and index a limit price may be, and what happens beyond.

Derivatives (fact sheet §2.3, rule of May 2026), with X and Y the contract's ratios:

    max buy  = min(mark × (1 + Y), max(index, mark × (1 + X) + max(0, premium)))
    min sell = max(mark × (1 − Y), min(index, mark × (1 − X) + min(0, premium)))

The exchange multiplies the 30 s mean premium by an unpublished coefficient; here it is 1, and
mark − index stands for the mean, because mark is already smoothed. Spot: index × (1 ± X).
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from hedgelock.simulator import api_market
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.matching import BUY
from hedgelock.simulator.money import ONE, ZERO, text
from hedgelock.simulator.params import Params, flag, need
from hedgelock.simulator.state import Account, Event, Exchange, Refused, Row

RATIO_X, RATIO_Y = Decimal("0.01"), Decimal("0.02")
SPOT_RATIO = Decimal("0.01")
PRICE_MAX = Decimal("1999999.8")
PUBLISH_TICKS = 3
CLIPS = {"linear": True, "inverse": True, "spot": False}  # what happens beyond, by default


def band(x: Exchange, c: Contract) -> tuple[Decimal, Decimal]:
    """(highest price to buy at, lowest price to sell at), whole ticks inside the limits."""
    quote = x.market.quotes[c.key]
    mark, index = quote.mark, quote.index
    if c.is_spot:
        buy, sell = index * (ONE + SPOT_RATIO), index * (ONE - SPOT_RATIO)
    else:
        premium = mark - index
        buy = max(index, mark * (ONE + RATIO_X) + max(ZERO, premium))
        sell = min(index, mark * (ONE - RATIO_X) + min(ZERO, premium))
        buy, sell = min(mark * (ONE + RATIO_Y), buy), max(mark * (ONE - RATIO_Y), sell)
    return (
        (buy / c.tick).to_integral_value(ROUND_FLOOR) * c.tick,
        (sell / c.tick).to_integral_value(ROUND_CEILING) * c.tick,
    )


def limited(x: Exchange, a: Account, c: Contract, price: Decimal, *, side: str) -> Decimal:
    """The price at which an order may stand: clipped or refused beyond the limit."""
    if not c.is_spot and not c.tick <= price <= PRICE_MAX:
        raise Refused(110003, "Order price exceeds the allowable range.")
    buy_most, sell_least = band(x, c)
    buying = side == BUY
    if price <= buy_most if buying else price >= sell_least:
        return price
    if a.price_action.get(c.category, CLIPS[c.category]):
        return buy_most if buying else sell_least
    if c.is_spot:
        code, which = (170193, "Buy") if buying else (170194, "Sell")
        word = "higher" if buying else "lower"
        bound = buy_most if buying else sell_least
        raise Refused(code, f"{which} order price cannot be {word} than {text(bound)}USDT.")
    if buying:
        raise Refused(30208, "The order price is higher than the maximum buying price.")
    raise Refused(30209, "The order price is lower than the minimum selling price.")


def price_limit(x: Exchange, params: Params) -> Row:
    """GET market/price-limit; category linear unless given."""
    c = api_market.contract(x, {"category": "linear", **params})
    buy_most, sell_least = band(x, c)
    return {
        "symbol": c.symbol, "buyLmt": text(buy_most), "sellLmt": text(sell_least),
        "ts": str(x.now_ms),
    }  # fmt: skip


def publish(x: Exchange) -> None:
    """Queue a frame of every priceLimit topic that has an audience."""
    for c in x.contracts.values():
        topic = f"priceLimit.{c.symbol}"
        if (c.category, topic) in x.wanted:
            buy_most, sell_least = band(x, c)
            row = {"symbol": c.symbol, "buyLmt": text(buy_most), "sellLmt": text(sell_least)}
            x.outbox.append(Event(topic, "", c.category, x.now_ms, row, kind="snapshot"))


def set_action(x: Exchange, a: Account, params: Params) -> Row:
    """POST account/set-limit-px-action: modifyEnable true clips, false refuses."""
    group = need(params, "category")
    if group not in CLIPS or "modifyEnable" not in params:
        raise Refused(10001, "params error: category or modifyEnable invalid")
    a.price_action[group] = flag(params, "modifyEnable")
    return {}


def behaviour(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/user-setting-config: what happens beyond the price limits.

    The two flags mean opposite things: lpaSpot true clips, lpaPerp true refuses.
    """
    set_to = CLIPS | a.price_action
    return {"lpaSpot": set_to["spot"], "lpaPerp": not set_to["linear"], "deltaEnable": False}
