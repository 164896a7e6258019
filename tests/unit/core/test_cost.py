"""What is charged and what a value takes: additions, resumed work, kept values, clocks of threads."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from didact.core.cost import Bill, Cost, Meter, thread_seconds, total

ONE, TEN, HUNDRED = Cost(flops=1), Cost(flops=10), Cost(flops=100)
counts = st.integers(0, 1000)
costs = st.builds(Cost, flops=counts, tokens=counts, cpu_seconds=counts, device_seconds=counts)
# A name stands for one cost in the whole world, as the key of a kept value does.
uses = st.sets(st.integers(0, 5)).map(lambda s: {f"kind/{n}": Cost(flops=10.0**n) for n in s})
bills = st.builds(Bill, charged=costs, own=costs, uses=uses)


# -- bills -----------------------------------------------------------------------------------------


@given(bills, bills, bills)
def test_bills_add_in_any_order(a, b, c):
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Bill() == a


@given(bills, bills)
def test_what_both_stand_on_counts_once(a, b):
    both = a + b
    assert both.charged == a.charged + b.charged
    shared = total(a.uses[name] for name in a.uses.keys() & b.uses.keys())
    assert both.value + shared == a.value + b.value
    assert (a + a).uses == a.uses


def test_the_sum_of_no_costs_is_none():
    assert total([]) == Cost()
    assert total([ONE, TEN, HUNDRED]) == Cost(flops=111)


# -- what a meter is told --------------------------------------------------------------------------


def flops(meter):
    bill = meter.bill
    return bill.charged.flops, bill.own.flops, bill.value.flops


def test_what_is_spent_is_charged_and_is_value():
    meter = Meter()
    assert meter.bill == Bill()
    meter.add(ONE)
    meter.add(TEN)
    assert flops(meter) == (11, 11, 11)


def test_what_was_found_is_value_alone():
    meter = Meter()
    meter.add(ONE)
    meter.found(TEN)
    assert flops(meter) == (1, 11, 11)


def test_a_kept_value_counts_once_however_often_it_is_used():
    meter = Meter()
    meter.add(ONE)
    for charged in (TEN, Cost(), Cost()):  # made, then found twice
        meter.use("scores/x", Bill(charged=charged, own=TEN))
    meter.use("scores/y", Bill(own=HUNDRED))
    assert flops(meter) == (11, 1, 111)
    assert meter.bill.uses == {"scores/x": TEN, "scores/y": HUNDRED}


def test_uses_are_handed_on():
    inner, outer = Meter(), Meter()
    inner.add(TEN)
    inner.use("sketches/z", Bill(own=HUNDRED))
    outer.use("scores/x", inner.bill)
    assert outer.bill.uses == {"scores/x": TEN, "sketches/z": HUNDRED}
    outer.use("sketches/z", Bill(own=HUNDRED))
    assert outer.bill.uses == {"scores/x": TEN, "sketches/z": HUNDRED}
    assert flops(outer) == (10, 0, 110)


def test_work_that_goes_on_has_the_value_of_work_that_was_not_interrupted():
    whole = Meter()
    whole.add(Cost(flops=7))
    first = whole.bill.own  # a piece stands for everything up to it
    whole.add(Cost(flops=5))

    again = Meter()
    again.add(Cost(flops=2))  # getting there: read, loaded, set up once more
    again.resume(first)
    again.add(Cost(flops=5))
    assert again.bill.value == whole.bill.value == Cost(flops=12)
    assert again.bill.charged == Cost(flops=7)


def test_the_last_piece_gone_on_from_stands_for_those_before():
    meter = Meter()
    meter.found(HUNDRED)
    meter.resume(Cost(flops=3))
    meter.add(ONE)  # a damaged piece between the two, done again
    meter.resume(Cost(flops=8))
    meter.add(ONE)
    assert flops(meter) == (2, 9, 9)


def test_uses_outlive_resuming():
    meter = Meter()
    meter.use("scores/x", Bill(charged=TEN, own=TEN))
    meter.resume(ONE)
    assert flops(meter) == (10, 1, 11)


def test_many_threads_add_to_one_meter():
    meter = Meter()
    with ThreadPoolExecutor(8) as workers:
        for _ in range(8):
            workers.submit(lambda: [meter.add(Cost(1, 2, 3, 4)) for _ in range(500)])
    assert meter.bill.charged == Cost(4000, 8000, 12000, 16000)


# -- clocks ----------------------------------------------------------------------------------------
# Bounds: clocks are exact to a millisecond, and `burn` stops within one. What could be charged
# wrongly is at least 0.1 s in every test, so 0.05 s either way tell right from wrong.


def burn(seconds):
    """Spend this thread's processor time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(200))


def about(seconds):
    return pytest.approx(seconds, abs=0.05)


def test_time_is_charged_while_the_meter_runs():
    meter = Meter()
    burn(0.1)
    with meter.running():
        burn(0.15)
        time.sleep(0.1)
        assert meter.bill.charged.cpu_seconds == about(0.15)  # and may be asked for meanwhile
        burn(0.1)
    burn(0.1)
    assert meter.bill.charged.cpu_seconds == meter.bill.own.cpu_seconds == about(0.25)


def test_time_before_resuming_is_charged_and_not_value():
    meter = Meter()
    with meter.running():
        burn(0.1)
        meter.resume(Cost(cpu_seconds=50))
        burn(0.2)
    assert meter.bill.charged.cpu_seconds == about(0.3)
    assert meter.bill.own.cpu_seconds == about(50.2)


def test_the_inner_of_two_meters_is_charged_alone():
    outer, inner = Meter(), Meter()
    with outer.running():
        burn(0.1)
        with inner.running():
            burn(0.2)
        burn(0.1)
    assert inner.bill.charged.cpu_seconds == about(0.2)
    assert outer.bill.charged.cpu_seconds == about(0.2)


def test_a_block_that_fails_is_charged_and_the_outer_meter_goes_on():
    outer, inner = Meter(), Meter()
    with outer.running():
        with pytest.raises(KeyError), inner.running():
            burn(0.1)
            raise KeyError
        burn(0.2)
    assert inner.bill.charged.cpu_seconds == about(0.1)
    assert outer.bill.charged.cpu_seconds == about(0.2)


@pytest.mark.parametrize("seconds", [(0.2, 0.2), (0.1, 0.3), (0.3, 0.1)])
@pytest.mark.parametrize("asking", [False, True])
def test_two_that_run_at_once_never_charge_each_other(seconds, asking):
    meters, together = (Meter(), Meter()), threading.Barrier(2, timeout=10)

    def work(meter, own):
        with meter.running():
            together.wait()
            for _ in range(10):
                burn(own / 10)
                if asking:
                    assert meter.bill.charged.cpu_seconds >= 0

    with ThreadPoolExecutor(2) as workers:
        list(workers.map(work, meters, seconds))
    for meter, own in zip(meters, seconds, strict=True):
        assert meter.bill.charged.cpu_seconds == about(own)


def test_a_meter_that_comes_and_goes_leaves_another_alone():
    long, short = Meter(), Meter()
    begun, ended = threading.Event(), threading.Event()

    def beside():
        with short.running():
            begun.set()
            burn(0.2)
        ended.set()

    with long.running():
        burn(0.1)
        thread = threading.Thread(target=beside)
        thread.start()
        begun.wait(10)
        burn(0.1)
        ended.wait(10)
        thread.join()
        burn(0.1)
    assert long.bill.charged.cpu_seconds == about(0.3)
    assert short.bill.charged.cpu_seconds == about(0.2)


def test_a_thread_that_is_timed_is_charged_once():
    meter = Meter()
    with meter.running(), ThreadPoolExecutor(1) as worker:
        timed = worker.submit(meter.timed(burn), 0.2)
        burn(0.1)
        assert timed.result() is None
    assert meter.bill.charged.cpu_seconds == about(0.3)


def test_in_the_running_thread_timing_adds_nothing():
    meter = Meter()
    with meter.running():
        meter.timed(burn)(0.2)
    assert meter.bill.charged.cpu_seconds == about(0.2)


def test_in_the_running_thread_timing_adds_nothing_while_another_meter_runs():
    mine, other = Meter(), Meter()
    begun, done = threading.Event(), threading.Event()

    def beside():
        with other.running():
            begun.set()
            done.wait(10)

    thread = threading.Thread(target=beside)
    thread.start()
    begun.wait(10)
    with mine.running():
        mine.timed(burn)(0.2)
    done.set()
    thread.join()
    assert mine.bill.charged.cpu_seconds == about(0.2)


def test_timing_gives_the_result_and_counts_where_no_meter_runs():
    meter = Meter()
    assert meter.timed(lambda a, *, b: (burn(0.1), a + b)[1])(1, b=2) == 3
    assert meter.bill.charged.cpu_seconds == about(0.1)
    with thread_seconds() as seconds:
        burn(0.1)
    assert seconds[0] == about(0.1)


def test_a_timed_call_is_not_charged_to_whoever_runs_elsewhere():
    """Two pieces of work at once, one of which has threads of its own."""
    mine, other = Meter(), Meter()
    with mine.running():
        with ThreadPoolExecutor(1) as worker:
            worker.submit(other.timed(burn), 0.2).result()
        burn(0.1)
    assert mine.bill.charged.cpu_seconds == about(0.1)
    assert other.bill.charged.cpu_seconds == about(0.2)


def test_threads_that_nobody_can_ask_are_charged_to_the_one_that_runs():
    meter = Meter()
    with meter.running():
        thread = threading.Thread(target=burn, args=(0.2,))
        thread.start()
        thread.join()
    assert meter.bill.charged.cpu_seconds == about(0.2)


def test_a_meter_that_is_idle_is_charged_nothing():
    meter = Meter()
    with meter.running():
        pass
    burn(0.1)
    np.ones(10).sum()
    assert 0 <= meter.bill.charged.cpu_seconds < 0.05
