"""Limits on the requests of one API, shared by all threads: rate budget and circuit breaker."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from headrace.errors import SourceUnauthorizedError, SourceUnavailableError, TransientError

log = structlog.get_logger(__name__)

# A run that stands still for longer says why.
_NOTABLE_SECONDS = 30.0


class Clock(Protocol):
    """Time that only goes forward."""

    def monotonic(self) -> float:
        """Seconds since some time."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Wait."""
        ...


@dataclass
class RateBudget:
    """Lets at most `requests` begin in any `seconds`; the others wait.

    Attributes:
        requests: None: no limit.
    """

    requests: int | None
    seconds: float = 1.0
    clock: Clock = time
    _begun: deque[float] = field(default_factory=deque, init=False)
    _paused_until: float = field(default=float("-inf"), init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def take(self) -> None:
        """Wait until one more request may begin."""
        while (wait := self._wait()) > 0:
            if wait >= _NOTABLE_SECONDS:
                log.info("request_waits_for_budget", requests=self.requests, seconds=round(wait))
            self.clock.sleep(wait)

    def pause(self, seconds: float) -> None:
        """Let no request begin for some time, as the server asked in `Retry-After`."""
        with self._lock:
            self._paused_until = max(self._paused_until, self.clock.monotonic() + seconds)

    def _wait(self) -> float:
        """Seconds until the next look; 0: the request is counted and may begin."""
        with self._lock:
            now = self.clock.monotonic()
            if now < self._paused_until:
                return self._paused_until - now
            if self.requests is None:
                return 0.0
            while self._begun and self._begun[0] <= now - self.seconds:
                self._begun.popleft()
            if len(self._begun) < self.requests:
                self._begun.append(now)
                return 0.0
            # At least a millisecond: a difference that rounding made 0 would not let it begin.
            return max(self._begun[0] + self.seconds - now, 0.001)


@dataclass
class CircuitBreaker:
    """Fails at once while a server is down, instead of waiting for each request's timeouts.

    pybreaker holds its lock during a call, which would let one request run at a time.

    Attributes:
        server: Its name, for errors.
        failures: So many in a row open the circuit.
        seconds: How long it stays open; then one request tries again.
    """

    server: str
    failures: int
    seconds: float
    clock: Clock = time
    _failed: int = field(default=0, init=False)
    _open_until: float | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count how a request with all its attempts ended.

        Raises:
            SourceUnavailableError: The circuit is open.
        """
        self._enter()
        try:
            yield
        except (TransientError, SourceUnauthorizedError):
            # Wrong credentials too: servers lock users out who try again and again.
            self._leave(is_failure=True)
            raise
        except BaseException:
            # The server answered, or the run was cancelled.
            self._leave(is_failure=False)
            raise
        self._leave(is_failure=False)

    def _enter(self) -> None:
        with self._lock:
            if self._open_until is None:
                return
            left = self._open_until - self.clock.monotonic()
            if left <= 0:
                # One request tries; the others go on failing until it has ended.
                self._open_until = self.clock.monotonic() + self.seconds
                return
        raise SourceUnavailableError(
            f"{self.server} is not asked for another {left:.0f} s: the last {self._failed} "
            "requests failed (circuit breaker)",
            fix="see why the server fails; then run the partitions again",
        )

    def _leave(self, *, is_failure: bool) -> None:
        with self._lock:
            if not is_failure:
                self._failed, self._open_until = 0, None
                return
            self._failed += 1
            if self._failed >= self.failures:
                self._open_until = self.clock.monotonic() + self.seconds
