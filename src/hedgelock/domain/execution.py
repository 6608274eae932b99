"""trade-executor's fold, sans I/O: `(memory, message) -> (memory, confirmations, effects)`.

Effects run only after the commit that holds them; what comes back is a message again. Nothing here
sends twice: orders and transfers carry ids that are pure functions of their intent, loan actions
stand recorded as sent before they leave. After a restart (`Restored`) the first thing is to ask.

    order.py              the life-cycle table           precheck.py        what may go at all
    order_execution.py    events of an order intent      loan_execution.py  of a treasury action
    order_schedule.py     what is due for it             loan_schedule.py   what is due for it
    execution_fold.py     one step                       execution_memory.py  the committed state
    execution_scene.py    clockwork                      effect.py          the contract with venues
"""

from __future__ import annotations

from hedgelock.domain.execution_fold import Fold
from hedgelock.domain.execution_memory import ExecutionMemory
from hedgelock.domain.message import Message
from hedgelock.domain.step import Now, Step, Tables


def step(
    memory: ExecutionMemory, tables: Tables, message: Message, now: Now
) -> Step[ExecutionMemory]:
    """One message of one account. Total: whatever decodes has an outcome, none raises."""
    fold = Fold(memory, tables, now)
    fold.take(message)
    fold.do_what_is_due()
    return fold.result()
