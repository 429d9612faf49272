"""What the faults in force do to one request before, while and after the monitor answers it.

Owns latency, injected errors, lost answers and cut connections. It must not know resources or rows.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastmon_daemon.testbed.monitor.faults import Faults
from fastmon_daemon.testbed.monitor.responses import Response, login_page, page

LOGIN_PATH = "/accounts/login/"


class FaultMiddleware:
    """ASGI application in front of *app*. The server's outages end every pause at once through `open` and `cut`."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults
        self._cut = asyncio.Event()

    def open(self) -> None:
        """Let pauses last again: the server accepts connections."""
        self._cut = asyncio.Event()

    def cut(self) -> None:
        """End all pauses; the requests that they held up are forgotten, for their connections are gone."""
        self._cut.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request as the faults allow."""
        faults = self._faults
        if not faults.concerns(scope["path"]):
            await self._app(scope, receive, send)
            return
        if not await self._pause(faults.left("hang_s")) or not await self._pause(faults.delay("latency_ms")):
            return
        early = self._early_answer(scope)
        if early:
            await early.send(send)
        elif faults.strikes("drop_rate"):
            await self._app(scope, receive, _swallow)
            await _hang_up(scope, receive)
        elif faults.strikes("error_after_commit_rate"):
            await self._app(scope, receive, _swallow)
            await page(500).send(send)
        elif faults.delay("drip_ms"):
            await self._app(scope, receive, self._dripping(send))
        else:
            await self._app(scope, receive, send)

    async def _pause(self, seconds: float) -> bool:
        """Wait; False when the server was closed meanwhile."""
        if not seconds:
            return True
        try:
            await asyncio.wait_for(self._cut.wait(), seconds)
        except TimeoutError:
            return True
        return False

    def _early_answer(self, scope: Scope) -> Response | None:
        if self._faults.on("redirect"):
            return Response(302, headers={"Location": f"{LOGIN_PATH}?next={scope['path']}"})
        if self._faults.strikes("error_rate"):
            return page(self._faults.error_status)
        return login_page() if self._faults.strikes("html_200_rate") else None

    def _dripping(self, send: Send) -> Send:
        """*send*, but the body goes out one byte after the other."""

        async def drip(message: Message) -> None:
            body = message.get("body", b"")
            if message["type"] == "http.response.start" or not body:
                await send(message)
                return
            for position in range(len(body)):
                if not await self._pause(self._faults.delay("drip_ms")):
                    return
                last = position == len(body) - 1
                await send(
                    {
                        "type": "http.response.body",
                        "body": body[position : position + 1],
                        "more_body": message.get("more_body", False) or not last,
                    }
                )

        return drip


async def _swallow(_message: Message) -> None:
    """A way out that leads nowhere."""


async def _hang_up(scope: Scope, receive: Receive) -> None:
    """Cut the connection and wait until the server knows it, so that it does not answer in our place."""
    scope["state"]["abort"]()
    while (await receive())["type"] != "http.disconnect":
        pass
