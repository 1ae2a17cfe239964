"""Routes on the caller's consent to training: for everything, or for one conversation."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Strict

from mongars.serving.http.services import ServicesDep, UserDep

router = APIRouter(prefix="/v1")


class ConsentRequest(BaseModel):
    """Whether conversations may be trained on."""

    model_config = ConfigDict(extra="forbid")

    consent: Annotated[bool, Strict()]


@router.get("/users/me/consent")
async def consent(services: ServicesDep, user: UserDep) -> dict[str, Any]:
    """Return the user's own choice, null if there is none: then that of the key counts."""
    return {"object": "consent", "consent": await services.memory.consent(user.user)}


@router.put("/users/me/consent")
async def put(request: ConsentRequest, services: ServicesDep, user: UserDep) -> dict[str, Any]:
    """Allow or forbid training on all conversations of the user, those that are stored and those to come."""
    changed = await services.memory.put_consent(user.user, request.consent)
    return {"object": "consent", "consent": request.consent, "changed_conversations": changed}


@router.post("/conversations/{conversation_id}")
async def put_conversation(
    conversation_id: str, request: ConsentRequest, services: ServicesDep, user: UserDep
) -> dict[str, Any]:
    """Allow or forbid training on one conversation."""
    await services.memory.put_conversation_consent(user.user, conversation_id, request.consent)
    return {"id": conversation_id, "object": "conversation", "consent": request.consent}
