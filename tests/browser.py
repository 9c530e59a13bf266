"""A headless Chromium, driven over its DevTools protocol: just enough to open a page, ask it something and picture it."""

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import websocket_connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Background work of the browser's own would look for hosts that a test machine may not reach.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


def find():
    """The browser's program, named by CHROMIUM or found on the path, or None."""
    return next(filter(None, map(shutil.which, filter(None, (os.environ.get("CHROMIUM"), *NAMES)))), None)


class Page:
    """`async with Page(program) as page:` starts a browser with one empty page, and ends it."""

    def __init__(self, program):
        self.program = program
        self.numbers = itertools.count(1)

    async def __aenter__(self):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [self.program, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={self.profile.name}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port_file = Path(self.profile.name) / "DevToolsActivePort"
        port = await until(lambda: port_file.exists() and port_file.read_text().splitlines(), 60, "the browser does not start")
        targets = json.loads((await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port[0]}/json/list")).body)
        address = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
        self.socket = await websocket_connect(address, max_message_size=256 << 20)
        await self.send("Page.enable")
        # Without it a page that no screen shows has no focus, and what waits for focus waits for ever.
        await self.send("Emulation.setFocusEmulationEnabled", enabled=True)
        return self

    async def __aexit__(self, *_):
        self.socket.close()
        self.process.terminate()
        self.process.wait(30)
        self.profile.cleanup()

    async def send(self, method, **parameters):
        number = next(self.numbers)
        await self.socket.write_message(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = await self.socket.read_message()
            if message is None:
                raise RuntimeError(f"the browser ended during {method}")
            answer = json.loads(message)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    async def evaluate(self, expression):
        """The value of a JavaScript expression; a promise is waited for."""
        answer = await self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    async def open(self, address):
        await self.send("Page.navigate", url=address)

    async def size(self, width, height):
        await self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    async def picture(self, path):
        answer = await self.send("Page.captureScreenshot", format="png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(answer["data"]))


async def until(condition, seconds, complaint):
    """Waits until `condition` gives something true (it may be a coroutine), and returns that."""
    for _ in range(int(seconds * 5)):
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        await asyncio.sleep(0.2)
    raise RuntimeError(complaint)
