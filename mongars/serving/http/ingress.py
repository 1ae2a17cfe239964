"""Ingress: the FastAPI application and the Serve replica that runs it."""

import asyncio
from typing import Any

from fastapi import FastAPI
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from starlette.middleware import Middleware
from starlette.types import ASGIApp

import mongars
from mongars import telemetry
from mongars.registry.actor import RegistryClient
from mongars.serving.deployments.args import AppArgs
from mongars.serving.deployments.clients import LLMClient
from mongars.serving.deployments.cortex import connected_cortex
from mongars.serving.deployments.memory import MemoryClient
from mongars.serving.http import admin, consent, conversations, feedback, openai, profile
from mongars.serving.http.auth import KeyRing
from mongars.serving.http.envelope import Envelope, handle_errors
from mongars.serving.http.services import Services


def create_api(services: Services, *, max_body_bytes: int) -> FastAPI:
    """Return the application, without documentation pages: they would load scripts from the network."""
    api = FastAPI(
        title="monGARS",
        version=mongars.__version__,
        docs_url=None,
        redoc_url=None,
        middleware=[Middleware(Envelope, max_body_bytes=max_body_bytes)],
    )
    api.state.services = services
    handle_errors(api)
    for module in (openai, conversations, consent, feedback, profile, admin):
        api.include_router(module.router)
    return api


class Ingress:
    """The replica behind Serve's proxy."""

    async def __init__(self, args: AppArgs, memory: Any, llm: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        """Read the keys and connect. Raises SettingsError without a keys file or a backend's settings."""
        settings = args.settings
        telemetry.configure(
            "mongars-ingress", otlp_endpoint=settings.otlp_endpoint, readers=(PrometheusMetricReader(),)
        )
        keys = await asyncio.to_thread(KeyRing, settings.keys_file)
        memory_client, llm_client = MemoryClient(memory), LLMClient(llm)
        services = Services(
            keys=keys,
            cortex=await connected_cortex(args, memory_client, llm_client),
            memory=memory_client,
            llm=llm_client,
            registry=await RegistryClient.connect_or_create(
                settings.ray_namespace, settings.encoders_dir, settings.encoders_url
            ),
        )
        self._api = create_api(services, max_body_bytes=args.max_body_bytes)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Return the application that Serve runs."""
        return self._api
