"""What a kill would mean for the loan, shown before the operator confirms it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from hedgelock.bus import codec
from hedgelock.cli import words
from hedgelock.cli.listeners import local
from hedgelock.config import Settings
from hedgelock.domain import account
from hedgelock.domain.account import AccountView
from hedgelock.domain.policy import Policy
from hedgelock.domain.risk import RiskAssessment
from hedgelock.errors import BadMessage
from hedgelock.ports import Bus
from hedgelock.telemetry.http import probe

HISTORY = 2_000
"""Records per partition looked through for the account's latest facts."""


class Preview(NamedTuple):
    """The account before the kill. `short` in coins, + = short."""

    account: str
    policy: Policy
    risk: RiskAssessment | None
    short: Decimal


def read(bus: Bus, policy: Policy, name: str) -> Preview:
    """The latest assessment and position on the bus."""
    risk: RiskAssessment | None = None
    view = AccountView()
    for topic in ("risk_state", "account_raw"):
        for record in bus.read(topic, start=-HISTORY):
            if record.key != name:
                continue
            try:
                body = codec.decode(record.value, topic).body
            except BadMessage:
                continue  # in quarantine with its reason
            if isinstance(body, RiskAssessment):
                risk = body
            elif isinstance(body, account.PositionsRead | account.PositionChanged):
                view = account.fold(view, body)
    return Preview(name, policy, risk, -view.position_qty(policy.hedge.instrument))


def unhedged_ltv_fall(preview: Preview) -> Decimal | None:
    """Net LTV after the policy's fall without the hedge; None = infinite or unknown.

    ltv_net(−s) + h·P·(s − c·(1−s)) ÷ (V·(1−s)): the hedge's gain is taken out of it again.
    """
    risk, hedge = preview.risk, preview.policy.hedge
    if risk is None or risk.ltv_net_fall is None or risk.mark_price is None:
        return None
    left = 1 - hedge.stress_fall
    if not risk.counted_value:
        return None
    gain = preview.short * risk.mark_price * (hedge.stress_fall - hedge.cost_rate * left)
    return risk.ltv_net_fall + gain / (risk.counted_value * left)


_CARRIERS = ("hedger", "trade-executor")
"""Who closes and cancels; safety only says so."""
_PAGE_BYTES = 1_000_000
_STEP_RAISED = "2.0"


def hindrances(settings: Settings, account_name: str) -> Iterator[str]:
    """Why nothing would be cancelled or closed: who does it is not there, or is frozen."""
    for name in _CARRIERS:
        port = settings.http.ports(name).metrics
        answers, page = probe(local(settings.http.host), port, "/metrics", bytes_max=_PAGE_BYTES)
        if not answers:
            yield (f"The {name} does not answer on port {port} of this machine: if it does not run "
                   "elsewhere, nothing is cancelled and nothing closes. Act at the exchange's own site.")
        elif f'hedgelock_account_frozen{{account="{account_name}"}} {_STEP_RAISED}' in page:
            yield (f"The {name} has frozen {account_name} after an error: nothing is cancelled and nothing "
                   "closes until it is restarted. Act at the exchange's own site.")


def lines(preview: Preview, *, flatten: bool) -> Iterator[str]:
    """The warning, line by line, in rich markup."""
    hedge, limits, risk = preview.policy.hedge, preview.policy.risk, preview.risk
    kept = (f"close the hedge of {words.coins(preview.short)} {hedge.coin} (reduce-only)" if flatten
            else f"keep the hedge of {words.coins(preview.short)} {hedge.coin} as it is")
    yield f"[bold]Kill {preview.account}[/]: cancel every open order,"
    yield f"  {kept},"
    yield "  then do nothing more, not even protect the loan, until `hedgelock operator resume`."
    if risk is None:
        yield "[bold yellow]The account's LTV is not known here: nothing was assessed yet.[/]"
        return
    fall = words.percent(hedge.stress_fall, 0)
    after = unhedged_ltv_fall(preview) if flatten else risk.ltv_net_fall
    yield f"  LTV now                        {words.percent(risk.ltv):>9}"
    yield f"  LTV after the kill             {words.percent(risk.ltv):>9}"
    yield f"  LTV if the price falls {fall}    {words.percent(risk.ltv_net_fall):>9}"
    yield f"  the same after the kill        {words.percent(after):>9}{_warning(after, preview)}"
    if risk.ltv is not None and risk.index_price is not None:
        price = risk.index_price * risk.ltv / limits.ltv_liquidation
        moved = words.signed_percent(price / risk.index_price - 1)
        yield (f"  with nobody to repay, the loan is liquidated at {hedge.coin} "
               f"{words.money(price)} ({moved})")
    yield f"  inputs are {risk.confidence.name}, assessed {words.moment(risk.assessed_ts_ms)}"


def _warning(ltv: Decimal | None, preview: Preview) -> str:
    if ltv is None or ltv >= preview.policy.risk.ltv_liquidation:
        return "  [bold red]beyond liquidation[/]"
    return "  [yellow]beyond the margin call[/]" if ltv >= preview.policy.risk.ltv_margin_call else ""
