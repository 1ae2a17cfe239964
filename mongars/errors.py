"""The error classes of monGARS.

    MongarsError                     1  500  internal_error
    ├── UserError                    2  400  invalid_request_error
    │   ├── SettingsError                    an unknown or impossible setting, flag or YAML key
    │   └── InputError                       a file, line or request body that cannot be read
    ├── NotFoundError                1  404  not_found
    │   ├── ModelNotFoundError               model_not_found: an unknown or revoked model or adapter
    │   ├── DatasetNotFoundError
    │   ├── ConversationNotFoundError
    │   ├── MessageNotFoundError
    │   └── FeedbackNotFoundError
    ├── AuthError                    1  401  invalid_api_key
    │   └── ForbiddenError              403  the key lacks the scope
    ├── RefusedError                 1  409  refused
    │   ├── AdapterRefusedError              an adapter folder that failed validation
    │   ├── DatasetRefusedError              a dataset version that is not `ready`, empty or damaged
    │   ├── StaleGenerationError             the manifest changed since it was read
    │   └── GateRefusedError         3       a candidate that is not significantly better
    ├── TrainingError                1       a run that cannot continue (NaN loss, missing modules)
    │   └── TrainingStoppedError   130       a run that was interrupted and can be resumed
    ├── ResourceError                1  503  too little memory or disk
    └── UnavailableError             4  503  unavailable
        ├── PortInUseError
        ├── OverloadedError             429  rate_limit_exceeded, with `retry_after_s`
        └── BackendError                502  a model backend that failed or cannot be reached

Columns: exit code of the command line, HTTP status, `code` of the OpenAI error object. Empty columns are
inherited. Every class is picklable, because Ray sends errors between processes.
"""

from collections.abc import Callable
from typing import Any


def _rebuild(cls: "type[MongarsError]", message: str, state: dict[str, Any]) -> "MongarsError":
    error = cls(message)
    error.__dict__.update(state)
    return error


class MongarsError(Exception):
    """Base class. `message` says what is wrong, `remedy` what the user can do about it."""

    exit_code = 1
    http_status = 500
    type = "server_error"
    code = "internal_error"

    def __init__(self, message: str, *, remedy: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.param = param

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[Callable[..., "MongarsError"], tuple[Any, ...]]:
        return _rebuild, (type(self), self.message, dict(self.__dict__))


class UserError(MongarsError):
    """An error that the caller can correct."""

    exit_code = 2
    http_status = 400
    type = "invalid_request_error"
    code = "invalid_request_error"


class SettingsError(UserError):
    """An unknown or impossible setting, flag or YAML key."""

    code = "invalid_settings"


class InputError(UserError):
    """A file, line or request body that cannot be read."""

    code = "invalid_input"


class NotFoundError(MongarsError):
    """The named object does not exist, or not for this user."""

    http_status = 404
    type = "invalid_request_error"
    code = "not_found"


class ModelNotFoundError(NotFoundError):
    """An unknown or revoked model or adapter; the base never answers instead."""

    code = "model_not_found"


class DatasetNotFoundError(NotFoundError):
    """No such dataset or version in the catalog."""

    code = "dataset_not_found"


class ConversationNotFoundError(NotFoundError):
    """No such conversation of this user."""

    code = "conversation_not_found"


class MessageNotFoundError(NotFoundError):
    """No such message of this user."""

    code = "message_not_found"


class FeedbackNotFoundError(NotFoundError):
    """No such feedback of this user."""

    code = "feedback_not_found"


class AuthError(MongarsError):
    """A missing or unknown key."""

    http_status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class ForbiddenError(AuthError):
    """A known key without the required scope."""

    http_status = 403
    code = "insufficient_scope"


class RefusedError(MongarsError):
    """An operation that a rule forbids."""

    http_status = 409
    type = "invalid_request_error"
    code = "refused"


class AdapterRefusedError(RefusedError):
    """An adapter folder that failed validation; the message says what was found."""

    code = "adapter_refused"


class DatasetRefusedError(RefusedError):
    """A dataset version that is not `ready`, is empty, or does not match its digest."""

    code = "dataset_refused"


class StaleGenerationError(RefusedError):
    """The manifest changed since it was read: read it and decide again."""

    code = "stale_generation"


class GateRefusedError(RefusedError):
    """A candidate adapter that is not significantly better than the champion."""

    exit_code = 3
    code = "gate_refused"


class TrainingError(MongarsError):
    """A training run that cannot continue."""

    code = "training_failed"


class TrainingStoppedError(TrainingError):
    """An interrupted training run, which can be resumed from its checkpoint."""

    exit_code = 130  # 128 + SIGINT, as in shells
    code = "training_stopped"


class ResourceError(MongarsError):
    """Too little memory or disk space."""

    http_status = 503
    code = "insufficient_resources"


class UnavailableError(MongarsError):
    """A required service is not running."""

    exit_code = 4
    http_status = 503
    code = "unavailable"


class PortInUseError(UnavailableError):
    """Another program listens on the port."""

    code = "port_in_use"


class OverloadedError(UnavailableError):
    """The queue is full; try again after `retry_after_s` seconds."""

    http_status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    retry_after_s = 1


class BackendError(UnavailableError):
    """A model backend that failed or cannot be reached."""

    http_status = 502
    code = "backend_error"
