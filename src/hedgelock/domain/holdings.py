"""What the executor itself knows of the account's coins and positions, beside the hedger.

It reads the same facts as the hedger and keeps of them only what its own limit needs: the short may
not exceed C + b, collateral plus pocket coins. Nothing here trusts a number of the strategy.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from hedgelock.domain.account import (
    LoanRead,
    Position,
    PositionChanged,
    PositionsRead,
    WalletRead,
)
from hedgelock.domain.money import ZERO

Coins = tuple[tuple[str, Decimal], ...]


class Held(Struct, frozen=True, array_like=True):
    """One position; `qty` as the venue counts it (inverse: USD), + = long. `seen_ms`: our clock."""

    instrument: str
    qty: Decimal
    seq: int
    seen_ms: int


class Holdings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Positions, locked collateral and pocket coins as last read; `…asked_ms` 0 = never."""

    positions: tuple[Held, ...] = ()
    positions_asked_ms: int = 0
    collateral: Coins = ()
    collateral_asked_ms: int = 0
    coins: Coins = ()
    coins_asked_ms: int = 0

    @property
    def is_complete(self) -> bool:
        """All three were read at least once."""
        return bool(self.positions_asked_ms and self.collateral_asked_ms and self.coins_asked_ms)

    def coins_of(self, coin: str) -> Decimal:
        """C + b: what is locked with the loan and what the trading pocket owns, coins ≥ 0."""
        return sum((q for name, q in (*self.collateral, *self.coins) if name == coin), ZERO)


HoldingFact = WalletRead | LoanRead | PositionsRead | PositionChanged


def folded(known: Holdings, fact: HoldingFact) -> Holdings:
    """`known` with a fact taken in; older or repeated ones change nothing."""
    match fact:
        case WalletRead():
            if fact.ts_requested_ms <= known.coins_asked_ms:
                return known
            owned = tuple((c.coin, c.wallet_qty) for c in fact.coins if c.wallet_qty > 0)
            return replace(known, coins=owned, coins_asked_ms=fact.ts_requested_ms)
        case LoanRead():
            if fact.ts_requested_ms <= known.collateral_asked_ms:
                return known
            locked = tuple((c.coin, c.qty) for c in fact.collateral if c.qty)
            return replace(known, collateral=locked, collateral_asked_ms=fact.ts_requested_ms)
        case PositionsRead():
            return _positions_read(known, fact)
    return _position_changed(known, fact)


def _positions_read(known: Holdings, fact: PositionsRead) -> Holdings:
    asked_ms = fact.ts_requested_ms
    if asked_ms <= known.positions_asked_ms:
        return known
    read = {p.instrument: _held(p, asked_ms) for p in fact.positions}
    for held in known.positions:
        listed = read.get(held.instrument)
        # A push may have overtaken this read; where it lists nothing, only time can tell.
        is_later = held.seq > listed.seq if listed else held.seen_ms >= asked_ms
        if is_later:
            read[held.instrument] = held
    return replace(
        known, positions=tuple(read[name] for name in sorted(read)), positions_asked_ms=asked_ms
    )


def _position_changed(known: Holdings, fact: PositionChanged) -> Holdings:
    new = _held(fact.position, fact.ts_seen_ms)
    old = next((p for p in known.positions if p.instrument == new.instrument), None)
    if new.seq <= old.seq if old else fact.ts_seen_ms < known.positions_asked_ms:
        return known
    others = tuple(p for p in known.positions if p is not old)
    return replace(known, positions=(*others, new))


def _held(position: Position, seen_ms: int) -> Held:
    return Held(position.instrument, position.position_qty, position.seq, seen_ms)
