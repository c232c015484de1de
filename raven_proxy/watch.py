"""How long a reply may take: one timer per reply, however many chunks it has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .errors import UpstreamTimeout

__all__ = ["Watch"]


class Watch:
    """One timer for a whole reply: silence, total time, and when to send a sign of life."""

    __slots__ = (
        "_idle_s",
        "_loop",
        "_on_late",
        "_on_quiet",
        "_quiet_s",
        "_timer",
        "deadline",
        "last",
        "paused",
    )

    def __init__(
        self,
        idle_s: float,
        total_s: float,
        on_late: Callable[[UpstreamTimeout], None],
        quiet_s: float = 0.0,
        on_quiet: Callable[[], None] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle_s = idle_s
        self._quiet_s = quiet_s
        self._on_late = on_late
        self._on_quiet = on_quiet
        self.last = self._loop.time()
        self.deadline = self.last + total_s
        self.paused = False  # while the client is the slow one, silence is not the provider's
        self._timer: asyncio.TimerHandle | None = None
        self._arm(self.last)

    def touch(self) -> None:
        """Bytes came."""
        self.last = self._loop.time()

    def stop(self) -> None:
        """Watch no longer, for good: whoever asked for it is let go of, and what they hold with them."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._on_late, self._on_quiet = _ignore, None

    def _arm(self, now: float) -> None:
        idle_since = now if self.paused else self.last
        wait = min(idle_since + self._idle_s, self.deadline) - now
        if self._quiet_s:
            wait = min(wait, self._quiet_s)
        self._timer = self._loop.call_later(max(wait, 0.001), self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if now >= self.deadline:
            self._on_late(UpstreamTimeout("The reply took longer than the total limit."))
        elif now - self.last >= self._idle_s and not self.paused:
            self._on_late(UpstreamTimeout(f"The provider was silent for {self._idle_s:g} s."))
        else:
            if self._quiet_s and self._on_quiet is not None and now - self.last >= self._quiet_s * 0.9:
                self._on_quiet()
            self._arm(now)


def _ignore(error: UpstreamTimeout) -> None:
    del error
