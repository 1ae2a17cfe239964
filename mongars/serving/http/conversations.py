"""Routes on the caller's own conversations: list, read, search, export, delete.

Unlike OpenAI's, deletion of a conversation includes its messages.
"""

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, StreamingResponse

from mongars.memory.pages import ConversationRow, PageQuery
from mongars.records import Conversation, Feedback, Memory, Turn, as_json, new_id, now
from mongars.serving.http.schemas import SearchRequest, feedback_json, list_json, memory_score_json, stamp_json
from mongars.serving.http.services import Services, ServicesDep, UserDep

router = APIRouter(prefix="/v1")
ACCEPTED = 202


def get_page(
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> PageQuery:
    """Return the requested page of a list."""
    return PageQuery(limit=limit, order=order, after=after)


PageDep = Annotated[PageQuery, Depends(get_page)]


@router.get("/conversations")
async def conversations(services: ServicesDep, user: UserDep, query: PageDep) -> dict[str, Any]:
    """List the user's conversations."""
    page = await services.memory.conversations(user.user, query)
    return list_json([_conversation(row) for row in page.data], has_more=page.has_more)


@router.get("/conversations/{conversation_id}/messages")
async def messages(conversation_id: str, services: ServicesDep, user: UserDep, query: PageDep) -> dict[str, Any]:
    """List the messages of a conversation."""
    page = await services.memory.messages(user.user, conversation_id, query)
    return list_json([_message(memory) for memory in page.data], has_more=page.has_more)


@router.delete("/conversations/{conversation_id}")
async def delete_conversation(conversation_id: str, services: ServicesDep, user: UserDep) -> dict[str, Any]:
    """Delete a conversation with all its messages and their traces in the index."""
    await services.memory.delete_conversation(user.user, conversation_id)
    return {"id": conversation_id, "object": "conversation.deleted", "deleted": True}


@router.post("/memory/search")
async def search(request: SearchRequest, services: ServicesDep, user: UserDep) -> dict[str, Any]:
    """Search earlier messages, best first, with the parts of each score."""
    recall = await services.memory.recall(user.user, request.query, request.k)
    data = [_message(memory) | {"object": "memory", "text": memory.text} for memory in recall.memories]
    found = [one | memory_score_json(memory) for one, memory in zip(data, recall.memories, strict=True)]
    return list_json(found) | {"mongars": stamp_json(recall.stamp)}


@router.get("/users/me/export")
async def export(services: ServicesDep, user: UserDep) -> StreamingResponse:
    """Stream all stored data of the user: NDJSON, one conversation a line."""
    return StreamingResponse(_lines(services, user.user), media_type="application/x-ndjson")


@router.delete("/users/me/data", status_code=ACCEPTED)
async def erase(services: ServicesDep, user: UserDep) -> JSONResponse:
    """Erase all data of the user and return a receipt with the count of removed items by store."""
    removed = await services.memory.erase(user.user)
    receipt = {
        "id": new_id("era"),
        "object": "erasure",
        "status": "succeeded",
        "user": user.user,
        "removed": removed,
        "completed_at": now().isoformat(),
    }
    return JSONResponse(receipt, status_code=ACCEPTED)


async def _lines(services: Services, user: str) -> AsyncGenerator[str, None]:
    async for conversation, feedback in services.memory.export(user):
        yield json.dumps(_exported(conversation, feedback), ensure_ascii=False) + "\n"


def _exported(conversation: Conversation, feedback: Sequence[Feedback]) -> dict[str, Any]:
    """Return a conversation in the format of `mongars ingest` and `curate`, with its feedback."""
    return {
        "id": conversation.id,
        "source": conversation.source,
        "user": conversation.user,
        "consent": conversation.consent,
        "messages": [_turn(turn) for turn in conversation.turns],
        "abandoned": [_turn(turn) for turn in conversation.abandoned],
        "opinions": [as_json(opinion) for opinion in conversation.opinions],
        "profile": as_json(conversation.profile),
        "feedback": [feedback_json(each) for each in feedback],
    }


def _turn(turn: Turn) -> dict[str, Any]:
    created_at = turn.created_at.isoformat() if turn.created_at else None
    return {"role": turn.role, "content": turn.content, "created_at": created_at}


def _conversation(row: ConversationRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "conversation",
        "created_at": int(row.created_at.timestamp()),
        "source": row.source,
        "consent": row.consent,
        "messages": row.turns,
    }


def _message(memory: Memory) -> dict[str, Any]:
    return {
        "id": memory.id,
        "object": "message",
        "conversation_id": memory.conversation_id,
        "role": memory.role,
        "content": memory.text,
        "created_at": int(memory.created_at.timestamp()),
    }
