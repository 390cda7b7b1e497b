"""Who a browser is: a random name in a cookie, and the token that was given for it, in memory only.

A session without a token is as good as one with: it stands for the server's own user, where there is one. The token
against forged requests is made of the session's name and of a key that ends with the process.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ebbtide.cluster.client.protocol import Clock

COOKIE: Final = "ebbtide-session"
NAME: Final = re.compile(r"[A-Za-z0-9_-]{43}")
#: How long a token is kept after its last use, in seconds, and how many are.
KEPT: Final = 8 * 3600.0
MOST: Final = 10_000


@dataclass(slots=True)
class Held:
    """A token and when it was last used."""

    token: str = field(repr=False)
    used: float


@dataclass(slots=True)
class Sessions:
    """The sessions of one process."""

    clock: Clock
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _held: dict[str, Held] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock)

    def of(self, cookie: str) -> tuple[str, bool]:
        """Return a session's name for what a browser sent, and whether it is a new one."""
        return (cookie, False) if NAME.fullmatch(cookie) else (secrets.token_urlsafe(32), True)

    def token_of(self, session: str) -> str:
        """Return what a form of this session must bring back."""
        return hmac.new(self._key, session.encode(), hashlib.sha256).hexdigest()

    def token(self, session: str) -> str:
        """Return the Kubernetes token of a session, or nothing."""
        now = self.clock.now()
        with self._lock:
            held = self._held.get(session)
            if held is None:
                return ""
            if now - held.used > KEPT:
                del self._held[session]
                return ""
            held.used = now
            return held.token

    def begin(self, token: str) -> str:
        """Keep a token and return the name of its session, a new one: a name known before the login is worth nothing."""
        session = secrets.token_urlsafe(32)
        now = self.clock.now()
        with self._lock:
            for name in [name for name, held in self._held.items() if now - held.used > KEPT]:
                del self._held[name]
            while len(self._held) >= MOST:
                del self._held[min(self._held, key=lambda name: self._held[name].used)]
            self._held[session] = Held(token, now)
        return session

    def end(self, session: str) -> None:
        with self._lock:
            self._held.pop(session, None)
