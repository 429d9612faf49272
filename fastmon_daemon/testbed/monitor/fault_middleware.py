"""Applies the faults in force to a request: latency, capacity, injected errors, lost responses and cut connections."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastmon_daemon.testbed.monitor.faults import Faults
from fastmon_daemon.testbed.monitor.responses import Response, login_page, page

LOGIN_PATH = "/accounts/login/"


class FaultMiddleware:
    """ASGI application in front of *app*. `cut` ends all pauses when the server goes down, `open` allows them again."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults
        self._cut = asyncio.Event()
        self._queued = 0

    def open(self) -> None:
        """Allow pauses: the server accepts connections again."""
        self._cut = asyncio.Event()

    def cut(self) -> None:
        """End all pauses and drop the paused requests, whose connections are gone."""
        self._cut.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request with the faults in force."""
        faults = self._faults
        if not faults.apply_to(scope["path"]):
            await self._app(scope, receive, send)
            return
        if not (
            await self._pause(faults.left("hang_s"))
            and await self._pause(faults.delay("latency_ms"))
            and await self._wait_for_turn()
        ):
            return
        injected = self._injected_response(scope)
        if injected:
            await injected.send(send)
        elif faults.hits("drop_rate"):
            await self._app(scope, receive, _swallow)
            await _hang_up(scope, receive)
        elif faults.hits("error_after_commit_rate"):
            await self._app(scope, receive, _swallow)
            await page(500).send(send)
        elif faults.delay("drip_ms"):
            await self._app(scope, receive, self._dripping(send))
        else:
            await self._app(scope, receive, send)

    async def _wait_for_turn(self) -> bool:
        """Wait until the limited capacity has served this request; False if the server went down meanwhile."""
        seconds = self._faults.take_turn(self._queued)
        self._queued += 1
        try:
            return await self._pause(seconds)
        finally:
            self._queued -= 1

    async def _pause(self, seconds: float) -> bool:
        """Wait; False if the server went down meanwhile."""
        if not seconds:
            return True
        try:
            await asyncio.wait_for(self._cut.wait(), seconds)
        except TimeoutError:
            return True
        return False

    def _injected_response(self, scope: Scope) -> Response | None:
        if self._faults.on("redirect"):
            return Response(302, headers={"Location": f"{LOGIN_PATH}?next={scope['path']}"})
        if self._faults.hits("error_rate"):
            return page(self._faults.error_status)
        return login_page() if self._faults.hits("html_200_rate") else None

    def _dripping(self, send: Send) -> Send:
        """Wrap *send* so that it sends the body byte by byte, with pauses."""

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
    """Discard a message of the response."""


async def _hang_up(scope: Scope, receive: Receive) -> None:
    """Cut the connection and wait until uvicorn has noticed it; otherwise uvicorn would answer with an error."""
    scope["state"]["abort"]()
    while (await receive())["type"] != "http.disconnect":
        pass
