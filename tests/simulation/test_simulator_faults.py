"""Every kind of fault, through the gateway, in virtual time without sockets."""

import pytest

from hedgelock.simulator.fault_kinds import KINDS, Fault, Match
from hedgelock.simulator.faults import Faults


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("fire"), "kind 'fire' is unknown: choose one of answer_lost"),
        (Fault("refuse"), "refuse needs code"),
        (Fault("cut", ms=5), "cut takes no ms: it takes nothing"),
        (Fault("cut", share=0), r"share 0 is not in \(0, 1\]"),
        (Fault("cut", from_s=5, until_s=4), "from_s 5 is after until_s 4"),
        (Fault("push_late", ms=-5), "ms -5 is negative"),
        (Fault("cut", nth=-1), "nth, times and every_s are not negative"),
        (Fault("cut", Match(via="pigeon")), "match.via 'pigeon' is neither rest nor socket"),
        (Fault("edit_push", field="x", op="burn"), "op 'burn' is unknown"),
        (Fault("outage", part="moon"), "part 'moon' is unknown: choose one of all, borrowing"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(fault, words):
    with pytest.raises(ValueError, match=words):
        Faults([fault])


def test_every_kind_is_described():
    """The table is the documentation: a line each."""
    assert all(kind.doc and set(kind.needs) <= set(kind.takes) for kind in KINDS.values())
