"""What `doctor` finds at the exchange: address, clock, key, contract terms, collateral, the loan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from hedgelock.cli import words
from hedgelock.cli.findings import FAIL, OK, SKIP, WARN, Finding
from hedgelock.cli.listeners import Owner, look
from hedgelock.clock import SystemClock
from hedgelock.errors import VenueError, VenueForbidden
from hedgelock.exchanges.address import LIMIT
from hedgelock.supervisor import ABANDONED_S

if TYPE_CHECKING:
    from hedgelock.config import Settings
    from hedgelock.exchanges.address import Guards
    from hedgelock.ports import Exchange

TIMEOUT_S: Final = 20.0
_OFFSET_WARN_MS: Final = 300
_OFFSET_FAIL_MS: Final = 900
"""Bybit refuses requests stamped 1 s ahead of its clock."""


def examine(settings: Settings) -> list[Finding]:
    """Ask the exchange about every account."""
    if settings.trading_mode.value in ("sim", "paper"):
        sim = settings.sim
        if look("SIM__PORT", sim.host, sim.port).owner is not Owner.OURS:
            return [Finding("exchange", SKIP, "the built-in simulator does not run",
                            "`hedgelock run` starts it; `hedgelock simulate` starts it alone")]
    return asyncio.run(_all(settings))


async def _all(settings: Settings) -> list[Finding]:
    from hedgelock import app

    clock = SystemClock()
    guards = app.make_guards(settings, clock)
    found: list[Finding] = []
    for name in settings.account_names():
        found += _before_asking(settings, name, guards)
        if found[-1].level == FAIL:
            continue  # whoever asks during a stand-off prolongs it
        exchange = app.make_exchange(settings, name, clock, guards=guards)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                found += [one async for one in _one(exchange, settings, name)]
        except TimeoutError:
            found.append(Finding("exchange", FAIL, f"no answer within {TIMEOUT_S:.0f} s",
                                 "is the network up? is the address right? `hedgelock config url`"))
        except VenueForbidden as error:
            found.append(Finding("key", FAIL, f"account {name}: {error}",
                                 "make a key that can read and trade, and cannot withdraw"))
        except VenueError as error:
            found.append(Finding("exchange", FAIL, f"account {name}: {error}",
                                 f"is {settings.endpoint(name).rest_url} reachable from here?"))
        finally:
            await exchange.close()
    return found


def _before_asking(settings: Settings, name: str, guards: Guards) -> list[Finding]:
    """Who uses the key on this machine, and whether the address may be asked at all."""
    from hedgelock import app

    found = []
    lock = app.key_lock(settings, name)
    held = lock.holder()
    if held is None:
        found.append(Finding("key lock", OK, f"no engine on this machine uses {name}'s key"))
    elif held.owner == app.key_owner(settings):
        found.append(Finding("key lock", OK, f"account {name}: held by our engine, {held}"))
    else:
        found.append(Finding("key lock", FAIL, f"account {name}'s key is in use by {held}",
                             "stop that one, or make a key of its own for this one"))
    endpoint = settings.endpoint(name)
    address = guards.of(endpoint.rest_url, endpoint.api_key.get_secret_value()).address
    left_s = round(address.stand_off_ms() / 1000)
    if left_s:
        found.append(Finding(
            "address", FAIL, f"{address.host} refused this network address (HTTP 403: too many"
            f" requests): nobody asks it for {left_s} s more, whatever is restarted",
            "wait; open sockets go on. Who else asks from this address? Fewer programs, or another one",
        ))
    else:
        found.append(Finding("address", OK, f"{address.host} may be asked {LIMIT} times in 5 s, by"
                             " all HedgeLocks of this machine together"))
    return found


async def _one(exchange: Exchange, settings: Settings, name: str) -> AsyncIterator[Finding]:
    endpoint = settings.endpoint(name)
    yield _clock(await exchange.clock_offset_ms(), endpoint.rest_url)
    await exchange.connect()
    yield Finding("key", OK, f"account {name}: accepted, may trade, cannot withdraw")
    for text in exchange.warnings:
        yield Finding("key", WARN, f"account {name}: {text.partition(':')[0]}",
                      text.partition(":")[2].strip())
    yield _dcp(getattr(exchange, "dcp_window_s", None), name,
               wanted_s=_wanted_dcp_s(settings, name))
    hedge = settings.policy(name).hedge
    for item in await exchange.read_instruments([hedge.instrument, hedge.spot_instrument]):
        tiers = f", {len(item.tiers)} margin tiers" if item.tiers else ""
        bad = item.instrument == hedge.instrument and not item.tiers
        yield Finding("contract", FAIL if bad else OK,
                      f"{item.instrument}: step {words.plain(item.lot_size)} {item.base}, taker fee "
                      f"{words.percent(item.taker_fee, 3)}{tiers}",
                      "without margin tiers no hedge can be sized: is the symbol right?" if bad else "")
    if not exchange.capabilities.loans:
        yield Finding("collateral", WARN, f"MODE={settings.trading_mode.value} has no loans: LTV and "
                      "repayment cannot be shown here", "MODE=testnet or MODE=sim has them")
        return
    for terms in await exchange.read_collateral_terms([hedge.coin]):
        ratio = terms.loan_tiers[0].ratio if terms.loan_tiers else None
        yield Finding("collateral", OK if terms.loan_tiers else FAIL,
                      f"{terms.coin}: the loan counts {words.percent(ratio, 0)} of it"
                      + (f" (in {len(terms.loan_tiers)} tiers)" if len(terms.loan_tiers) > 1 else ""),
                      "" if terms.loan_tiers else "this coin is no collateral for loans here")
    loan = await exchange.read_loan()
    owed = ", ".join(f"{words.money(d.qty, 2)} {d.coin}" for d in loan.debts) or "nothing"
    yield Finding("loan", OK, f"account {name} owes {owed}, LTV {words.percent(loan.ltv)}")


def _wanted_dcp_s(settings: Settings, name: str) -> int:
    """The window that the account's policy asks for; 0 = none."""
    from hedgelock import app

    return app.dcp_window_s(settings.policy(name))


def _dcp(window_s: int | None, name: str, *, wanted_s: int) -> Finding:
    """Who cancels resting orders when HedgeLock is gone."""
    ours = (f"our own watchdog takes back what opens when the engine stays away for {ABANDONED_S:.0f} s"
            " (hedgelock run)")
    if not wanted_s:
        return Finding("dead man", OK, f"account {name}: {ours}; the exchange's own switch is left"
                       " alone, for it would cancel the protective stop too")
    if window_s is None:
        return Finding("dead man", OK, f"account {name}: {ours}; the exchange has no switch for it"
                       " (Bybit enables disconnect-cancel-all for institutions)")
    return Finding("dead man", OK, f"account {name}: the exchange cancels our orders {window_s} s"
                   f" after our last socket is gone; {ours}")


def _clock(offset_ms: int, address: str) -> Finding:
    text = f"{address} is {abs(offset_ms)} ms {'ahead of' if offset_ms > 0 else 'behind'} this machine"
    todo = "set the clock: timedatectl set-ntp true"
    if abs(offset_ms) >= _OFFSET_FAIL_MS:
        return Finding("clock", FAIL, f"{text}: it refuses requests 1 s ahead of it", todo)
    return Finding("clock", WARN if abs(offset_ms) >= _OFFSET_WARN_MS else OK, text,
                   todo if abs(offset_ms) >= _OFFSET_WARN_MS else "")
