"""Routes on feedback of users on an answer, or on a memory recalled for it.

Feedback on conversations with consent becomes pairs and hard negatives of stage 2.
"""

from typing import Any

from fastapi import APIRouter

from mongars.serving.http.conversations import PageDep
from mongars.serving.http.schemas import FeedbackRequest, feedback_json, list_json
from mongars.serving.http.services import ServicesDep, UserDep

router = APIRouter(prefix="/v1/feedback")


@router.post("")
async def give(request: FeedbackRequest, services: ServicesDep, user: UserDep) -> dict[str, Any]:
    """Store feedback, which replaces earlier feedback on the same target."""
    return feedback_json(await services.memory.give_feedback(user.user, **request.model_dump()))


@router.get("")
async def list_feedback(services: ServicesDep, user: UserDep, query: PageDep) -> dict[str, Any]:
    """List the user's feedback."""
    page = await services.memory.feedback(user.user, query)
    return list_json([feedback_json(each) for each in page.data], has_more=page.has_more)


@router.delete("/{feedback_id}")
async def withdraw(feedback_id: str, services: ServicesDep, user: UserDep) -> dict[str, Any]:
    """Delete feedback permanently."""
    await services.memory.withdraw_feedback(user.user, feedback_id)
    return {"id": feedback_id, "object": "feedback.deleted", "deleted": True}
