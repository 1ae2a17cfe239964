"""Every error that monGARS raises on purpose.

    MongarsError                     1  500  internal_error
    ├── UserError                    2  400  invalid_request_error
    │   ├── SettingsError                    an unknown or impossible setting, flag or YAML key
    │   └── InputError                       a file, line or request body that cannot be read
    ├── NotFoundError                1  404  not_found
    │   ├── ModelNotFoundError               model_not_found: a model or adapter that is unknown or revoked
    │   ├── DatasetNotFoundError
    │   ├── ConversationNotFoundError
    │   ├── MessageNotFoundError
    │   └── FeedbackNotFoundError
    ├── AuthError                    1  401  invalid_api_key
    │   └── ForbiddenError              403  the key lacks the scope
    ├── RefusedError                 1  409  refused
    │   ├── AdapterRefusedError              an adapter folder that failed validation
    │   ├── DatasetRefusedError              a dataset version that is not `ready`, empty or damaged
    │   ├── StaleGenerationError             the manifest moved on since it was read
    │   └── GateRefusedError         3       a candidate that is not measurably better
    ├── TrainingError                1       a run that cannot go on (NaN loss, missing target modules)
    │   └── TrainingStoppedError   130       a run that was asked to stop, and kept where it is
    ├── ResourceError                1  503  too little memory or disk
    └── UnavailableError             4  503  unavailable
        ├── PortInUseError
        ├── OverloadedError             429  rate_limit_exceeded, with `retry_after_s`
        └── BackendError                502  a model backend that failed or cannot be reached

Columns: exit code of the command line, HTTP status, `code` of the OpenAI error object; a child inherits
what it does not name. Each class is picklable, because Ray carries errors between processes.
"""

from collections.abc import Callable
from typing import Any


def _rebuild(cls: "type[MongarsError]", message: str, state: dict[str, Any]) -> "MongarsError":
    error = cls(message)
    error.__dict__.update(state)
    return error


class MongarsError(Exception):
    """Base of the tree. `message` says what was found, `remedy` what the user can do about it."""

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
    """The caller can mend it."""

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
    """What was named does not exist, or not for this user."""

    http_status = 404
    type = "invalid_request_error"
    code = "not_found"


class ModelNotFoundError(NotFoundError):
    """A model or adapter that is unknown or revoked; the base never answers in its place."""

    code = "model_not_found"


class DatasetNotFoundError(NotFoundError):
    """No such dataset or version in the catalog."""

    code = "dataset_not_found"


class ConversationNotFoundError(NotFoundError):
    """No such conversation, or it belongs to somebody else."""

    code = "conversation_not_found"


class MessageNotFoundError(NotFoundError):
    """No such message, or it belongs to somebody else."""

    code = "message_not_found"


class FeedbackNotFoundError(NotFoundError):
    """No such feedback, or somebody else gave it."""

    code = "feedback_not_found"


class AuthError(MongarsError):
    """No key, or a key that is not known."""

    http_status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class ForbiddenError(AuthError):
    """The key is known but lacks the scope."""

    http_status = 403
    code = "insufficient_scope"


class RefusedError(MongarsError):
    """A rule of the house forbids it."""

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
    """The manifest moved on since it was read: read again and decide again."""

    code = "stale_generation"


class GateRefusedError(RefusedError):
    """A candidate adapter that is not measurably better than what is served."""

    exit_code = 3
    code = "gate_refused"


class TrainingError(MongarsError):
    """A training run that cannot go on."""

    code = "training_failed"


class TrainingStoppedError(TrainingError):
    """Somebody asked the run to stop; it can go on from what it kept."""

    exit_code = 130  # 128 + SIGINT, as shells say it
    code = "training_stopped"


class ResourceError(MongarsError):
    """Too little memory or disk for what was asked."""

    http_status = 503
    code = "insufficient_resources"


class UnavailableError(MongarsError):
    """Something that must be running is not."""

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
