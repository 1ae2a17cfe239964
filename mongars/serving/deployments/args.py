"""AppArgs: the options of the application in a serve config. An unknown key is refused by name."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mongars.records import Dtype
from mongars.serving.engine.slots import SLOTS
from mongars.settings import Settings, load_settings

DEPLOYMENTS = ("Ingress", "MemoryDeployment", "LLMServeDeployment")
"""The names that a serve config may use under `deployments`."""


class AppArgs(BaseModel):
    """The `args` of the application in a serve YAML; omitted `settings` come from the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: Settings = Field(default_factory=load_settings)
    llm_replicas: int = Field(2, ge=1, description="Replicas of the model; each holds the base once.")
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the model runs.")
    dtype: Dtype = Field(
        "auto",
        description="Of weights and states; auto: the checkpoint's on a GPU, float32 on a CPU. bfloat16 is faster "
        "on a CPU with amx_bf16 or avx512_bf16, but a vector then depends slightly on the other texts of its "
        "batch. A CPU without such instructions refuses it.",
    )
    torch_threads: int = Field(
        1,
        ge=1,
        description="Compute threads of one replica for generation, and as many for embedding. Let replicas x "
        "threads equal the number of cores. Keep 2 x threads - 1 within it: beyond, OpenMP threads sleep after "
        "every operation.",
    )
    slots: int = Field(SLOTS, ge=2, description="Adapter versions in one replica's memory at a time.")
    chats: int = Field(64, ge=1, description="Chats of one replica, running or waiting; one more gets 429.")
    rows: int = Field(32, ge=1, description="Replies of one version that a replica generates at once.")
    cache_bytes: int = Field(512 * 2**20, ge=1, description="Memory of the KV cache of one version.")
    prefill_tokens: int = Field(
        512, ge=1, description="Prompt tokens of a prefill pass between two tokens of a reply."
    )
    embeds: int = Field(64, ge=1, description="Embedding requests of one replica, running or waiting.")
    recall: int = Field(4, ge=1, le=100, description="Memories searched for a reply.")
    context_tokens: int = Field(
        4096, ge=256, description="Tokens of prompt and reply together at the `http` and `ollama` backends."
    )
    max_body_bytes: int = Field(4 * 2**20, ge=1024, description="Longest request body; a longer one gets 413.")

    @classmethod
    def from_settings(cls, settings: Settings, *, llm_replicas: int = 2) -> "AppArgs":
        """Return the arguments of a deployment from Python."""
        return cls(settings=settings, llm_replicas=llm_replicas)
