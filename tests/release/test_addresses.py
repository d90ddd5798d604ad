"""Addresses outside the Hub, looked at and read on a server that answers as a test says."""

from __future__ import annotations

import gzip
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open360.release.evidence.addresses import AddressError, Addresses, Gone, Pace, There, Unreachable
from tests.support.lying_server import Answer, lying_server

BODY = bytes(range(200))


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def _ranged(body: bytes, header: str | None) -> Answer:
    if header is None:
        return Answer(body=body)
    begin, end = (int(part) for part in header.removeprefix("bytes=").split("-"))
    part = body[begin : end + 1]
    span = f"bytes {begin}-{begin + len(part) - 1}/{len(body)}"
    return Answer(status=206, headers={"Content-Range": span}, body=part)


@contextmanager
def _looking(
    answer: Callable[[str, str, str | None], Answer], clock: Clock | None = None
) -> Iterator[tuple[Addresses, str, Counter[str]]]:
    clock = clock or Clock()
    asked: Counter[str] = Counter()

    def behave(method: str, path: str, header: str | None) -> Answer:
        asked[f"{method} {path}"] += 1
        return answer(method, path, header)

    with lying_server(behave) as url:
        yield Addresses(public_only=False, pace=Pace(20, clock, clock.sleep)), url, asked


def _always(status: int, **headers: str) -> Callable[[str, str, str | None], Answer]:
    return lambda *_: Answer(status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}, body=b"x")


def test_an_address_that_answers_is_there_with_its_size() -> None:
    with _looking(lambda *_: Answer(body=BODY)) as (addresses, url, asked):
        assert addresses.state(f"{url}/a") == There(bytes=200)
        assert addresses.state(f"{url}/a") == There(bytes=200)
        assert asked == {"HEAD /a": 1}


@pytest.mark.parametrize("status", [404, 410])
def test_only_its_host_can_say_that_an_address_is_gone(status: int) -> None:
    with _looking(_always(status)) as (addresses, url, _):
        assert addresses.state(f"{url}/a") == Gone(status=status)


@pytest.mark.parametrize("status", [401, 402, 451, 500, 503])
def test_a_refusal_or_a_failure_says_nothing_of_the_address(status: int) -> None:
    with _looking(_always(status)) as (addresses, url, _):
        assert isinstance(addresses.state(f"{url}/a"), Unreachable)


@pytest.mark.parametrize("status", [403, 405, 501])
def test_where_head_is_refused_the_first_byte_is_asked_for(status: int) -> None:
    def answer(method: str, path: str, header: str | None) -> Answer:
        if method == "HEAD":
            return Answer(status=status)
        return _ranged(BODY, header) if path == "/a" else Answer(status=404)

    with _looking(answer) as (addresses, url, _):
        assert addresses.state(f"{url}/a") == There(bytes=200)
        assert addresses.state(f"{url}/b") == Gone(status=404)


def test_a_host_that_is_not_there_is_unreachable_and_soon_left_alone() -> None:
    with _looking(_always(200)) as (_, url, _):
        pass  # the port is free again
    clock = Clock()
    addresses = Addresses(public_only=False, pace=Pace(20, clock, clock.sleep))
    states = [addresses.state(f"{url}/{i}") for i in range(50)]
    assert all(isinstance(state, Unreachable) for state in states)
    assert clock.now < 10


def test_a_busy_host_is_asked_again_after_the_time_that_it_names() -> None:
    clock, left = Clock(), [2]

    def answer(*_: object) -> Answer:
        left[0] -= 1
        return Answer(status=429, headers={"Retry-After": "7"}) if left[0] >= 0 else Answer(body=BODY)

    with _looking(answer, clock) as (addresses, url, _):
        assert addresses.state(f"{url}/a") == There(bytes=200)
    assert clock.slept.count(7.0) == 2


def test_a_host_that_asks_for_an_hour_is_not_waited_for() -> None:
    clock = Clock()
    with _looking(_always(503, Retry_After="3600"), clock) as (addresses, url, _):
        assert isinstance(addresses.state(f"{url}/a"), Unreachable)
    assert clock.now < 10


def test_redirects_are_followed_a_few_times_and_never_to_another_scheme() -> None:
    def answer(_: str, path: str, __: str | None) -> Answer:
        targets = {"/moved": "/new", "/loop": "/loop", "/file": "file:///etc/passwd", "/ftp": "ftp://127.0.0.1/x"}
        if path in targets:
            return Answer(status=302, headers={"Location": targets[path]})
        return Answer(body=BODY)

    with _looking(answer) as (addresses, url, asked):
        assert addresses.state(f"{url}/moved") == There(bytes=200)
        assert "redirects" in str(addresses.state(f"{url}/loop"))
        assert asked["HEAD /loop"] < 10
        assert "http" in str(addresses.state(f"{url}/file"))
        assert "http" in str(addresses.state(f"{url}/ftp"))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/a",
        "http://localhost/a",
        "http://169.254.169.254/latest",
        "http://[::1]/a",
        "http://10.0.0.8/",
    ],
)
def test_a_spec_of_others_cannot_make_us_ask_this_network(url: str) -> None:
    assert "no public host" in str(Addresses().state(url))


def test_a_redirect_cannot_lead_into_this_network(monkeypatch: pytest.MonkeyPatch) -> None:
    with _looking(lambda *_: Answer(status=302, headers={"Location": "http://[::1]:9/"})) as (_, url, _):
        addresses = Addresses()
        addresses._refusals["127.0.0.1"] = None  # as if this server were public
        assert "no public host" in str(addresses.state(f"{url}/a"))


@pytest.mark.parametrize(
    "url", ["http://user:word@127.0.0.1/a", "http://[", "http://a:99999/", "file:///etc/passwd", ""]
)
def test_what_is_no_plain_web_address_is_not_asked(url: str) -> None:
    addresses = Addresses(public_only=False)
    assert isinstance(addresses.state(url), Unreachable)
    with pytest.raises(AddressError):
        addresses.read(url, 10)


def test_passwords_of_the_user_are_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    seen: list[Any] = []
    with _looking(lambda *_: Answer(body=BODY, headers={"Set-Cookie": "a=b"})) as (addresses, url, _):
        send = addresses._session.send

        def spy(request: Any, **how: Any) -> Any:
            seen.append(request.headers)
            return send(request, **how)

        monkeypatch.setattr(addresses._session, "send", spy)
        addresses.read(f"{url}/a", 1000)
        addresses.state(f"{url}/a")
    assert [sorted({"Authorization", "Cookie"} & set(headers)) for headers in seen] == [[], []]


def test_a_whole_file_is_read_and_kept() -> None:
    with _looking(lambda *_: Answer(body=BODY)) as (addresses, url, asked):
        assert addresses.read(f"{url}/a", 200) == BODY
        assert addresses.read(f"{url}/a", 200) == BODY
        assert asked == {"GET /a": 1}


def test_more_than_was_asked_for_is_an_error() -> None:
    with (
        _looking(lambda *_: Answer(body=BODY)) as (addresses, url, _),
        pytest.raises(AddressError, match="at most 199"),
    ):
        addresses.read(f"{url}/a", 199)


def test_an_answer_that_breaks_off_is_an_error() -> None:
    with _looking(lambda *_: Answer(body=BODY, length=300)) as (addresses, url, _):
        with pytest.raises(AddressError):
            addresses.read(f"{url}/a", 1000)
        with pytest.raises(AddressError):
            addresses.read_range(f"{url}/a", 100, 250)


def test_a_packed_answer_is_not_unpacked() -> None:
    packed = gzip.compress(bytes(1 << 20))
    answer = Answer(body=packed, headers={"Content-Encoding": "gzip"})
    with _looking(lambda *_: answer) as (addresses, url, _), pytest.raises(AddressError, match="gzip"):
        addresses.read(f"{url}/a", 1 << 21)


@given(st.integers(0, 199), st.integers(0, 200))
@settings(deadline=None, max_examples=30)
def test_a_range_is_read_exactly(begin: int, length: int) -> None:
    end = min(begin + length, 200)
    with _looking(lambda _, __, header: _ranged(BODY, header)) as (addresses, url, _):
        assert addresses.read_range(f"{url}/a", begin, end) == BODY[begin:end]


def test_a_shorter_range_than_was_asked_for_is_an_error() -> None:
    short = Answer(status=206, headers={"Content-Range": "bytes 0-99/100"}, body=BODY[:100])
    with _looking(lambda *_: short) as (addresses, url, _), pytest.raises(AddressError, match="bytes 0 to 99"):
        addresses.read_range(f"{url}/a", 0, 150)


@pytest.mark.parametrize("span", ["bytes 5-14/200", "bytes 0-9", "lines 0-9/200", "", "bytes 0-9/200/1"])
def test_another_range_than_was_asked_for_is_an_error(span: str) -> None:
    lie = Answer(status=206, headers={"Content-Range": span}, body=BODY[:10])
    with _looking(lambda *_: lie) as (addresses, url, _), pytest.raises(AddressError):
        addresses.read_range(f"{url}/a", 10, 20)


def test_a_range_that_breaks_off_is_gone_on_with_where_it_stopped() -> None:
    data, asked = bytes(range(256)) * 4_000, []

    def answer(_: str, __: str, header: str | None) -> Answer:
        asked.append(header)
        whole = _ranged(data, header)
        return Answer(status=206, headers=whole.headers, body=whole.body[:100_000], length=len(whole.body))

    with _looking(answer) as (addresses, url, _):
        assert addresses.read_range(f"{url}/a", 10, 900_010) == data[10:900_010]
    assert len(asked) == 9
    assert asked[1] == "bytes=100010-900009"


def test_a_range_that_always_breaks_off_at_once_is_given_up() -> None:
    asked: list[object] = []
    clock = Clock()

    def answer(*request: object) -> Answer:
        asked.append(request)
        whole = _ranged(BODY, str(request[2]))
        return Answer(status=206, headers=whole.headers, body=whole.body[:1], length=len(whole.body))

    with _looking(answer, clock) as (addresses, url, _), pytest.raises(AddressError, match="broke off"):
        addresses.read_range(f"{url}/a", 10, 190)
    assert len(asked) == 3


def test_a_file_that_changes_while_it_is_read_is_found_out() -> None:
    tags = iter(['"one"', '"one"', '"two"'])

    def answer(_: str, __: str, header: str | None) -> Answer:
        whole = _ranged(BODY, header)
        return Answer(status=206, headers={**whole.headers, "ETag": next(tags)}, body=whole.body)

    with _looking(answer) as (addresses, url, _):
        assert addresses.read_range(f"{url}/a", 0, 10) == BODY[:10]
        assert addresses.read_range(f"{url}/a", 20, 30) == BODY[20:30]
        with pytest.raises(AddressError, match="changed while it was read"):
            addresses.read_range(f"{url}/a", 10, 20)


def test_a_file_of_another_size_than_before_is_found_out() -> None:
    bodies = iter([BODY, BODY[:150]])
    with _looking(lambda _, __, header: _ranged(next(bodies), header)) as (addresses, url, _):
        assert addresses.read_range(f"{url}/a", 0, 10) == BODY[:10]
        with pytest.raises(AddressError, match="expected a file of 200 bytes, found one of 150"):
            addresses.read_range(f"{url}/a", 10, 20)


@pytest.mark.parametrize("headers", [{"Content-Type": "text/html; charset=utf-8"}, {}])
def test_a_page_is_not_taken_for_a_part_of_a_file(headers: dict[str, str]) -> None:
    page = Answer(headers=headers, body=b"<!DOCTYPE html><html><body>Please log in</body></html>")
    with _looking(lambda *_: page) as (addresses, url, _), pytest.raises(AddressError, match="page"):
        addresses.read_range(f"{url}/a.bin", 0, 10)


def test_a_file_that_is_shorter_than_the_range_says_how_long_it_is() -> None:
    short = Answer(status=416, headers={"Content-Range": "bytes */200"})
    with _looking(lambda *_: short) as (addresses, url, _), pytest.raises(AddressError, match="the file has 200 bytes"):
        addresses.read_range(f"{url}/a", 300, 350)


def test_a_host_without_ranges_costs_no_more_than_the_beginning() -> None:
    with _looking(lambda *_: Answer(body=BODY)) as (addresses, url, _):
        assert addresses.read_range(f"{url}/a", 10, 20) == BODY[10:20]
        with pytest.raises(AddressError, match="whole files only"):
            addresses.read_range(f"{url}/a", 1 << 30, (1 << 30) + 5)


def test_many_addresses_are_looked_at_at_once_and_told_in_order() -> None:
    told: list[tuple[int, int, str]] = []
    with lying_server(lambda _, path, __: Answer(status=404 if path.endswith("3") else 200)) as url:
        clock = Clock()
        lock = threading.Lock()

        def sleep(seconds: float) -> None:
            with lock:
                clock.sleep(seconds)

        addresses = Addresses(lambda *step: told.append(step), public_only=False, pace=Pace(20, clock, sleep))
        wanted = [f"{url}/{i}" for i in range(20)] * 2
        states = addresses.states(wanted)
    assert list(states) == wanted[:20]
    assert [url[-1] for url, state in states.items() if isinstance(state, Gone)] == ["3", "3"]
    assert [step[:2] for step in told] == [(i, 20) for i in range(1, 21)]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1)), max_size=60), st.integers(1, 30))
def test_no_second_holds_more_requests_of_a_host_than_allowed(asked: list[tuple[str, float]], per_second: int) -> None:
    clock = Clock()
    pace = Pace(per_second, clock, clock.sleep)
    starts: dict[str, list[float]] = {"a": [], "b": []}
    for host, pause in asked:
        clock.now += pause
        pace.wait(host)
        starts[host].append(clock.now)
    for times in starts.values():
        for first, later in zip(times, times[per_second:], strict=False):
            assert later - first >= 1 - 1e-6
