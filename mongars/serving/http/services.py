"""What the routes need, handed to them in one object.

Owns the dependencies of FastAPI: who calls, and through which collaborators. Must not know a route.
"""

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
    """Return who calls. Raises AuthError. Not a coroutine: FastAPI puts it on a thread, as it looks at a file."""
    return services.keys.authenticate(request.headers.get("authorization"))


def get_user(principal: Annotated[Principal, Depends(get_principal)]) -> Principal:
    """Return who calls, with the scope to chat. Raises AuthError, ForbiddenError."""
    principal.require("chat")
    return principal


def get_admin(principal: Annotated[Principal, Depends(get_principal)]) -> Principal:
    """Return who calls, with the scope for operations. Raises AuthError, ForbiddenError."""
    principal.require("admin")
    return principal


UserDep = Annotated[Principal, Depends(get_user)]
AdminDep = Annotated[Principal, Depends(get_admin)]
