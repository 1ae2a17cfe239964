"""The frozen records that travel between rooms, processes and Ray actors.

Owns their shape and their JSON form. Must not know any room, nor torch, nor ray: a record holds plain values.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import uuid_utils

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
FinishReason = Literal["stop", "length"]
AdapterKind = Literal["encoder", "chat"]
ADAPTER_KINDS: tuple[AdapterKind, ...] = ("encoder", "chat")
Attention = Literal["bidirectional", "causal"]
AdapterState = Literal["candidate", "active", "retired", "rejected", "revoked", "pruned"]
FeedbackName = Literal["thumbs", "rating", "comment", "correction", "retrieval"]
Dtype = Literal["auto", "float32", "bfloat16"]
DatasetState = Literal["draft", "ready", "quarantined", "erased"]


def new_id(prefix: str) -> str:
    """Return an opaque id that sorts by time: `conv_…`, `msg_…`, `mem_…` (UUIDv7, RFC 9562)."""
    return f"{prefix}_{uuid_utils.uuid7().hex}"


def now() -> datetime:
    """Return the current time, in UTC with its offset: naive times never enter a record."""
    return datetime.now(UTC)


def as_json(record: Any) -> dict[str, Any]:
    """Return a record as plain JSON values; times in ISO 8601."""

    def plain(value: Any) -> Any:
        if isinstance(value, datetime):
            return value.isoformat()
        if isinstance(value, Mapping):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner) for inner in value]
        return value

    return {key: plain(value) for key, value in dataclasses.asdict(record).items()}


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: Role
    content: str
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Opinion:
    """Whether a text is a good answer to what was asked, as the user said."""

    query: str
    text: str
    good: bool


@dataclass(frozen=True, slots=True)
class Profile:
    """What a user is known by. Curation finds it in the user's conversations, in whatever form it comes back."""

    names: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """A whole conversation of one user. `consent` says whether it may be trained on."""

    id: str
    user: str
    turns: tuple[Turn, ...]
    source: str = "mongars"
    consent: bool = False
    created_at: datetime | None = None
    opinions: tuple[Opinion, ...] = ()
    profile: Profile = Profile()


@dataclass(frozen=True, slots=True)
class Memory:
    """A remembered turn, with the score that recalled it (0 to 1) and that score's parts by lane."""

    id: str
    user: str
    conversation_id: str
    role: Role
    text: str
    created_at: datetime
    score: float = 0.0
    lanes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a user said of an answer, or of a memory that was recalled for it.

    `value` is true or false of thumbs and of a retrieval, a number of a rating, a text of a correction or comment.
    """

    id: str
    conversation_id: str
    message_id: str
    name: FeedbackName
    value: bool | float | str
    memory_id: str | None
    rationale: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AdapterStamp:
    """What an answer claims to have been made with. Without an adapter, name and digest are None.

    `base` is the digest of the base model, empty where another server answered that does not tell it.
    """

    generation: int
    name: str | None = None
    digest: str | None = None
    base: str = ""

    @property
    def space(self) -> str:
        """Return a name for the vectors that compare with this encoder's: an adapter belongs to one base."""
        return self.digest or f"base_{self.base}"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a reply is sampled. `temperature` 0 is greedy; `seed` makes a sampled reply repeatable."""

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A prompt for a model. `adapter` names a chat adapter digest, or None for the current one."""

    id: str
    turns: tuple[Turn, ...]
    sampling: Sampling = Sampling()
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class GenerationPiece:
    """A piece of an answer as it streams. The last one carries `finish_reason` and `usage`."""

    text: str
    stamp: AdapterStamp
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of a batch of texts, all by one adapter version: float32, L2-normalised, in input order.

    `vectors` is bytes of shape (count, dimensions), little-endian float32, so that the record needs no numpy.
    """

    vectors: bytes
    count: int
    dimensions: int
    prompt_tokens: int
    stamp: AdapterStamp


@dataclass(frozen=True, slots=True)
class ReplyPiece:
    """A piece of what is said to the user.

    The last one has `finish_reason`, usage, the memories used, and the id by which the answer is remembered.
    """

    text: str
    conversation_id: str
    chat: AdapterStamp
    encoder: AdapterStamp | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    memories: tuple[Memory, ...] = ()
    message_id: str | None = None


@dataclass(frozen=True, slots=True)
class DatasetRef:
    """One immutable version of a dataset. `digest` is over its rows and does not depend on their order."""

    name: str
    version: str
    digest: str
    state: DatasetState
    rows: int


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """One immutable adapter. `digest` is the sha256 of its sorted (file name, file sha256) list."""

    name: str
    digest: str
    kind: AdapterKind
    state: AdapterState
    base_digest: str
    dataset: str | None
    created_at: datetime
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """What a replica last acknowledged to the registry."""

    replica: str
    generation: int
    digests: Mapping[str, str | None]
    acknowledged_at: datetime


@dataclass(frozen=True, slots=True)
class RegistryStatus:
    """The registry's view. `skew` is the newest generation less the oldest one that a live replica serves."""

    generation: int
    current: Mapping[str, str | None]
    replicas: tuple[ReplicaStatus, ...]
    skew: int
