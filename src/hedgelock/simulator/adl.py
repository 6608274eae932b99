"""Auto-deleveraging: winners are closed, without an order of theirs, at the bankrupt's price."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator import adl_rank, forced
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.margin import Exposure
from hedgelock.simulator.matching import BUY, SELL
from hedgelock.simulator.money import ZERO
from hedgelock.simulator.rows import push_position, push_wallet
from hedgelock.simulator.state import Account, Exchange, Order, Position
from hedgelock.simulator.trading import cancel


def rank(x: Exchange, account: Account, position: Position) -> Decimal:
    """Score of a position among the winners."""
    c = position.contract
    mark = x.market.quotes[c.key].mark
    exposure = Exposure(c, position.size, position.entry_value, mark, position.leverage)
    value_usd = exposure.value * x.price(c.settle)
    return adl_rank.score(exposure, value_usd=value_usd, balance=x.report(account).balance)


def deleverage(x: Exchange, c: Contract, *, losing_long: bool, lots: int, price: Decimal) -> int:
    """Close up to `lots` of the best ranked positions against a losing side; returns how many."""
    winners = [
        (rank(x, account, position), account, position)
        for account in x.accounts.values()
        if (position := account.positions.get(c.key)) is not None
        and (position.size < 0 if losing_long else position.size > 0)
    ]
    done = 0
    for found, account, position in sorted(winners, key=lambda w: (-w[0], w[1].name)):
        if done >= lots or found <= 0:
            break
        part = min(lots - done, int(abs(position.size) / c.lot))
        close_winner(x, account, position, lots=part, price=price)
        done += part
    return done


def close_winner(
    x: Exchange, account: Account, position: Position, *, lots: int, price: Decimal
) -> None:
    """Deleverage `lots` of a position at `price`: AdlTrade, no fee, no order of the account's."""
    c = position.contract
    for order in [o for o in account.open_orders.values() if o.contract is c]:
        cancel(x, account, order, cancel_type="CancelAllBeforeAdl")
    side = SELL if position.size > 0 else BUY
    order = Order(
        x.new_id("order"), "", c, account.name, side, "Market", "IOC", round(price / c.tick), lots,
        x.serial(), x.now_ms, x.now_ms, x.market.quotes[c.key].last, reduce_only=True,
        create_type="CreateByAdl_PassThrough",
    )  # fmt: skip
    forced.carry_out(x, account, position, order, price=price, kind="AdlTrade")
    push_position(x, account, position)
    push_wallet(x, account, c.settle)


def share_lots(position: Position, share: Decimal) -> int:
    """Whole lots that a share 0..1 of a position comes to, at least one."""
    held = abs(position.size) / position.contract.lot
    return max(1, int(held * min(Decimal(1), max(ZERO, share)))) if held else 0
