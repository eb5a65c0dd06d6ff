"""The services of the examples: each can be replicated, and does what it says."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from bank import Bank, NoAccount, Overdrawn
from counter import Counter
from job_queue import JobQueue, NotYours, Sizes
from lock import Held, LeaseEnded, Lock
from stretto import Service
from stretto.testing import check_service, local
from stretto.testing.drawing import Arguments

NAMES = st.sampled_from(["Ada", "Bob"])
ARGUMENTS: dict[type[Service], Arguments] = {
    Counter: {"add": {"amount": st.integers(-5, 5)}},
    Bank: {
        "open": {"name": NAMES},
        "deposit": {"name": NAMES, "amount": st.integers(1, 9)},
        "transfer": {"source": NAMES, "target": NAMES, "amount": st.integers(1, 9)},
    },
    Lock: {"renew": {"token": st.integers(0, 3)}, "release": {"token": st.integers(0, 3)}},
    JobQueue: {"finish": {"number": st.integers(1, 3), "attempt": st.integers(1, 2)}},
}


@pytest.mark.parametrize("service", ARGUMENTS, ids=lambda service: service.__name__)
def test_it_can_be_replicated(service: type[Service]) -> None:
    check_service(service, arguments=ARGUMENTS[service], max_examples=30)


def test_a_lease_ends_by_itself_and_its_token_with_it() -> None:
    lock = local(Lock)
    first = lock.acquire("Ada", 10)
    with pytest.raises(Held, match="Ada holds the lock"):
        lock.acquire("Bob", 10)
    lock.advance(6)
    lock.renew(first, 10)
    lock.advance(6)
    assert lock.holder() == "Ada"
    lock.advance(6)
    assert lock.holder() is None
    second = lock.acquire("Bob", 10)
    assert second > first
    with pytest.raises(LeaseEnded):
        lock.renew(first, 10)
    lock.release(second)
    with pytest.raises(LeaseEnded):
        lock.release(second)


def test_a_job_that_is_not_finished_in_time_is_given_to_another() -> None:
    queue = local(JobQueue)
    number = queue.submit("count apples")
    slow = queue.take(10)
    assert queue.take(10) is None
    queue.advance(11)
    quick = queue.take(10)
    assert (slow.number, slow.attempt, quick.number, quick.attempt) == (number, 1, number, 2)
    with pytest.raises(NotYours):
        queue.finish(number, slow.attempt)
    queue.finish(number, quick.attempt)
    with pytest.raises(NotYours):
        queue.finish(number, quick.attempt)
    assert queue.sizes() == Sizes(waiting=0, running=0, done=1)


def test_a_transfer_that_fails_moves_nothing() -> None:
    bank = local(Bank)
    bank.open("Ada")
    bank.deposit("Ada", 5)
    with pytest.raises(NoAccount):
        bank.transfer("Ada", "Bob", 1)
    bank.open("Bob")
    with pytest.raises(Overdrawn, match="Ada would have -1"):
        bank.transfer("Ada", "Bob", 6)
    assert bank.balances() == {"Ada": 5, "Bob": 0}
    bank.transfer("Ada", "Bob", 5)
    assert bank.balances() == {"Ada": 0, "Bob": 5}
