"""Pacing: never more calls in any window than the quota, none later than needed, a told quota obeyed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open360.release.pacing import ANONYMOUS, MARGIN, GivenUpError, Pacer, Quota, told_by


@dataclass
class Time:
    """A clock that only moves when somebody sleeps, or a test says so."""

    now: float = 1_000.0
    slept: float = 0.0
    said: list[str] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds

    def pacer(self, quota: Quota | None = None) -> Pacer:
        known = None if quota is None else {"api": quota}
        return Pacer(known, clock=lambda: self.now, sleep=self.sleep, notice=self.said.append)  # type: ignore[arg-type]


def headers(left: int, resets: int, quota: Quota | None = None, kind: str = "api") -> dict[str, str]:
    told = {"RateLimit": f'"{kind}";r={left};t={resets}'}
    if quota is not None:
        told["RateLimit-Policy"] = f'"fixed window";"{kind}";q={quota.calls};w={quota.seconds:g}'
    return told


QUOTAS = st.builds(Quota, calls=st.integers(1, 20), seconds=st.floats(0.5, 400.0))


@given(QUOTAS, st.lists(st.floats(0, 100), max_size=80))
def test_there_are_never_more_calls_in_any_window_than_the_quota(quota: Quota, gaps: list[float]) -> None:
    time = Time()
    pacer, starts = time.pacer(quota), []
    for gap in gaps:
        time.now += gap
        with pacer.call("api"):
            starts.append(time.now)
    for first, last in zip(starts, starts[quota.calls :], strict=False):
        assert last - first >= quota.seconds * (1 - 1e-9)


@given(QUOTAS, st.lists(st.floats(0, 100), max_size=80))
def test_nothing_waits_that_need_not(quota: Quota, gaps: list[float]) -> None:
    time = Time()
    pacer, starts = time.pacer(quota), []
    for gap in gaps:
        time.now += gap
        asked = time.now
        with pacer.call("api"):
            starts.append(time.now)
        earlier = starts[:-1][-quota.calls] if len(starts) > quota.calls else None
        earliest = asked if earlier is None else max(asked, earlier + quota.seconds)
        assert starts[-1] <= earliest + 0.002


def test_a_hub_that_tells_nothing_is_not_waited_for() -> None:
    time = Time()
    pacer = time.pacer()
    for _ in range(5_000):
        with pacer.call("api") as learn:
            learn({})
    assert (time.slept, time.said) == (0.0, [])


@given(st.integers(1, 30), st.integers(1, 300), st.integers(1, 100))
@settings(max_examples=50)
def test_a_hub_in_fixed_windows_never_has_to_refuse(calls: int, window: int, wanted: int) -> None:
    time = Time()
    quota, pacer = Quota(calls=calls, seconds=window), time.pacer()
    used: dict[int, int] = {}
    for _ in range(wanted):
        with pacer.call("api") as learn:
            number = int(time.now // window)
            used[number] = used.get(number, 0) + 1
            assert used[number] <= calls
            resets = -int(-((number + 1) * window - time.now) // 1)
            learn(headers(calls - used[number], resets, quota))
    assert time.slept <= (wanted // calls + 1) * (window + 2 * MARGIN + 1)


def test_what_others_have_used_is_counted_as_the_hub_tells_it() -> None:
    time = Time()
    pacer = time.pacer(Quota(calls=500, seconds=300))
    with pacer.call("api") as learn:
        learn(headers(1, 40))
    with pacer.call("api") as learn:
        learn(headers(0, 40))
    assert time.slept == 0
    with pacer.call("api"):
        pass
    assert time.slept == pytest.approx(40 + MARGIN)
    assert time.said == ["waiting 41 s: the Hub takes 500 API calls per 5 minutes"]


def test_calls_in_flight_are_counted_until_they_land() -> None:
    time = Time()
    pacer = time.pacer()
    with pacer.call("api") as learn:
        learn(headers(2, 100))
    with pacer.call("api") as first, pacer.call("api"):
        assert time.slept == 0
        first(headers(1, 100))  # it was counted; the other one is on its way
    with pacer.call("api"):
        assert time.slept >= 100


def test_answers_that_overtake_each_other_do_not_raise_what_is_left() -> None:
    time = Time()
    pacer = time.pacer()
    with pacer.call("api") as slow, pacer.call("api") as quick:
        quick(headers(0, 60))
        slow(headers(1, 60))
    with pacer.call("api"):
        assert time.slept >= 60


def test_a_refusal_holds_every_call_of_its_kind_and_no_other() -> None:
    time = Time()
    pacer = time.pacer()
    pacer.hold("api", 300.0)
    with pacer.call("resolvers"):
        assert time.slept == 0
    with pacer.call("api"):
        assert time.slept == pytest.approx(300.0)
    assert time.said == ["waiting 300 s: the Hub takes no API calls until then"]


def test_a_short_wait_is_not_worth_a_line_and_a_long_one_is_worth_one() -> None:
    time = Time()
    pacer = time.pacer()
    pacer.hold("api", 1.9)
    with pacer.call("api"):
        pass
    assert time.said == []
    pacer.hold("api", 30.0)
    with pacer.call("api"):
        pass
    assert len(time.said) == 1


def test_a_told_quota_replaces_the_one_that_was_known() -> None:
    time = Time()
    pacer = time.pacer(ANONYMOUS["api"])
    with pacer.call("api") as learn:
        learn(headers(2_499, 299, Quota(calls=2_500, seconds=300)))
    assert pacer.quota("api") == Quota(calls=2_500, seconds=300)
    assert pacer.quota("resolvers") is None


def test_waits_that_are_given_up_end_with_an_error() -> None:
    waiting = threading.Event()
    pacer = Pacer(notice=lambda _: waiting.set())
    pacer.hold("api", 3_000.0)
    ended: list[BaseException] = []

    def ask() -> None:
        try:
            with pacer.call("api"):
                pass
        except GivenUpError as error:
            ended.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert waiting.wait(30)
    pacer.give_up()
    thread.join(30)
    assert len(ended) == 1


def test_many_threads_keep_the_quota_together() -> None:
    lock, now = threading.Lock(), [0.0]
    starts: list[float] = []

    def sleep(seconds: float) -> None:
        with lock:
            now[0] += seconds / 8

    pacer = Pacer({"api": Quota(calls=10, seconds=5.0)}, clock=lambda: now[0], sleep=sleep)

    def ask() -> None:
        for _ in range(10):
            with pacer.call("api"), lock:
                starts.append(now[0])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    starts.sort()
    assert len(starts) == 80
    assert now[0] >= 5.0 * 7


@pytest.mark.parametrize(
    ("given_headers", "expected"),
    [
        (headers(489, 241, Quota(calls=500, seconds=300)), ("api", 489, 241.0, Quota(calls=500, seconds=300))),
        ({"RateLimit": '"resolvers" ; r = 0 ; t = 55'}, ("resolvers", 0, 55.0, None)),
        ({"RateLimit": '"api";r=3;t=999999'}, ("api", 3, 3600.0, None)),
        (
            {"RateLimit": '"api";r=3;t=9', "RateLimit-Policy": '"fixed window";"pages";q=100;w=300'},
            ("api", 3, 9.0, None),
        ),
        ({"RateLimit": '"api";r=3;t=9', "RateLimit-Policy": '"fixed window";"api";q=0;w=300'}, ("api", 3, 9.0, None)),
        ({"RateLimit": "lots"}, None),
        ({}, None),
    ],
)
def test_headers_are_read_or_left(given_headers: dict[str, str], expected: tuple[object, ...] | None) -> None:
    told = told_by(given_headers)
    assert (None if told is None else (told.kind, told.left, told.resets_in, told.quota)) == expected


@given(st.dictionaries(st.sampled_from(["RateLimit", "RateLimit-Policy"]), st.text(max_size=60)))
def test_no_header_breaks_the_pacer(given_headers: dict[str, str]) -> None:
    pacer = Time().pacer()
    with pacer.call("api") as learn:
        learn(given_headers)
