"""Routes on the caller's profile: names, addresses and numbers by which curation finds the user in text.

Apart from these routes only the export returns a profile.
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
        """Return the profile as a record."""
        return Profile(self.names, self.emails, self.phones)


@router.get("")
async def profile(services: ServicesDep, user: UserDep) -> dict[str, Any]:
    """Return the profile of the user."""
    return _json(await services.memory.profile(user.user))


@router.put("")
async def put(request: ProfileRequest, services: ServicesDep, user: UserDep) -> dict[str, Any]:
    """Replace the profile of the user; an empty one deletes it."""
    return _json(await services.memory.put_profile(user.user, request.profile()))


def _json(profile: Profile) -> dict[str, Any]:
    return {"object": "profile"} | asdict(profile)
