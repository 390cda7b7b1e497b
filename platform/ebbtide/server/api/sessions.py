"""Browser sessions in encrypted, signed cookies, and one-time sign-in keys.

A session is stored in the browser alone, so that every replica of the server with the same key can read it. A cookie
contains the caller's token, which neither the browser nor scripts can read. The CSRF token is derived from the session's
name. A one-time key, which ``ebbtide serve`` prints as part of a URL, signs the user of the kubeconfig in. Upstream:
github.com/fernet/spec (AES-128-CBC, HMAC-SHA256 and a time), RFC 6265 section 6.1 (4,096 bytes per cookie).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from ebbtide.cluster.client.protocol import Clock

COOKIE: Final = "ebbtide-session"
#: Seconds for which a session is valid after its last use, and after sign-in.
TOKEN_SECONDS: Final = 8 * 3600
MAX_SECONDS: Final = 24 * 3600
#: Seconds of use after which a session's cookie is replaced, which extends the session.
RENEW_SECONDS: Final = 600
#: Characters of one cookie, and maximum number of cookies for a session with a long token.
CHUNK_CHARACTERS: Final = 3_800
MAX_COOKIES: Final = 3


@dataclass(frozen=True, slots=True)
class Session:
    """One browser's session: its name, the caller's token if it is signed in, and the times of sign-in and of last use."""

    name: str
    token: str = field(default="", repr=False)
    begun: int = 0
    used: int = 0


class BrowserSessions:
    """The sessions that a set of keys can read."""

    def __init__(self, clock: Clock, keys: Sequence[str] = ()) -> None:
        """Encrypt with the first key and read with all; without a key, one that exists only in this process.

        Raises:
            ValueError: a key is not 32 bytes in URL-safe base64.
        """
        self.clock = clock
        chosen = [*keys] or [Fernet.generate_key().decode()]
        self._cipher = MultiFernet([Fernet(key) for key in chosen])
        self._csrf_key = hashlib.sha256(f"csrf {chosen[0]}".encode()).digest()

    def identify(self, cookies: Mapping[str, str]) -> tuple[Session, bool]:
        """Return the session of a request's cookies, and True if it is new or its cookie must be replaced."""
        session = self._read(cookies)
        if session is None:
            return Session(secrets.token_urlsafe(32)), True
        return session, session.used + RENEW_SECONDS < self.clock.now()

    def _read(self, cookies: Mapping[str, str]) -> Session | None:
        text = "".join(cookies.get(name, "") for name in _COOKIES)
        now = int(self.clock.now())
        try:
            packed = self._cipher.decrypt_at_time(text, TOKEN_SECONDS, now)
            name, token, begun = json.loads(zlib.decompress(packed))
            used = self._cipher.extract_timestamp(text)
        except (InvalidToken, ValueError):
            return None
        return Session(name, token, begun, used) if now - begun <= MAX_SECONDS else None

    def csrf_token(self, session: Session) -> str:
        """Return the CSRF token that forms of this session must include."""
        return hmac.new(self._csrf_key, session.name.encode(), hashlib.sha256).hexdigest()

    def token(self, cookies: Mapping[str, str]) -> str:
        """Return the token of the session in a request's cookies, or an empty string."""
        session = self._read(cookies) if COOKIE in cookies else None
        return "" if session is None else session.token

    def begin(self, token: str = "") -> Session:
        """Return a new session, so that a session known before sign-in is useless."""
        return Session(secrets.token_urlsafe(32), token, int(self.clock.now()))

    def write(self, session: Session) -> dict[str, str]:
        """Return the cookies of a session by name; a cookie without a value is to be deleted.

        Raises:
            ValueError: the session's token is too long for the cookies.
        """
        now = int(self.clock.now())
        packed = zlib.compress(json.dumps([session.name, session.token, session.begun or now]).encode(), 9)
        text = self._cipher.encrypt_at_time(packed, now).decode()
        if len(text) > MAX_COOKIES * CHUNK_CHARACTERS:
            raise ValueError("the token is too long for a session")
        return {
            name: text[index * CHUNK_CHARACTERS : (index + 1) * CHUNK_CHARACTERS] for index, name in enumerate(_COOKIES)
        }


_COOKIES: Final = (COOKIE, *(f"{COOKIE}-{number}" for number in range(2, MAX_COOKIES + 1)))


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
