"""Routes for operators: adapters, status, health, readiness, metrics.

Adapters and status need the scope `admin`; health, readiness and metrics contain no user's data.
"""

import asyncio
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from mongars import telemetry
from mongars.errors import MongarsError
from mongars.records import AdapterRef, as_json
from mongars.registry.registry import Publication
from mongars.serving.http.envelope import error_response
from mongars.serving.http.schemas import RollbackRequest, list_json
from mongars.serving.http.services import AdminDep, ServicesDep

router = APIRouter()
_generation = telemetry.meter.create_gauge(telemetry.ADAPTER_GENERATION)
_skew = telemetry.meter.create_gauge(telemetry.ADAPTER_SKEW)


@router.get("/v1/adapters")
async def adapters(services: ServicesDep, _: AdminDep) -> dict[str, Any]:
    """List every known adapter with its state and metrics."""
    manifest = await services.registry.snapshot()
    answer = list_json([_adapter(ref) for ref in manifest.adapters])
    return answer | {"generation": manifest.generation, "current": dict(manifest.current)}


@router.post("/v1/adapters/rollback")
async def rollback(services: ServicesDep, _: AdminDep, request: RollbackRequest | None = None) -> dict[str, Any]:
    """Serve the previously served adapter again, as a new generation."""
    return _publication(await services.registry.rollback((request or RollbackRequest()).kind))


@router.post("/v1/adapters/{digest}/promote")
async def promote(digest: str, services: ServicesDep, _: AdminDep) -> dict[str, Any]:
    """Serve a known adapter from now on."""
    return _publication(await services.registry.promote(digest))


@router.get("/v1/status")
async def status(services: ServicesDep, _: AdminDep) -> dict[str, Any]:
    """Show the registry's generation, the replicas' generations and lag, and each replica's load."""
    registry, loads = await asyncio.gather(services.registry.status(), services.llm.statuses())
    _measure(registry.generation, registry.skew)
    return as_json(registry) | {"object": "status", "loads": loads}


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Report that this process runs."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(services: ServicesDep) -> JSONResponse:
    """Report whether a model replica and the memory answer."""
    try:
        stamp, _ = await asyncio.gather(services.llm.stamp(), services.memory.ready())
    except MongarsError as error:
        return error_response(error)
    return JSONResponse({"status": "ready", "generation": stamp.generation})


@router.get("/metrics")
async def metrics(services: ServicesDep) -> Response:
    """Return this process's metrics, with the registry's generation and skew, in Prometheus' text format."""
    registry = await services.registry.status()
    _measure(registry.generation, registry.skew)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _measure(generation: int, skew: int) -> None:
    _generation.set(generation)
    _skew.set(skew)


def _adapter(ref: AdapterRef) -> dict[str, Any]:
    return {"id": ref.digest, "object": "adapter"} | as_json(ref)


def _publication(publication: Publication) -> dict[str, Any]:
    return {
        "object": "publication",
        "generation": publication.generation,
        "changed": publication.changed,
        "adapter": _adapter(publication.adapter),
    }
