"""Route for the findings of ``rtface doctor``."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rtface_studio.commands import SharedResult, json_of
from rtface_studio.context import Studio


def routes(studio: Studio) -> list[BaseRoute]:
    """Returns the route ``/api/health``."""
    doctor = SharedResult(lambda: json_of("doctor", accept=(0, 1)))  # exit code 1: doctor found faults

    async def health(request: Request) -> Response:
        return JSONResponse(await doctor())

    return [Route("/api/health", health)]
