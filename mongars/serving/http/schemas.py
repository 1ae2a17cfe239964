"""Bodies of requests and answers, in the format of the OpenAI API (openai/openai-openapi 2.3.0).

Unknown fields are ignored, because OpenAI's clients add new ones all the time. A known field with an unsupported
value is refused by name.
"""

import base64
import time
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, Strict, field_validator, model_validator

from mongars.records import (
    AdapterStamp,
    Embeddings,
    Feedback,
    FeedbackName,
    FinishReason,
    Memory,
    ReplyPiece,
    Sampling,
    Turn,
    Usage,
    new_id,
)

MAX_INPUTS = 2048  # of one embeddings request, by the specification
MAX_STOPS = 4  # by the specification
MAX_STOP_CHARACTERS = 256  # a bound of ours: an answer is searched for them character by character
DEFAULT_MAX_TOKENS = 128
CHAT_MODEL = "mongars"
ENCODER_MODEL = "mongars-encoder"


StopString = Annotated[str, Field(max_length=MAX_STOP_CHARACTERS)]


class TextPart(BaseModel):
    """A part of a message; only text is supported."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A message of a chat; `developer` is the newer name of `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    def turn(self) -> Turn:
        """Return the message as a record."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Turn("system" if self.role == "developer" else self.role, text)


class StreamOptions(BaseModel):
    """Options of a stream."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """POST /v1/chat/completions. `conversation` is ours: the id of a conversation to continue.

    With `store: false` nothing of the exchange is kept.
    """

    model_config = ConfigDict(extra="ignore")

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    stop: StopString | Annotated[list[StopString], Field(max_length=MAX_STOPS)] | None = None
    # PyTorch's generators take 64 bits.
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    conversation: str | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    logprobs: bool | None = None
    response_format: dict[str, Any] | None = None

    @field_validator("n")
    @classmethod
    def _one_choice(cls, value: int | None) -> int | None:
        if value not in (None, 1):
            raise ValueError("only n=1 is supported")
        return value

    @model_validator(mode="after")
    def _supported(self) -> "ChatRequest":
        for name in ("tools", "functions", "logprobs"):
            if getattr(self, name):
                raise ValueError(f"{name} is not supported")
        if self.response_format and self.response_format.get("type") != "text":
            raise ValueError("response_format other than text is not supported")
        return self

    def turns(self) -> tuple[Turn, ...]:
        """Return the messages as turns."""
        return tuple(message.turn() for message in self.messages)

    def sampling(self) -> Sampling:
        """Return the sampling. It is greedy without a temperature: the same question has the same answer."""
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            max_tokens=self.max_completion_tokens or self.max_tokens or DEFAULT_MAX_TOKENS,
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            stop=tuple(stop for stop in stops if stop),
            seed=self.seed,
        )


class EmbeddingsRequest(BaseModel):
    """POST /v1/embeddings. Arrays of tokens are refused: they depend on one tokenizer."""

    model_config = ConfigDict(extra="ignore")

    model: str
    input: str | Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int | None, Field(ge=1)] = None

    @field_validator("input")
    @classmethod
    def _not_empty(cls, value: str | list[str]) -> str | list[str]:
        if any(not text for text in ([value] if isinstance(value, str) else value)):
            raise ValueError("an input text is empty")
        return value

    def texts(self) -> list[str]:
        """Return the texts in their order."""
        return [self.input] if isinstance(self.input, str) else self.input


class SearchRequest(BaseModel):
    """POST /v1/memory/search."""

    model_config = ConfigDict(extra="forbid")

    query: Annotated[str, Field(min_length=1)]
    k: Annotated[int, Field(ge=1, le=100)] = 5


class FeedbackRequest(BaseModel):
    """POST /v1/feedback, on an answer by its id or on the last answer of a conversation."""

    model_config = ConfigDict(extra="forbid")

    name: FeedbackName
    value: Annotated[bool, Strict()] | Annotated[float, Strict()] | str
    message_id: str | None = None
    conversation_id: str | None = None
    memory_id: str | None = None
    rationale: str | None = None


class RollbackRequest(BaseModel):
    """POST /v1/adapters/rollback."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["encoder", "chat"] = "encoder"


class ChatAnswer:
    """One chat completion: all its chunks share its id and time."""

    def __init__(self, model: str) -> None:
        self.id = new_id("chatcmpl").replace("_", "-", 1)
        self.created = int(time.time())
        self.model = model

    def whole(self, text: str, last: ReplyPiece) -> dict[str, Any]:
        """Return the `chat.completion` object."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": last.finish_reason}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage_json(last.usage),
            "mongars": reply_json(last),
        }

    def chunk(
        self, piece: ReplyPiece, delta: dict[str, Any], reason: FinishReason | None, *, usage: bool
    ) -> dict[str, Any]:
        """Return a `chat.completion.chunk`, with `usage: null` if usage is requested."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {
            **self._head("chat.completion.chunk"),
            "choices": [choice],
            **({"usage": None} if usage else {}),
            "mongars": reply_json(piece),
        }

    def usage_chunk(self, last: ReplyPiece) -> dict[str, Any]:
        """Return the chunk with the usage, after the last choice."""
        return {
            **self._head("chat.completion.chunk"),
            "choices": [],
            "usage": usage_json(last.usage),
            "mongars": reply_json(last),
        }

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def embeddings_json(embeddings: Embeddings, request: EmbeddingsRequest) -> dict[str, Any]:
    """Return the `list` of embeddings, as numbers or as base64 of little-endian float32."""
    rows = np.frombuffer(embeddings.vectors, dtype="<f4").reshape(embeddings.count, embeddings.dimensions)
    as_text = request.encoding_format == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(row.tobytes()).decode() if as_text else row.tolist(),
        }
        for index, row in enumerate(rows)
    ]
    tokens = embeddings.prompt_tokens
    return {
        "object": "list",
        "data": data,
        "model": request.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "mongars": stamp_json(embeddings.stamp),
    }


def reply_json(piece: ReplyPiece) -> dict[str, Any]:
    """Return our extension of an answer: ids, versions, memories, and how many earlier turns did not fit."""
    return {
        "conversation": piece.conversation_id,
        "message": piece.message_id,
        **stamp_json(piece.chat),
        "encoder": stamp_json(piece.encoder) if piece.encoder else None,
        "memories": [
            memory_score_json(memory) | {"in_prompt": memory.id in piece.in_prompt} for memory in piece.memories
        ],
        "turns_left_out": piece.left_out,
    }


def stamp_json(stamp: AdapterStamp) -> dict[str, Any]:
    """Return a version; name and digest are null for the base."""
    return {"adapter": stamp.name, "version": stamp.generation, "digest": stamp.digest}


def memory_score_json(memory: Memory) -> dict[str, Any]:
    """Return a memory with its scores, without its text."""
    return {
        "id": memory.id,
        "conversation_id": memory.conversation_id,
        "score": memory.score,
        "lanes": dict(memory.retriever_scores),
    }


def feedback_json(feedback: Feedback) -> dict[str, Any]:
    """Return the `feedback` object."""
    return {
        "id": feedback.id,
        "object": "feedback",
        "created_at": int(feedback.created_at.timestamp()),
        "conversation_id": feedback.conversation_id,
        "message_id": feedback.message_id,
        "memory_id": feedback.memory_id,
        "name": feedback.name,
        "value": feedback.value,
        "rationale": feedback.rationale,
    }


def usage_json(usage: Usage | None) -> dict[str, int] | None:
    """Return token counts; null when the backend reported none."""
    if usage is None:
        return None
    total = usage.prompt_tokens + usage.completion_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": total,
    }


def list_json(data: list[dict[str, Any]], *, has_more: bool = False) -> dict[str, Any]:
    """Return a list in OpenAI's format."""
    first, last = (data[0].get("id"), data[-1].get("id")) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more}
