"""A small deterministic service on the ports, and the wrapper that crashes it.

It counts each account's numbers: state = "how many, their sum", one output per input that names
both, so that a lost, repeated or reordered input shows in the state and in the outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

from bus_logs import Log, after, deadline, fact, key_in

from hedgelock.ports import Batch, Offsets, Session, StepRecord
from hedgelock.topics import PARTITIONS

SERVICE = "risk-engine"
ACCOUNTS = tuple(key_in(p) for p in range(PARTITIONS))


class SimulatedCrash(Exception):
    """The process was killed here."""


class Crasher:
    """Counts port calls and dies at one boundary: 2n = before call n, 2n + 1 = after it."""

    def __init__(self, boundary: int | None) -> None:
        self._boundary = boundary
        self.calls: list[str] = []

    def before(self, name: str) -> None:
        """About to call."""
        if self._boundary == 2 * len(self.calls):
            raise SimulatedCrash(f"before {name}")
        self.calls.append(name)

    def after(self, name: str) -> None:
        """The call is done, its answer is not seen any more."""
        if self._boundary == 2 * len(self.calls) - 1:
            raise SimulatedCrash(f"after {name}")


class CrashingSession:
    """The calls of `ports.Session` that the service makes, each with two places to die."""

    def __init__(self, session: Session, crasher: Crasher) -> None:
        self._session = session
        self._crasher = crasher

    def poll(self, timeout_s: float) -> Batch:
        """One wait for news. Empty answers are not counted: their number depends on time."""
        for _ in deadline():
            batch = self._session.poll(timeout_s, 5)
            if any(batch):
                break
        self._crasher.before("poll")
        self._crasher.after("poll")
        return batch

    def restore(self, partition: int) -> dict[str, bytes]:
        self._crasher.before("restore")
        states = self._session.restore(partition)
        self._crasher.after("restore")
        return states

    def commit(self, steps: Sequence[StepRecord], offsets: Offsets) -> None:
        self._crasher.before("commit")
        self._session.commit(steps, offsets)
        self._crasher.after("commit")

    def rewind(self) -> None:
        self._crasher.before("rewind")
        self._session.rewind()
        self._crasher.after("rewind")

    def close(self) -> None:
        self._crasher.before("close")
        self._session.close()
        self._crasher.after("close")


class Fold:
    """One life of the service."""

    def __init__(self, log: Log, crasher: Crasher) -> None:
        self._log = log
        self._crasher = crasher
        self._counts: dict[str, tuple[int, int]] = {}

    def run(self, inputs_per_account: int) -> None:
        """Fold until every account has seen its last input, rewinding once on the way."""
        self._crasher.before("open")
        session = CrashingSession(
            self._log.bus().open(
                service=SERVICE, instance="1", inputs=["account_raw"], tables=["policies"]
            ),
            self._crasher,
        )
        self._crasher.after("open")
        rewound = False
        while not self._done(inputs_per_account):
            batch = session.poll(0.05)
            for p in batch.assigned:
                for key, state in session.restore(p).items():
                    count, total = state.split()
                    self._counts[key] = (int(count), int(total))
            if not batch.records:
                continue
            if not rewound and any(count >= 2 for count, _ in self._counts.values()):
                rewound = True  # as after an error: forget, go back, restore
                self._counts.clear()
                session.rewind()
                continue
            steps = [self._step(r.key, int(r.value)) for r in batch.records]
            session.commit(steps, after(batch.records))
        session.close()

    def _done(self, inputs_per_account: int) -> bool:
        return all(self._counts.get(a, (0, 0))[0] == inputs_per_account for a in ACCOUNTS)

    def _step(self, key: str, number: int) -> StepRecord:
        count, total = self._counts.get(key, (0, 0))
        self._counts[key] = count, total = count + 1, total * 31 % 1_000_003 + number
        state = f"{count} {total}"
        return StepRecord(
            ACCOUNTS.index(key), key, state.encode(), (fact(key, state, "risk_state"),),
            f"{number} -> {state}".encode(),
        )


def feed(log: Log, inputs_per_account: int) -> None:
    """Publish the service's inputs, once."""
    log.publish(fact("a", "policy", "policies"))
    for n in range(inputs_per_account):
        log.publish(*(fact(account, 7 * n + i) for i, account in enumerate(ACCOUNTS)))


def outcome(log: Log) -> dict[str, tuple[list[str], list[str], bytes]]:
    """Outputs, journal and state of every account, in order."""
    session = log.bus().open(service=SERVICE, instance="1", inputs=["account_raw"], tables=[])
    owned: set[int] = set()
    for _ in deadline():
        batch = session.poll(0.05)
        assert not batch.records, "the offsets did not move along"
        owned.update(batch.assigned)
        if len(owned) == PARTITIONS:
            break
    outputs = list(log.bus().read("risk_state"))
    journal = list(log.bus().read("steps"))
    found = {
        account: (
            [r.value.decode() for r in outputs if r.key == account],
            [r.value.decode() for r in journal if r.key == f"{SERVICE}/{account}"],
            session.restore(p)[account],
        )
        for p, account in enumerate(ACCOUNTS)
    }
    session.close()
    return found


def live(log: Log, inputs_per_account: int, boundary: int | None) -> list[str]:
    """Run the service to its end through at most one crash; the calls of the first life."""
    crasher = Crasher(boundary)
    try:
        Fold(log, crasher).run(inputs_per_account)
    except SimulatedCrash:
        log.crash()
        Fold(log, Crasher(None)).run(inputs_per_account)
    return crasher.calls
