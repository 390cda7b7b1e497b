"""Browser sessions: a random name in a cookie, and the caller's token, in memory only; and one-time sign-in keys.

The CSRF token is derived from the session's name with a key that is lost when the process ends. A one-time key, which
``ebbtide serve`` prints as part of a URL, signs the user of the kubeconfig in.
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
    from collections.abc import Callable

    from ebbtide.cluster.client.protocol import Clock

COOKIE: Final = "ebbtide-session"
NAME: Final = re.compile(r"[A-Za-z0-9_-]{43}")
#: Seconds for which a token is kept after its last use, and the maximum number of tokens.
TOKEN_SECONDS: Final = 8 * 3600.0
MAX_TOKENS: Final = 10_000


@dataclass(slots=True)
class SessionToken:
    """A token and the time of its last use."""

    token: str = field(repr=False)
    last_used: float


@dataclass(slots=True)
class BrowserSessions:
    """All sessions of this process."""

    clock: Clock
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _tokens: dict[str, SessionToken] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock)

    def identify(self, cookie: str) -> tuple[str, bool]:
        """Return the session name for a cookie, and True if it is new."""
        return (cookie, False) if NAME.fullmatch(cookie) else (secrets.token_urlsafe(32), True)

    def csrf_token(self, session: str) -> str:
        """Return the CSRF token that forms of this session must include."""
        return hmac.new(self._key, session.encode(), hashlib.sha256).hexdigest()

    def token(self, session: str) -> str:
        """Return the Kubernetes token of a session, or an empty string."""
        now = self.clock.now()
        with self._lock:
            entry = self._tokens.get(session)
            if entry is None:
                return ""
            if now - entry.last_used > TOKEN_SECONDS:
                del self._tokens[session]
                return ""
            entry.last_used = now
            return entry.token

    def begin(self, token: str) -> str:
        """Store a token and return the name of its new session, so that a name known before sign-in is useless."""
        session = secrets.token_urlsafe(32)
        now = self.clock.now()
        with self._lock:
            for name in [name for name, entry in self._tokens.items() if now - entry.last_used > TOKEN_SECONDS]:
                del self._tokens[name]
            while len(self._tokens) >= MAX_TOKENS:
                del self._tokens[min(self._tokens, key=lambda name: self._tokens[name].last_used)]
            self._tokens[session] = SessionToken(token, now)
        return session

    def end(self, session: str) -> None:
        with self._lock:
            self._tokens.pop(session, None)


@dataclass(slots=True)
class OneTimeKey:
    """The key in the URL that signs the user of the kubeconfig in; each key is valid once."""

    #: Receives each new key, to print it.
    announce: Callable[[str], None] = field(repr=False)
    _key: str = field(default="", repr=False)
    _lock: Lock = field(default_factory=Lock)

    def renew(self) -> None:
        """Replace the key, and announce the new one."""
        with self._lock:
            self._key = secrets.token_urlsafe(32)
        self.announce(self._key)

    def use(self, key: str) -> bool:
        """Return whether a key is valid; if it is, replace it, so that it cannot be used twice."""
        with self._lock:
            is_valid = bool(self._key) and secrets.compare_digest(key.encode(), self._key.encode())
            if is_valid:
                self._key = ""
        if is_valid:
            self.renew()
        return is_valid
