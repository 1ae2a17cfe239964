"""The frozen records that packages, processes and Ray actors exchange, and their JSON form.

Records have plain values only: this module imports no other package of ours, neither torch nor ray.
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
    """Return an opaque id that sorts by time, such as `conv_…` or `msg_…` (UUIDv7, RFC 9562)."""
    return f"{prefix}_{uuid_utils.uuid7().hex}"


def now() -> datetime:
    """Return the current time in UTC. Records never have naive times."""
    return datetime.now(UTC)


def as_json(record: Any) -> dict[str, Any]:
    """Return a record as plain JSON values, with times in ISO 8601."""

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
    """Whether the user rated `text` a good answer to `query`."""

    query: str
    text: str
    good: bool


@dataclass(frozen=True, slots=True)
class Profile:
    """Known values of a user, which curation replaces in the user's conversations."""

    names: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatRef:
    """Which conversation a chat request continues.

    `id` is the client's, None when it gave none: then `sent`, the turns before the question, identify it.
    """

    id: str | None = None
    sent: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of one user. `consent` says whether it may be trained on.

    `abandoned` are turns that the user edited or had answered again: they are kept and exported, not trained on.
    """

    id: str
    user: str
    turns: tuple[Turn, ...]
    source: str = "mongars"
    consent: bool = False
    created_at: datetime | None = None
    opinions: tuple[Opinion, ...] = ()
    profile: Profile = Profile()
    abandoned: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """A remembered turn, with its recall score (0 to 1) and the parts of that score by retriever."""

    id: str
    user: str
    conversation_id: str
    role: Role
    text: str
    created_at: datetime
    score: float = 0.0
    retriever_scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Feedback:
    """Feedback of a user on an answer, or on a memory that was recalled for it.

    `value` is a boolean for thumbs and retrieval, a number for a rating, a text for a correction or comment.
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
    """The generation, adapter and base that an answer was made with. Without an adapter, name and digest are None.

    `base` is the digest of the base model, empty if an external server answered.
    """

    generation: int
    name: str | None = None
    digest: str | None = None
    base: str = ""

    @property
    def vector_space(self) -> str:
        """Return the name of this encoder's vector space: only vectors of the same one can be compared."""
        return self.digest or f"base_{self.base}"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a reply is sampled. `temperature` 0 is greedy; `seed` makes a sampled reply reproducible."""

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A prompt for a model. `adapter` is the digest of a chat adapter, None for the current one."""

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
    """A streamed piece of an answer. The last one has `finish_reason` and `usage`."""

    text: str
    stamp: AdapterStamp
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """L2-normalised vectors of a batch of texts by one adapter version, in input order.

    `vectors` has the bytes of a little-endian float32 array (count, dimensions), so that the record needs no
    numpy.
    """

    vectors: bytes
    count: int
    dimensions: int
    prompt_tokens: int
    stamp: AdapterStamp


@dataclass(frozen=True, slots=True)
class ReplyPiece:
    """A streamed piece of a reply to the user.

    The last one has `finish_reason`, the usage, the messages that were recalled for the prompt, the id of the
    remembered answer, the ids of the recalled messages that are in the prompt, and the number of earlier turns
    that did not fit into it.
    """

    text: str
    conversation_id: str
    chat: AdapterStamp
    encoder: AdapterStamp | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    memories: tuple[Memory, ...] = ()
    message_id: str | None = None
    in_prompt: frozenset[str] = frozenset()
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class DatasetRef:
    """One immutable version of a dataset. `digest` is of its rows and does not depend on their order."""

    name: str
    version: str
    digest: str
    state: DatasetState
    rows: int


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """One immutable adapter. `digest` is the sha256 of its sorted list of (file name, file sha256)."""

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
    """The registry's view. `skew` is the newest generation minus the oldest one that a live replica serves."""

    generation: int
    current: Mapping[str, str | None]
    replicas: tuple[ReplicaStatus, ...]
    skew: int
