"""The page: nothing of the log is markup, nothing is fetched or run; and a browser shows it, in light and in dark."""

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import zlib
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import pytest

from agentgate.audit.findings import find
from agentgate.audit.names import keys_of
from agentgate.audit.page import page

from .day import day

HOSTILE: Final = (
    "<script>document.title='owned'</script>",
    '"><img src=URL onerror="document.title=\'owned\'">',
    "'--></style></svg></title><script src=URL></script>",
    "&lt;b&gt;\x1b[31m\u202e",
)
SECONDS: Final = 60.0  # for a browser to start on a busy machine


def made(tmp_path: Path, lines: Sequence[str], by: str = "principal,called") -> str:
    path = tmp_path / "access.log"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return page(find([str(path)], keys_of(by), since=None, until=None, told=lambda done, size: None))


def hostile(url: str) -> list[str]:
    """Lines in which every text is markup that asks for `url`."""
    bad = [text.replace("URL", url) for text in HOSTILE]
    lines = []
    for number in range(200):
        fields: dict[str, Any] = {
            "gen_ai.tool.name": bad[number % 4],
            "principal": bad[number // 4 % 4],
            "duration": f"{number}ms",
            "gen_ai.usage.input_tokens": number,
        }
        if number % 3 == 0:
            fields |= {"reason": bad[number % 4], "error": bad[number // 3 % 4]}
        elif number % 3 == 1:
            fields |= {"shadow.policy": bad[number % 4], "shadow.rule": bad[number // 4 % 4]}
        time = f"2026-11-24T{number % 24:02}:00:00.000000Z"
        lines.append(json.dumps({"level": "info", "time": time, "scope": "request", **fields}))
    return lines


class Elements(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")


@pytest.mark.parametrize("by", ["principal,called", "tool", "tool,principal,reason,rule"])
def test_nothing_of_the_log_is_markup(tmp_path: Path, by: str) -> None:
    found = Elements(made(tmp_path, hostile("http://example.com/"), by))
    plain = Elements(made(tmp_path, list(day(3000)), by))
    assert found.names <= plain.names | {"p"}
    assert not found.names & {"script", "img", "link", "iframe", "object", "a", "form"}
    assert set(found.attributes) == set(plain.attributes)
    assert not set(found.attributes) & {"style", "src", "href", "onerror", "srcset", "xlink:href"}
    assert "\x1b" not in made(tmp_path, hostile("x"), by)


def test_its_policy_forbids_everything_but_its_own_style(tmp_path: Path) -> None:
    text = made(tmp_path, list(day(100)))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/]{43}='; base-uri 'none'; form-action 'none'", policy[1]
    )
    assert text.index("Content-Security-Policy") < text.index("<title>") < text.index("<style>")


def test_what_it_says(tmp_path: Path) -> None:
    text = made(tmp_path, list(day(20_000)))
    for said in (
        "2026-11-24 00:00:18 to 23:59:44 UTC",
        "41 lines are missing",
        '<td class="rule">nobody drops tables</td>',
        "<title>research-agent, tool drop_table: 79 calls, 79 refused</title>",
        "<title>alice, model gpt-4o: 302 calls, 88 refused</title>",
        "<title>billing-agent, tool export_orders: 335 calls, 334 would have been refused</title>",
        "<title>2026-11-24 14:45: 70</title>",
    ):
        assert said in text


def test_no_calls(tmp_path: Path) -> None:
    assert "<p>No calls.</p>" in made(tmp_path, ["hello"])


@pytest.mark.parametrize("lines", [1, 3, 50])
def test_small_logs(tmp_path: Path, lines: int) -> None:
    text = made(tmp_path, list(day(lines)))
    assert "<h2>Over time</h2>" in text
    assert "nan" not in text


# -- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture
def chromium(tmp_path: Path) -> list[str]:
    """The command, without a profile, a sandbox or a network."""
    command = shutil.which("chromium") or shutil.which("chromium-browser")
    if command is None:
        pytest.skip("chromium is not installed")
    switches = "headless=new no-sandbox disable-gpu hide-scrollbars no-first-run disable-background-networking"
    switches += " disable-component-update disable-sync disable-dev-shm-usage enable-logging=stderr"
    return [
        command,
        *(f"--{switch}" for switch in switches.split()),
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]


def shot(chromium: list[str], html: Path, image: Path, *switches: str) -> tuple[list[str], bytes]:
    """What the page says on the console, and the colour of its first pixel."""
    done = subprocess.run(
        [*chromium, *switches, "--window-size=1240,2000", f"--screenshot={image}", html.as_uri()],
        capture_output=True, text=True, timeout=SECONDS, env={**os.environ, "HOME": str(html.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return console, first_pixel(image.read_bytes())


def first_pixel(png: bytes) -> bytes:
    """Of an image of eight bits a colour: whatever the first row's filter, its first pixel is as it is."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    data, place = b"", 8
    while place < len(png):
        (size,) = struct.unpack(">I", png[place : place + 4])
        if png[place + 4 : place + 8] == b"IDAT":
            data += png[place + 8 : place + 8 + size]
        place += size + 12
    return zlib.decompress(data)[1:4]


def test_a_browser_shows_it_and_runs_and_fetches_nothing(tmp_path: Path, chromium: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        html = tmp_path / "page.html"
        html.write_text(made(tmp_path, [*hostile(url), *day(2000)]), "utf-8")
        assert shot(chromium, html, tmp_path / "light.png") == ([], bytes.fromhex("ffffff"))
        dark = "--blink-settings=preferredColorScheme=0"
        assert shot(chromium, html, tmp_path / "dark.png", dark) == ([], bytes.fromhex("11161d"))
        with pytest.raises(BlockingIOError):
            server.accept()
        # A text that slipped through would be seen here, and could do nothing.
        html.write_text(html.read_text("utf-8").replace("<h1>", HOSTILE[0] + HOSTILE[1].replace("URL", url) + "<h1>"))
        console, _ = shot(chromium, html, tmp_path / "bad.png")
        assert len(console) >= 2
        assert all("violates the following Content Security Policy directive" in line for line in console)
        with pytest.raises(BlockingIOError):
            server.accept()
