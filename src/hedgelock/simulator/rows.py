"""Wire shapes of orders, executions, positions and wallets: text numbers and "" as recorded."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

from hedgelock.simulator import adl_rank
from hedgelock.simulator.margin import Exposure, require
from hedgelock.simulator.money import ZERO, grain, text
from hedgelock.simulator.state import Account, Exchange, Order, Position, Row

USD = Decimal("0.00000001")
TPSL_MODES = {
    "TakeProfit": "Full", "StopLoss": "Full", "PartialTakeProfit": "Partial",
    "PartialStopLoss": "Partial", "TrailingStop": "Full",
}  # fmt: skip


def usd(value: Decimal) -> str:
    """A USD amount with at most eight decimals."""
    return text(value.quantize(USD))


def some(value: Decimal) -> str:
    """An optional number: "" for 0."""
    return text(value) if value else ""


def order_row(order: Order, *, pushed: bool = False) -> Row:
    """An order as in order/realtime, or with the stream's extra fields when `pushed`."""
    c = order.contract
    open_qty, filled = c.qty(order.open_lots), c.qty(order.filled_lots)
    price = c.price(order.ticks)
    average = ""
    if order.filled_lots:
        ratio = filled / order.filled_value if c.is_inverse else order.filled_value / filled
        average = text(ratio.quantize(Decimal("0.00000001")))
    fee = sum(order.fees.values(), ZERO)
    trigger, stop = order.trigger, order.stop_type
    attached = bool(order.take_profit or order.stop_loss)
    row: Row = {
        "orderId": order.order_id, "orderLinkId": order.link, "parentOrderLinkId": "",
        "blockTradeId": "", "symbol": c.symbol, "price": text(price), "qty": text(c.qty(order.lots)),
        "side": order.side, "isLeverage": order.is_leverage, "positionIdx": 0,
        "orderStatus": order.status, "createType": order.create_type,
        "cancelType": order.cancel_type, "rejectReason": order.reject_reason,
        "avgPrice": average, "leavesQty": text(open_qty),
        "leavesValue": text(c.value(open_qty, price).quantize(USD)) if open_qty and price else "0",
        "cumExecQty": text(filled), "cumExecValue": text(order.filled_value),
        "cumExecFee": text(fee), "cumFeeDetail": {k: text(v) for k, v in order.fees.items()},
        "timeInForce": order.tif, "orderType": order.kind, "stopOrderType": stop, "orderIv": "",
        "marketUnit": order.market_unit,
        "triggerPrice": text(trigger.price) if trigger else "",
        "takeProfit": some(order.take_profit), "stopLoss": some(order.stop_loss),
        "tpslMode": TPSL_MODES.get(stop, "Full" if attached else ""), "ocoTriggerBy": "",
        "tpLimitPrice": "", "slLimitPrice": "",
        "tpTriggerBy": order.tp_by if order.take_profit else "",
        "slTriggerBy": order.sl_by if order.stop_loss else "",
        "triggerDirection": (1 if trigger.rising else 2) if trigger else 0,
        "triggerBy": trigger.by if trigger else "",
        "lastPriceOnCreated": text(order.last_on_created), "reduceOnly": order.reduce_only,
        "closeOnTrigger": order.close_on_trigger, "placeType": "", "smpType": order.smp,
        "smpGroup": 0, "smpOrderId": order.smp_order_id, "createdTime": str(order.created_ms),
        "updatedTime": str(order.updated_ms),
        "slippageToleranceType": "UNKNOWN", "slippageTolerance": "", "extraFees": "",
    }  # fmt: skip
    if pushed:
        row |= {
            "category": c.category, "closedPnl": text(order.closed_pnl), "feeCurrency": "",
            "rpiTakerAccess": False,
        }  # fmt: skip
    return row


def execution_row(
    x: Exchange,
    order: Order,
    *,
    qty: Decimal,
    price: Decimal,
    value: Decimal,
    fee: Decimal,
    **fields: object,
) -> Row:
    """One execution; `fee` > 0 is paid. Streams and queries send the same row."""
    c = order.contract
    return {
        "category": c.category, "symbol": c.symbol, "orderId": order.order_id,
        "orderLinkId": order.link, "side": order.side, "orderPrice": text(c.price(order.ticks)),
        "orderQty": text(c.qty(order.lots)), "leavesQty": text(c.qty(order.open_lots)),
        "createType": order.create_type, "orderType": order.kind,
        "stopOrderType": order.stop_type or "UNKNOWN",
        "execFee": text(fee), "execId": x.new_id("exec"), "execPrice": text(price),
        "execQty": text(qty), "execType": "Trade", "execValue": text(value),
        "execTime": str(x.now_ms), "feeCurrency": c.settle, "isMaker": False, "feeRate": "0",
        "tradeIv": "", "markIv": "", "markPrice": text(x.market.quotes[c.key].mark),
        "indexPrice": "", "underlyingPrice": "", "blockTradeId": "", "closedSize": "0",
        "extraFees": "", "seq": 0, "execPnl": "0", "isLeverage": order.is_leverage or "0",
        "marketUnit": order.market_unit, **fields,
    }  # fmt: skip


def position_row(x: Exchange, account: Account, position: Position, *, pushed: bool = False) -> Row:
    """A position as in position/list, or as the stream sends it when `pushed`."""
    c = position.contract
    mark = x.market.quotes[c.key].mark
    exposure = Exposure(c, position.size, position.entry_value, mark, position.leverage)
    need = require(exposure)
    number, tier = c.tier(exposure.value)
    flat = not position.size
    average = text(position.average.quantize(USD))
    im, mm = (usd(need.position_im), usd(need.position_mm)) if not flat else ("", "")
    take, stop = (
        some(o.trigger.price) if o is not None and o.trigger is not None else ""
        for o in (position.take_profit, position.stop_loss)
    )
    row: Row = {
        "positionIdx": 0, "riskId": number, "riskLimitValue": text(tier.limit),
        "symbol": c.symbol, "side": "" if flat else "Buy" if position.size > 0 else "Sell",
        "size": text(abs(position.size)), "avgPrice": average,
        "positionValue": "" if flat else usd(exposure.value), "tradeMode": 0,
        "positionStatus": position.status, "autoAddMargin": 0,
        "adlRankIndicator": _adl_light(x, account, exposure), "leverage": text(position.leverage),
        "breakEvenPrice": "" if flat else average, "markPrice": text(mark),
        "liqPrice": _liquidation_price(x, account, exposure), "bustPrice": "",
        "positionBalance": "0", "positionIM": im, "positionIMByMp": im, "positionMM": mm,
        "positionMMByMp": mm, "tpslMode": "Full", "takeProfit": take, "stopLoss": stop,
        "trailingStop": text(position.trailing.trail) if position.trailing else "0",
        "sessionAvgPrice": "", "delta": "", "gamma": "", "vega": "",
        "theta": "", "unrealisedPnl": "" if flat else usd(exposure.upl),
        "curRealisedPnl": text(position.realised), "cumRealisedPnl": text(position.realised_total),
        "createdTime": str(position.created_ms), "updatedTime": str(position.updated_ms),
        "openTime": position.open_ms, "seq": position.seq, "isReduceOnly": False,
        "mmrSysUpdatedTime": "", "leverageSysUpdatedTime": "",
    }  # fmt: skip
    if pushed:
        row["category"] = c.category
        row["entryPrice"] = row.pop("avgPrice")
        row |= {key: row[key] or "0" for key in ("positionIM", "positionMM", "positionValue")}
        row |= {k: row[k] or "0" for k in ("unrealisedPnl", "takeProfit", "stopLoss")}
    return row


def _adl_light(x: Exchange, account: Account, exposure: Exposure) -> int:
    """Where the position stands among the winners; 0 when flat."""
    if not exposure.size:
        return 0
    value_usd = exposure.value * x.price(exposure.contract.settle)
    balance = x.report(account).balance
    return adl_rank.indicator(adl_rank.score(exposure, value_usd=value_usd, balance=balance))


def _liquidation_price(x: Exchange, account: Account, exposure: Exposure) -> str:
    """A cross-margin estimate: this contract alone moves. Never a truth, as on the exchange."""
    if not exposure.size or exposure.contract.is_inverse:
        return ""
    report = x.report(account)
    room = (report.balance - report.maintenance) / abs(exposure.size)
    estimate = exposure.mark - room if exposure.size > 0 else exposure.mark + room
    if not 0 < estimate < Decimal(1999999):
        return ""
    return text(estimate.quantize(exposure.contract.tick))


def wallet_row(x: Exchange, account: Account, *, only: Collection[str] | None = None) -> Row:
    """A unified wallet; `only` limits the coins, empty ones are left out otherwise."""
    report, locked, made = x.report(account), locked_coins(account), _realised(account)
    coins = []
    for coin, s in report.coins.items():
        if only is not None and coin not in only:
            continue
        held = locked.get(coin, ZERO)
        if only is None and not (s.wallet or s.upl or s.order_im or s.owed or held):
            continue
        coins.append(
            {
                "coin": coin, "equity": text(grain(s.equity)), "usdValue": usd(s.equity * s.price),
                "walletBalance": text(s.wallet), "locked": text(held), "spotHedgingQty": "0",
                "borrowAmount": text(s.borrowed) if s.borrowed else "0.000000000000000000",
                "spotBorrow": text(s.owed),
                "accruedInterest": text(account.uta_interest.get(coin, ZERO)),
                "totalOrderIM": usd(s.order_im), "totalPositionIM": usd(s.position_im),
                "totalPositionMM": usd(s.position_mm), "unrealisedPnl": text(grain(s.upl)),
                "cumRealisedPnl": text(made.get(coin, ZERO)), "bonus": "0",
                "marginCollateral": coin in x.scenario.margin.collateral_ratio,
                "collateralSwitch": s.collateral, "colRes": "0",
                "availableToWithdraw": "", "availableToBorrow": "",
            }
        )  # fmt: skip
    im, mm = (
        text(report.im_rate.quantize(Decimal("0.0001"))),
        text(report.mm_rate.quantize(Decimal("0.0001"))),
    )
    initial, maintenance = usd(report.initial), usd(report.maintenance)
    row: Row = {
        "accountType": "UNIFIED", "totalEquity": usd(report.equity),
        "totalWalletBalance": usd(report.wallet), "totalMarginBalance": usd(report.balance),
        "totalAvailableBalance": usd(max(ZERO, report.available)),
        "totalPerpUPL": usd(report.upl), "totalInitialMargin": initial,
        "totalMaintenanceMargin": maintenance, "accountIMRate": im, "accountMMRate": mm,
        "accountIMRateByMp": im, "accountMMRateByMp": mm, "totalInitialMarginByMp": initial,
        "totalMaintenanceMarginByMp": maintenance, "accountLTV": "0",
    }  # fmt: skip
    if x.conditions.wallet_blank:
        row = dict.fromkeys(row, "") | {"accountType": row["accountType"]}
    return row | {"coin": coins}


def _realised(account: Account) -> dict[str, Decimal]:
    """Realised profit of all time per settle coin, net of fees and funding."""
    made: dict[str, Decimal] = {}
    for position in account.positions.values():
        coin = position.contract.settle
        made[coin] = made.get(coin, ZERO) + position.realised_total
    return made


def locked_coins(account: Account) -> dict[str, Decimal]:
    """Coins reserved by resting spot orders."""
    return account.open_orders.locked


def push_wallet(x: Exchange, account: Account, *coins: str) -> None:
    """Queue a wallet push for the coins concerned."""
    x.emit("wallet", account, [wallet_row(x, account, only=coins)])


def push_position(x: Exchange, account: Account, position: Position) -> None:
    """Queue a position push."""
    x.emit("position", account, [position_row(x, account, position, pushed=True)])
