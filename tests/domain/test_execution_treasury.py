"""The life of treasury actions, told as tables: what happens → stage, due effects.

`*` marks terminal, `?` unknown. Effects: T transfer, L loan action, t and l the questions about them.
"""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from domain.execution_world import T0, D, Desk, Market, kinds, safety, treasury
from hedgelock.domain.effect import (
    LoanAnswer,
    Outcome,
    QueryLoanAction,
    SendLoanAction,
    SendTransfer,
    TransferAnswer,
)
from hedgelock.domain.loan_execution import transfer_id
from hedgelock.domain.message import Message, Restored
from hedgelock.domain.safety import SafetyMode
from hedgelock.domain.treasury import Pocket, TreasuryKind

WORDS = {
    "SendTransfer": "T", "SendLoanAction": "L", "QueryTransfer": "t", "QueryLoanAction": "l",
}
OUTCOMES = {outcome.value: outcome for outcome in Outcome}
QUESTIONS = (Outcome.ABSENT, Outcome.QUERY_FAILED)
LONG = {"expires_ts_ms": T0 + 60_000}
K = TreasuryKind


def transfer_answer(desk: Desk, outcome: Outcome, number: int = 50, **more: Any) -> TransferAnswer:
    """What the venue says of an action's transfer half."""
    intent_id = f"hedger:main:{number}.0"
    fields: dict[str, Any] = {
        "account": "main", "intent_id": intent_id, "outcome": outcome,
        "transfer_id": desk.memory.actions[intent_id].transfer_id, "ts_seen_ms": desk.now_ms,
        "retry_at_ms": desk.now_ms + 300, "is_query": outcome in QUESTIONS,
    }
    return TransferAnswer(**{**fields, **more})


def loan_answer(desk: Desk, outcome: Outcome, number: int = 50, **more: Any) -> LoanAnswer:
    """What the venue says of an action's loan half."""
    fields: dict[str, Any] = {
        "account": "main", "intent_id": f"hedger:main:{number}.0", "outcome": outcome,
        "ts_seen_ms": desk.now_ms, "retry_at_ms": desk.now_ms + 300,
        "is_query": outcome in QUESTIONS,
    }
    return LoanAnswer(**{**fields, **more})


class Teller:
    """Plays a table against a desk."""

    def __init__(self, kind: TreasuryKind = K.REPAY, **action: Any) -> None:
        self.desk = Desk()
        self.action = treasury(kind, **action)

    def message(self, words: list[str]) -> Message:
        """The message that a row's words stand for."""
        match words:
            case ["start"]:
                return self.action
            case ["restored"]:
                return Restored(now_ms=self.desk.now_ms)
            case ["halt" | "kill" as mode]:
                found = SafetyMode.HALTED if mode == "halt" else SafetyMode.KILLED
                self.desk.tables.safeties = safety(found, version=2)
                return self.desk.tables.safeties
            case ["transfer", outcome]:
                return transfer_answer(self.desk, OUTCOMES[outcome])
            case ["transfer?", outcome]:
                return transfer_answer(self.desk, OUTCOMES[outcome], is_query=True)
            case ["loan?", outcome, *reference]:
                return loan_answer(
                    self.desk, OUTCOMES[outcome], is_query=True,
                    reference=reference[0] if reference else "",
                )
            case ["loan", outcome, *reference]:
                return loan_answer(
                    self.desk, OUTCOMES[outcome], reference=reference[0] if reference else ""
                )
            case _:
                raise AssertionError(words)

    def play(self, table: str) -> None:
        """Play every row and compare."""
        for number, line in enumerate(table.strip().splitlines(), 1):
            what, stage, effects = (cell.strip() for cell in line.split("|"))
            if what.startswith("+"):
                found = self.desk.tick(int(what[1:]))
            else:
                found = self.desk.feed(self.message(what.split()))
            told = self.desk.action()
            got = told.stage.value + "*" * told.is_terminal + "?" * told.is_unknown
            due = "".join(WORDS[word] for word in kinds(found).split()) or "-"
            assert (got, due) == (stage, effects), f"row {number}: {line.strip()}"


STORIES: dict[str, tuple[TreasuryKind, dict[str, Any], str]] = {
    "repay: transfer, then loan": (K.REPAY, {}, """
        start                       | started             | T
        transfer done               | transferred         | L
        loan done r1                | done*               | -
        loan done r1                | done*               | -
        transfer done               | done*               | -
        +60000                      | done*               | -
    """),
    "repay from FUND": (K.REPAY, {"transfer_amount": D(0)}, """
        start                       | started             | L
        transfer done               | started             | -
        loan done r1                | done*               | -
    """),
    "borrow: loan, then transfer": (K.BORROW, {}, """
        start                       | started             | L
        transfer done               | started             | -
        loan done r1                | loan_done           | T
        transfer done               | done*               | -
    """),
    "borrow into FUND": (K.BORROW, {"transfer_amount": D(0)}, """
        start                       | started             | L
        loan done r1                | done*               | -
    """),
    "repay with collateral": (K.REPAY_WITH_COLLATERAL, {}, """
        start                       | started             | L
        loan done                   | done*               | -
    """),
    "transfer only": (K.TRANSFER_TO_FUND, {}, """
        start                       | started             | T
        loan done                   | started             | -
        transfer done               | done*               | -
    """),
    "both are asked about while the venue processes them": (K.REPAY, LONG, """
        start                       | started             | T
        transfer accepted           | started             | -
        transfer accepted           | started             | -
        +2000                       | started             | t
        transfer? accepted          | started             | -
        +2000                       | started             | t
        transfer query_failed       | started             | -
        +3999                       | started             | -
        +1                          | started             | t
        transfer done               | transferred         | L
        loan accepted r1            | transferred         | -
        +2000                       | transferred         | l
        loan done r1                | done*               | -
    """),
    "the transfer is refused": (K.REPAY, {}, """
        start                       | started             | T
        transfer refused            | failed*             | -
    """),
    "the repayment is refused after the transfer": (K.REPAY, {}, """
        start                       | started             | T
        transfer done               | transferred         | L
        loan refused                | failed*             | -
    """),
    "the borrowing fails": (K.BORROW, {}, """
        start                       | started             | L
        loan refused                | failed*             | -
    """),
    "the transfer after a borrowing fails": (K.BORROW, {}, """
        start                       | started             | L
        loan done r1                | loan_done           | T
        transfer refused            | failed*             | -
    """),
    "the venue's book says it failed": (K.REPAY, {"transfer_amount": D(0)}, """
        start                       | started             | L
        loan accepted r1            | started             | -
        +2000                       | started             | l
        loan? refused r1            | failed*             | -
    """),
    "busy: again when the venue says": (K.REPAY, {"transfer_amount": D(0)}, """
        start                       | started             | L
        loan busy                   | started             | -
        loan busy                   | started             | -
        +299                        | started             | -
        +1                          | started             | L
        loan done r1                | done*               | -
    """),
    "busy until it is too late": (K.REPAY, {"transfer_amount": D(0), "expires_ts_ms": T0 + 200}, """
        start                       | started             | L
        loan busy                   | started             | -
        +200                        | failed*             | -
    """),
    "a transfer in doubt is sent again with its id": (K.TRANSFER_TO_FUND, {}, """
        start                       | started             | T
        transfer doubtful           | started?            | t
        transfer absent             | started             | T
        transfer duplicate          | started?            | t
        transfer done               | done*               | -
    """),
    "doubt upon doubt: sent ever later": (K.TRANSFER_TO_FUND, {}, """
        start                       | started             | T
        transfer doubtful           | started?            | t
        transfer absent             | started             | T
        transfer doubtful           | started?            | t
        transfer absent             | started?            | -
        +250                        | started             | T
        transfer doubtful           | started?            | t
        transfer absent             | started?            | -
        +250                        | started?            | -
        +250                        | started             | T
    """),
    "a transfer whose state the venue does not know": (K.TRANSFER_TO_FUND, {}, """
        start                       | started             | T
        transfer doubtful           | started?            | t
        transfer? doubtful          | started?            | -
        +2000                       | started?            | t
        transfer? busy              | started?            | -
        +4000                       | started?            | t
        transfer done               | done*               | -
    """),
    "a transfer refused after a doubt": (K.TRANSFER_TO_FUND, {}, """
        start                       | started             | T
        transfer doubtful           | started?            | t
        transfer absent             | started             | T
        transfer refused            | started?            | t
        transfer absent             | started?            | -
        +2000                       | started?            | t
        transfer absent             | failed*             | -
    """),
    "a transfer refused after a doubt, and done all the same": (K.TRANSFER_TO_FUND, {}, """
        start                       | started             | T
        transfer doubtful           | started?            | t
        transfer absent             | started             | T
        transfer refused            | started?            | t
        transfer done               | done*               | -
    """),
    "a duplicate transfer that is nowhere to be found": (K.TRANSFER_TO_FUND, {}, """
        start                       | started             | T
        transfer duplicate          | started?            | t
        transfer absent             | started?            | -
        +59999                      | started?            | t
        transfer absent             | started?            | -
        +30000                      | started?            | t
        transfer absent             | failed*             | -
    """),
    "a processing transfer that vanishes": (K.TRANSFER_TO_FUND, {}, """
        start                       | started             | T
        transfer accepted           | started             | -
        transfer duplicate          | started             | -
        +2000                       | started             | t
        transfer absent             | started             | -
        +60000                      | started             | t
        transfer absent             | failed*             | -
    """),
    "a loan action in doubt is not repeated before the history must know": (
        K.REPAY, {"transfer_amount": D(0)}, """
        start                       | started             | L
        loan doubtful               | started?            | l
        loan absent                 | started?            | -
        +1999                       | started?            | -
        +1                          | started?            | l
        loan absent                 | started             | L
        loan done r1                | done*               | -
    """),
    "a loan action in doubt, found": (K.REPAY, {"transfer_amount": D(0)}, """
        start                       | started             | L
        loan doubtful               | started?            | l
        loan doubtful               | started?            | -
        loan? query_failed          | started?            | -
        +2000                       | started?            | l
        loan done r1                | done*               | -
    """),
    "a loan action in doubt, too late to repeat": (K.REPAY, {"transfer_amount": D(0)}, """
        start                       | started             | L
        +4900                       | started             | -
        loan doubtful               | started?            | l
        loan absent                 | started?            | -
        +2000                       | started?            | l
        loan absent                 | started?            | -
        +100                        | started?            | l
        loan absent                 | failed*             | -
    """),
    "a loan action refused after a doubt": (K.REPAY, {**LONG, "transfer_amount": D(0)}, """
        start                       | started             | L
        loan doubtful               | started?            | l
        +1                          | started?            | -
        loan query_failed           | started?            | -
        +2000                       | started?            | l
        loan absent                 | started             | L
        loan refused                | started?            | l
        loan absent                 | started?            | -
        +2000                       | started?            | l
        loan absent                 | failed*             | -
    """),
    "after a restart: asked, and there": (K.REPAY, {}, """
        start                       | started             | T
        restored                    | started?            | t
        restored                    | started?            | -
        transfer done               | transferred         | L
        +10                         | transferred         | -
        restored                    | transferred?        | l
        loan done r1                | done*               | -
        +10                         | done*               | -
        restored                    | done*               | -
    """),
    "after a restart: asked, not there, late enough": (K.REPAY, {"transfer_amount": D(0)}, """
        start                       | started             | L
        +1500                       | started             | -
        restored                    | started?            | l
        loan absent                 | started?            | -
        +1000                       | started?            | l
        loan absent                 | started             | L
        loan done r1                | done*               | -
    """),
    "no answer at all": (K.REPAY, {**LONG, "transfer_amount": D(0)}, """
        start                       | started             | L
        +39999                      | started             | -
        +1                          | started?            | l
        loan absent                 | started?            | -
        +1999                       | started?            | l
        +39999                      | started?            | -
        +1                          | started?            | l
        loan absent                 | started?            | -
        +2000                       | started?            | l
        loan absent                 | failed*             | -
    """),
    "halted between the halves of a repayment: it goes on": (K.REPAY, {}, """
        start                       | started             | T
        halt                        | started             | -
        transfer done               | transferred         | L
    """),
    "killed between the halves": (K.REPAY, {}, """
        start                       | started             | T
        kill                        | started             | -
        transfer done               | failed*             | -
    """),
    "killed while a loan action is in doubt": (K.REPAY, {"transfer_amount": D(0)}, """
        start                       | started             | L
        loan doubtful               | started?            | l
        kill                        | started?            | -
        +2000                       | started?            | -
        loan query_failed           | started?            | -
        +2000                       | started?            | l
        loan absent                 | started?            | -
        +4000                       | started?            | l
        loan absent                 | failed*             | -
    """),
    "too late for the second half": (K.REPAY, {}, """
        start                       | started             | T
        +5000                       | started             | -
        transfer done               | failed*             | -
    """),
}


@pytest.mark.parametrize("story", STORIES)
def test_story(story: str) -> None:
    """Each table tells one life; stage and effects must be as told, row by row."""
    kind, action, table = STORIES[story]
    Teller(kind, **action).play(table)


def test_what_is_told_of_a_failure_includes_what_moved() -> None:
    """A repayment that fails after its transfer states the transfer and the venue's reason."""
    market = Market()
    market.venue.faults.extend(["", "refused"])
    market.run(treasury())
    told = market.action()
    assert (told.moved_amount, told.loan_amount) == (1500, 0)
    assert "110007" in told.text


def test_a_refused_action_is_told_once() -> None:
    """A refusal is terminal, says why and has no effect; delivered again it stays so."""
    desk = Desk()
    assert desk.feed(treasury(expires_ts_ms=T0), treasury(expires_ts_ms=T0)) == []
    assert len(desk.said) == 1
    assert desk.action().text == "expired"


@pytest.mark.parametrize(
    ("kind", "source", "target", "amount"),
    [
        (K.REPAY, Pocket.UNIFIED, Pocket.FUND, "1500"),
        (K.TRANSFER_TO_FUND, Pocket.UNIFIED, Pocket.FUND, "2000"),
        (K.TRANSFER_TO_UNIFIED, Pocket.FUND, Pocket.UNIFIED, "2000"),
        (K.BORROW, Pocket.FUND, Pocket.UNIFIED, "1500"),
    ],
)
def test_transfers_go_the_right_way(
    kind: TreasuryKind, source: Pocket, target: Pocket, amount: str
) -> None:
    """Repaying fills FUND, borrowing empties it; the amount is the transfer's, not the loan's."""
    market = Market()
    only = kind in (K.TRANSFER_TO_FUND, K.TRANSFER_TO_UNIFIED)
    market.run(treasury(kind, transfer_amount=D(0) if only else D(1500)))
    (sent,) = [e for e in market.effects if isinstance(e, SendTransfer)]
    assert (sent.source, sent.target, sent.amount) == (source, target, D(amount))
    assert sent.expires_ts_ms == T0 + 5_000
    assert sent.protective == (kind in (K.REPAY, K.TRANSFER_TO_UNIFIED))


def test_loan_actions_carry_what_was_decided() -> None:
    """Kind, coin, amount and the coin to sell come from the action; the deadline goes along."""
    market = Market()
    market.run(treasury(K.REPAY_WITH_COLLATERAL))
    (sent,) = market.effects
    assert isinstance(sent, SendLoanAction)
    assert (sent.kind_of, sent.coin, sent.amount, sent.collateral_coin) == (
        K.REPAY_WITH_COLLATERAL, "USDT", D(2000), "BTC"
    )
    assert sent.expires_ts_ms == T0 + 5_000


def test_the_history_is_searched_from_the_first_send() -> None:
    """A repeated action is searched from its first send on: either may be the one that happened."""
    teller = Teller(K.REPAY, transfer_amount=D(0))
    teller.play("""
        start                       | started             | L
        loan doubtful               | started?            | l
        +2000                       | started?            | -
        loan query_failed           | started?            | -
        +2000                       | started?            | l
        loan absent                 | started             | L
        loan doubtful               | started?            | l
    """)
    asked = [e for e in teller.desk.effects if isinstance(e, QueryLoanAction)]
    assert {e.since_ts_ms for e in asked} == {T0}


def test_one_loan_action_per_coin_at_a_time() -> None:
    """The second waits for the first, whatever it is; another coin does not."""
    desk = Desk()
    later = {"transfer_amount": D(0)}
    found = desk.feed(
        treasury(K.REPAY, 1, **later), treasury(K.BORROW, 2, **later),
        treasury(K.REPAY, 3, coin="USDC", **later),
    )
    assert [e.intent_id for e in found] == ["hedger:main:1.0", "hedger:main:3.0"]  # type: ignore[union-attr]
    (sent,) = desk.feed(loan_answer(desk, Outcome.DONE, 1, reference="r1"))
    assert isinstance(sent, SendLoanAction)
    assert sent.intent_id == "hedger:main:2.0"


def test_a_loan_action_that_waited_too_long_fails() -> None:
    """Waiting for the coin ends at the deadline."""
    desk = Desk()
    later = {"transfer_amount": D(0)}
    desk.feed(treasury(K.REPAY, 1, **later), treasury(K.REPAY, 2, **later))
    assert desk.until_ms == T0 + 5_000
    desk.tick(5_000)
    told = desk.action(2)
    assert (told.is_terminal, told.text) == (True, "expired")


def two_alike() -> Desk:
    """Two equal repayments, one done as r1, the other in doubt and asked about."""
    desk = Desk()
    later = {"transfer_amount": D(0)}
    desk.feed(treasury(K.REPAY, 1, **later))
    desk.feed(loan_answer(desk, Outcome.DONE, 1, reference="r1"))
    desk.feed(treasury(K.REPAY, 2, **later))
    (asked,) = desk.feed(loan_answer(desk, Outcome.DOUBTFUL, 2))
    assert isinstance(asked, QueryLoanAction)
    assert asked.known_references == ("r1",)
    return desk


def test_the_row_of_another_action_proves_nothing() -> None:
    """A reference that belongs to an earlier action of ours leaves the later one open."""
    desk = two_alike()
    desk.feed(loan_answer(desk, Outcome.DONE, 2, reference="r1", is_query=True))
    assert desk.action(2).is_unknown
    assert kinds(desk.tick(2_000)) == "QueryLoanAction"
    desk.feed(loan_answer(desk, Outcome.DONE, 2, reference="r2"))
    assert desk.action(2).loan_amount == 2000


def test_a_history_that_shows_only_the_other_ends_after_a_while() -> None:
    """Asked until a minute past the deadline, it fails and says that it may have happened."""
    desk = two_alike()
    for _ in range(10):
        desk.feed(loan_answer(desk, Outcome.DONE, 2, reference="r1"))
        desk.feed(loan_answer(desk, Outcome.DONE, 2, reference="r1"))
        desk.tick(10_000)
    told = desk.action(2)
    assert (told.is_terminal, told.loan_amount) == (True, 0)
    assert "may have happened" in told.text
    before = desk.memory
    desk.feed(loan_answer(desk, Outcome.DONE, 2, reference="r1"))
    assert desk.memory == before


@pytest.mark.parametrize("kind", [K.REPAY, K.BORROW, K.REPAY_WITH_COLLATERAL])
def test_a_loan_action_that_arrives_late_happens_once(kind: TreasuryKind) -> None:
    """A request that was given up and arrives after the first question is not sent again."""
    market = Market()
    market.venue.faults.append("late")
    market.run(treasury(kind, transfer_amount=D(0), **LONG))
    for _ in range(40):
        market.venue.now_ms = market.now_ms + 250
        market.venue.arrive()
        market.wait(250)
    assert len(market.venue.loans) == 1
    assert market.action().loan_amount == 2000


def test_answers_for_others_are_ignored() -> None:
    """An answer of an unknown action, or with another transfer's id, changes nothing."""
    desk = Desk()
    desk.feed(treasury())
    before = desk.memory
    desk.feed(loan_answer(desk, Outcome.DONE, 77))
    desk.feed(transfer_answer(desk, Outcome.DONE, transfer_id="another"))
    assert desk.memory == before


def test_answers_older_than_the_last_send_are_ignored() -> None:
    """An answer seen before the last send belongs to the send before."""
    teller = Teller(K.REPAY, transfer_amount=D(0))
    teller.play("""
        start                       | started             | L
        loan busy                   | started             | -
        +300                        | started             | L
    """)
    before = teller.desk.memory
    for outcome in (Outcome.BUSY, Outcome.DOUBTFUL):
        teller.desk.feed(loan_answer(teller.desk, outcome, ts_seen_ms=T0))
    for outcome in (Outcome.ABSENT, Outcome.QUERY_FAILED):
        for is_query in (True, False):
            teller.desk.feed(loan_answer(teller.desk, outcome, is_query=is_query))
    assert teller.desk.memory == before


def test_a_transfer_has_one_id_for_ever() -> None:
    """The id is a UUID, pure in its intent, and kept when the log gets another id."""
    made = transfer_id(log_id="00", account="main", intent_id="x")
    assert str(uuid.UUID(made)) == made
    assert uuid.UUID(made).version == 4
    assert made == transfer_id(log_id="00", account="main", intent_id="x")
    assert made != transfer_id(log_id="00", account="main", intent_id="y")
    assert made != transfer_id(log_id="01", account="main", intent_id="x")


def test_a_processing_half_forgets_an_older_refusal() -> None:
    """A refusal that comes late for a half that the venue processes is checked, not believed."""
    teller = Teller(K.TRANSFER_TO_FUND)
    teller.play("""
        start                       | started             | T
        transfer accepted           | started             | -
    """)
    teller.desk.feed(transfer_answer(teller.desk, Outcome.REFUSED, ts_seen_ms=T0 - 1))
    assert kinds(teller.desk.tick(2_000)) == "QueryTransfer"
    before = teller.desk.memory
    for outcome in (Outcome.ABSENT, Outcome.REFUSED, Outcome.QUERY_FAILED):
        teller.desk.feed(
            transfer_answer(teller.desk, outcome, ts_seen_ms=T0 + 1_999, is_query=True)
        )
    assert teller.desk.memory == before, "older than the question"
    teller.play("transfer done | done* | -")
