"""Routes on a user's own profile: the names, addresses and numbers by which curation finds the user.

Owns their shapes. What is in a profile leaves through no other route than the export.
"""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from mongars.records import Profile
from mongars.serving.http.services import ServicesDep, UserDep

router = APIRouter(prefix="/v1/users/me/profile")


class ProfileRequest(BaseModel):
    """PUT /v1/users/me/profile."""

    model_config = ConfigDict(extra="forbid")

    names: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()

    def profile(self) -> Profile:
        """Return the record of it."""
        return Profile(self.names, self.emails, self.phones)


@router.get("")
async def profile(services: ServicesDep, user: UserDep) -> dict[str, Any]:
    """Return what is known of the user."""
    return _json(await services.memory.profile(user.user))


@router.put("")
async def put(request: ProfileRequest, services: ServicesDep, user: UserDep) -> dict[str, Any]:
    """Keep what is known of the user, in place of what was known before; nothing at all deletes it."""
    return _json(await services.memory.put_profile(user.user, request.profile()))


def _json(profile: Profile) -> dict[str, Any]:
    return {"object": "profile"} | asdict(profile)
