"""An order of the simulated exchange, and the open ones of an account with their sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.matching import BUY
from hedgelock.simulator.money import ZERO

ACTIVE_STATUSES = frozenset({"New", "PartiallyFilled"})
OPEN_STATUSES = ACTIVE_STATUSES | {"Untriggered"}


@dataclass(frozen=True, slots=True)
class Trigger:
    """What wakes a conditional order: the price of kind `by` reaching `price`."""

    price: Decimal
    rising: bool  # True: wakes at or above the price, False: at or below
    by: str = "LastPrice"  # LastPrice, MarkPrice or IndexPrice


@dataclass(slots=True)
class Order:
    """An order, in integer ticks and lots; `ticks` of a market order is its slippage bound."""

    order_id: str
    link: str
    contract: Contract
    account: str
    side: str
    kind: str  # Market or Limit
    tif: str
    ticks: int
    lots: int  # of a conditional order that closes the whole position: 0 until it is triggered
    number: int
    created_ms: int
    updated_ms: int
    last_on_created: Decimal
    reduce_only: bool = False
    close_on_trigger: bool = False
    status: str = "New"
    cancel_type: str = "UNKNOWN"
    reject_reason: str = "EC_NoError"
    create_type: str = "CreateByUser"
    market_unit: str = ""
    is_leverage: str = ""
    filled_lots: int = 0
    filled_value: Decimal = ZERO
    fees: dict[str, Decimal] = field(default_factory=dict)
    received_ns: int = 0
    closed_pnl: Decimal = ZERO  # net of fees, of what it closed
    trigger: Trigger | None = None
    stop_type: str = ""  # Stop, TakeProfit, StopLoss, TrailingStop, Partial… of the first two
    closes_all: bool = False  # quantity follows the position
    trail: Decimal = ZERO  # distance of a trailing stop from the best price since it was active
    active_price: Decimal = ZERO  # where trailing begins, 0 = it has begun
    smp: str = "None"  # what happens when it would meet an order of its own account
    smp_order_id: str = ""
    slippage: Decimal | None = None  # bound of a market order, fraction of the best price
    take_profit: Decimal = ZERO  # attached: set on the position when this order fills, 0 = none
    stop_loss: Decimal = ZERO
    tp_by: str = "LastPrice"
    sl_by: str = "LastPrice"

    @property
    def open_lots(self) -> int:
        """Lots still to be filled; 0 once closed."""
        return self.lots - self.filled_lots if self.status in OPEN_STATUSES else 0

    @property
    def signed_lots(self) -> int:
        """Open lots, + for buys."""
        return self.open_lots if self.side == BUY else -self.open_lots

    @property
    def only_reduces(self) -> bool:
        """Whether it may only shrink a position, and so needs no margin."""
        return self.reduce_only or self.close_on_trigger


@dataclass(slots=True)
class Crowd:
    """An account's open orders of one contract."""

    active: dict[str, Order] = field(default_factory=dict)
    stops: dict[str, Order] = field(default_factory=dict)
    reducing: dict[str, Order] = field(default_factory=dict)  # active and reduce-only
    buying: int = 0  # open lots of active orders that may add exposure
    selling: int = 0


class OpenOrders:
    """Open orders by id in their order of arrival, with sums that never need a scan."""

    def __init__(self) -> None:
        self.by_contract: dict[str, Crowd] = {}
        self.locked: dict[str, Decimal] = {}  # coins reserved by active spot orders
        self._orders: dict[str, Order] = {}
        self._counted: dict[str, tuple[str, int, Decimal]] = {}

    def __len__(self) -> int:
        return len(self._orders)

    def __iter__(self) -> Iterator[str]:
        return iter(self._orders)

    def __contains__(self, order_id: object) -> bool:
        return order_id in self._orders

    def get(self, order_id: str) -> Order | None:
        """The open order of that id."""
        return self._orders.get(order_id)

    def values(self) -> list[Order]:
        """All of them, oldest first."""
        return list(self._orders.values())

    def crowd(self, contract: Contract) -> Crowd:
        """Those of one contract."""
        found = self.by_contract.get(contract.key)
        if found is None:
            found = self.by_contract[contract.key] = Crowd()
        return found

    def sync(self, order: Order) -> None:
        """Take an order's present state into the sums; a closed one leaves."""
        crowd, order_id = self.crowd(order.contract), order.order_id
        self._uncount(crowd, order_id)
        if order.status not in OPEN_STATUSES:
            self._orders.pop(order_id, None)
            for group in (crowd.active, crowd.stops, crowd.reducing):
                group.pop(order_id, None)
            return
        self._orders[order_id] = order
        if order.status == "Untriggered":
            crowd.stops[order_id] = order
            return
        crowd.stops.pop(order_id, None)
        crowd.active[order_id] = order
        if order.only_reduces:
            crowd.reducing[order_id] = order
        else:
            self._count(crowd, order)

    def _count(self, crowd: Crowd, order: Order) -> None:
        c, lots = order.contract, order.open_lots
        if not c.is_spot:
            self._counted[order.order_id] = ("", order.signed_lots, ZERO)
            if order.side == BUY:
                crowd.buying += lots
            else:
                crowd.selling += lots
            return
        coin, coins = c.base, c.qty(lots)
        if order.side == BUY:
            coin, coins = c.quote, coins * c.price(order.ticks)
        self._counted[order.order_id] = (coin, 0, coins)
        self.locked[coin] = self.locked.get(coin, ZERO) + coins

    def _uncount(self, crowd: Crowd, order_id: str) -> None:
        coin, signed_lots, coins = self._counted.pop(order_id, ("", 0, ZERO))
        if signed_lots > 0:
            crowd.buying -= signed_lots
        else:
            crowd.selling += signed_lots
        if coin:
            self.locked[coin] -= coins
            if not self.locked[coin]:
                del self.locked[coin]
