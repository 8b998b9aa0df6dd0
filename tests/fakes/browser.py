"""Opens a page in Chromium without a window, presses keys and reads what it shows."""

import asyncio
import contextlib
import json
import pathlib
import shutil
import subprocess
from collections.abc import AsyncIterator

# Debian's name, then others.
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_SECONDS = 120


class Page:
    """One page; speaks the Chrome DevTools Protocol."""

    def __init__(self, socket):
        self._socket = socket
        self._number = 0

    async def send(self, method: str, **parameters) -> dict:
        """Sends a command and returns its result; other messages are skipped."""
        self._number += 1
        await self._socket.send_json(
            {"id": self._number, "method": method, "params": parameters}
        )
        while True:
            message = await self._socket.receive_json(timeout=_SECONDS)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    async def open(self, path: pathlib.Path) -> None:
        """Opens a file and waits until its scripts have run."""
        await self.send("Page.navigate", url=path.as_uri())
        await self.wait_for(f"location.href === {json.dumps(path.as_uri())}")
        await self.wait_for("document.readyState === 'complete'")

    async def evaluate(self, script: str):
        """Returns the value of an expression."""
        reply = await self.send(
            "Runtime.evaluate", expression=script, returnByValue=True
        )
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    async def wait_for(self, condition: str) -> None:
        """Waits until an expression is true."""
        async with asyncio.timeout(_SECONDS):
            while not await self.evaluate(condition):
                await asyncio.sleep(0.05)

    async def press(self, *keys: str) -> None:
        """Presses and releases keys: letters, or names such as ArrowLeft."""
        for key in keys:
            text = {"text": key} if len(key) == 1 else {}
            await self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            await self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def click(self, selector: str) -> None:
        """Clicks in the middle of an element, with the mouse."""
        x, y = await self.evaluate(
            f"(() => {{const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        place = {"x": x, "y": y, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            await self.send("Input.dispatchMouseEvent", type=kind, **place)


@contextlib.asynccontextmanager
async def open_browser(folder: pathlib.Path) -> AsyncIterator[Page]:
    """Starts Chromium, which saves its downloads in `folder`.

    The browser keeps its profile in folder/profile, so that a second browser of the
    same folder finds what the first one stored.
    """
    import aiohttp

    profile = folder / "profile"
    port_file = profile / "DevToolsActivePort"
    port_file.unlink(missing_ok=True)
    process = subprocess.Popen(
        [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu"),
            *(
                "--no-first-run",
                "--disable-dev-shm-usage",
                f"--user-data-dir={profile}",
            ),
            *("--remote-debugging-port=0", "about:blank"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            while not (port_file.is_file() and "\n" in port_file.read_text()):
                assert process.poll() is None, "Chromium has ended"
                await asyncio.sleep(0.05)
        port = port_file.read_text().split("\n")[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as reply:
                targets = await reply.json()
            (url,) = [t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page"]
            async with session.ws_connect(url, max_msg_size=0) as socket:
                page = Page(socket)
                await page.send(
                    "Browser.setDownloadBehavior",
                    behavior="allow",
                    downloadPath=str(folder),
                )
                yield page
                await page.send("Browser.close")
        process.wait(_SECONDS)
    finally:
        process.kill()
        process.wait()
