"""Sessions of the page: several replicas serve them, and they cannot be read, changed or used for longer than allowed."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet

import serving
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.server.api import sessions
from ebbtide.server.api.sessions import COOKIE, BrowserSessions
from ebbtide.server.web.routes import make_router

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))
TOKEN = serving.CALLERS["owner"].token


def test_two_replicas_with_one_key_serve_the_same_session() -> None:
    with ExitStack() as stack:
        clients = []
        for keys in ((OLD,), (NEW, OLD), (OTHER,)):
            _, backend = serving.backend(session_keys=keys)
            clients.append(stack.enter_context(serving.served(backend, routers=[make_router(backend)])))
        first, second, stranger = clients
        form = {"Sec-Fetch-Site": "same-origin"}
        csrf = first.get("/login").text.partition('name="csrf" value="')[2][:64]
        assert first.post("/login", data={"csrf": csrf, "token": TOKEN, "next": "/"}, headers=form).status_code == 303
        for client, status in ((first, 200), (second, 200), (stranger, 303)):
            client.cookies.update(first.cookies)
            assert client.get("/workloads").status_code == status
            assert client.get("/api/ebbtide/v1/whoami").status_code == (200 if status == 200 else 401)
        assert TOKEN not in str(first.cookies)
        # A form of one replica is accepted by another one with the same first key.
        page = first.get("/workloads").text.partition('name="csrf" value="')[2][:64]
        assert first.post("/logout", data={"csrf": page}, headers=form).headers["location"] == "/login"
        assert first.get("/workloads").status_code == 303


def test_a_session_ends_without_use_and_after_a_day() -> None:
    clock = ManualClock()
    kept = BrowserSessions(clock, [OLD])
    cookies = kept.write(kept.begin("secret"))
    clock.sleep(sessions.TOKEN_SECONDS - 10)
    session, is_renewed = kept.identify(cookies)
    assert (session.token, is_renewed) == ("secret", True)
    clock.sleep(20)
    assert kept.identify(cookies)[0].token == ""
    cookies = kept.write(session)
    assert kept.token(cookies) == "secret"
    for _ in range(4):
        clock.sleep(5 * 3600)
        cookies = kept.write(session)
    assert kept.token(cookies) == ""


def test_a_changed_cookie_is_not_a_session() -> None:
    kept = BrowserSessions(ManualClock(), [OLD])
    cookies = kept.write(kept.begin("secret"))
    text = cookies[COOKIE]
    for changed in ("", "x", text[:-2], text[:40] + ("A" if text[40] != "A" else "B") + text[41:], "ä", "a" * 43):
        assert kept.identify({COOKIE: changed})[0].token == ""
        assert kept.identify({COOKIE: changed})[1]


def test_a_long_token_uses_several_cookies_and_a_longer_one_is_refused() -> None:
    kept = BrowserSessions(ManualClock(), [OLD])
    long, longer = ("".join(Fernet.generate_key().decode() for _ in range(count)) for count in (180, 400))
    cookies = kept.write(kept.begin(long))
    assert all(len(value) <= 4_000 for value in cookies.values())
    assert kept.token(cookies) == long
    with pytest.raises(ValueError, match="too long"):
        kept.write(kept.begin(longer))


def test_invalid_keys_are_reported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="32"):
        BrowserSessions(ManualClock(), ["short"])
    from ebbtide.cli import make_parser  # noqa: PLC0415 - only needed here
    from ebbtide.cli.operate import serve  # noqa: PLC0415 - only needed here

    file = tmp_path / "key"
    options = make_parser("serve").parse_args(["serve", "--session-key-file", str(file)])
    for text, message in (
        (None, "cannot read the session keys"),
        ("", "invalid session keys"),
        ("x", "invalid session"),
    ):
        if text is not None:
            file.write_text(text)
        with pytest.raises(SystemExit):
            serve._read_session_keys(options)  # noqa: SLF001 - the function under test
        assert message in capsys.readouterr().err
    file.write_text(f"{NEW}\n{OLD}\n")
    assert serve._read_session_keys(options) == (NEW, OLD)  # noqa: SLF001 - as above
