from dataclasses import dataclass, field

import pytest

from headrace.errors import SourceRejectedError, SourceUnavailableError
from headrace.sources.rest.request_limits import CircuitBreaker, RateBudget


@dataclass
class Clock:
    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_no_period_has_more_requests_than_its_budget() -> None:
    clock = Clock()
    budget = RateBudget(3, 10.0, clock)
    times = []
    for pause in [0, 6, 3, 0, 0, 2, 0, 30, 0, 0, 0]:
        clock.now += pause
        budget.take()
        times.append(clock.now)
    assert times == sorted(times)
    assert all(later - first >= 10 for first, later in zip(times, times[3:], strict=False))
    assert times[:4] == [0, 6, 9, 10]


def test_a_pause_holds_all_requests_back() -> None:
    clock = Clock()
    budget = RateBudget(None, clock=clock)
    budget.take()
    budget.pause(5)
    budget.pause(2)
    budget.take()
    assert clock.now == 5


def ask(breaker: CircuitBreaker, error: Exception | None = None) -> str:
    try:
        with breaker.request():
            if error is not None:
                raise error
    except (SourceUnavailableError, SourceRejectedError) as raised:
        return "asked" if raised is error else str(raised)
    return "answered"


def test_a_circuit_opens_after_failures_in_a_row_and_one_request_tries_again() -> None:
    clock = Clock()
    breaker = CircuitBreaker("api.example", 3, 60, clock)
    down = SourceUnavailableError("down", fix="wait")
    assert [ask(breaker, down), ask(breaker, down), ask(breaker)] == ["asked", "asked", "answered"]
    for _ in range(3):
        ask(breaker, down)
    assert ask(breaker) == (
        "api.example is not asked for another 60 s: the last 3 requests failed (circuit breaker)"
    )
    clock.now += 61
    with breaker.request():
        assert "circuit breaker" in ask(breaker)  # One at a time.
    assert ask(breaker) == "answered"


def test_a_refusal_is_an_answer() -> None:
    breaker = CircuitBreaker("api.example", 1, 60, Clock())
    refused = SourceRejectedError("no", fix="ask otherwise")
    assert [ask(breaker, refused), ask(breaker)] == ["asked", "answered"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_cancelled_request_leaves_the_circuit_closed(error: type[BaseException]) -> None:
    breaker = CircuitBreaker("api.example", 1, 60, Clock())
    with pytest.raises(error), breaker.request():
        raise error
    assert ask(breaker) == "answered"
