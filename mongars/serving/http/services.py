"""FastAPI dependencies of the routes: the caller and the collaborators."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from mongars.conversation.cortex import Cortex
from mongars.registry.actor import RegistryClient
from mongars.serving.deployments.clients import LLMClient
from mongars.serving.deployments.memory import MemoryClient
from mongars.serving.http.auth import KeyRing, Principal


@dataclass(frozen=True)
class Services:
    """The collaborators of the routes."""

    keys: KeyRing
    cortex: Cortex
    memory: MemoryClient
    llm: LLMClient
    registry: RegistryClient


def get_services(request: Request) -> Services:
    """Return the services of this application."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


ServicesDep = Annotated[Services, Depends(get_services)]


def get_principal(request: Request, services: ServicesDep) -> Principal:
    """Return the caller. Raises AuthError. Not a coroutine, so that FastAPI reads the file on a thread."""
    return services.keys.authenticate(request.headers.get("authorization"))


def get_user(principal: Annotated[Principal, Depends(get_principal)]) -> Principal:
    """Return a caller with the scope `chat`. Raises AuthError, ForbiddenError."""
    principal.require("chat")
    return principal


def get_admin(principal: Annotated[Principal, Depends(get_principal)]) -> Principal:
    """Return a caller with the scope `admin`. Raises AuthError, ForbiddenError."""
    principal.require("admin")
    return principal


UserDep = Annotated[Principal, Depends(get_user)]
AdminDep = Annotated[Principal, Depends(get_admin)]
