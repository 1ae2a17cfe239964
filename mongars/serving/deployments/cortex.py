"""The Cortex of the ingress, over the memory and model deployments.

The settings determine its backends and token budget. Pieces of a reply reach the ingress without another process
in between (docs/decisions/025-cortex-runs-in-the-ingress.md).
"""

import asyncio
from collections.abc import Callable

from tokenizers import Tokenizer

from mongars.conversation.bouche import Bouche
from mongars.conversation.cortex import Cortex, CortexLimits
from mongars.conversation.http_backends import OllamaBackend, OpenAIBackend
from mongars.conversation.llm_integration import ChatBackend, LLMIntegration, ServeBackend
from mongars.conversation.prompt import PromptBudget, count_by_characters
from mongars.errors import SettingsError
from mongars.lm.base_files import base_folder
from mongars.serving.deployments.args import AppArgs
from mongars.serving.deployments.clients import LLMClient, our_errors
from mongars.serving.deployments.memory import MemoryClient
from mongars.settings import Settings


async def connected_cortex(args: AppArgs, memory: MemoryClient, llm: LLMClient) -> Cortex:
    """Return a Cortex that remembers and generates through other deployments. Raises as `backends` does."""
    limits = CortexLimits(budget=await _budget(args, llm), recall=args.recall)
    return Cortex(memory, LLMIntegration(backends(args, llm)), Bouche(), limits)


def backends(args: AppArgs, llm: LLMClient) -> list[ChatBackend]:
    """Return the configured backends in order. Raises SettingsError that names a missing setting."""
    settings = args.settings
    match settings.llm_backend:
        case "serve":
            return [ServeBackend(llm.handle, our_errors)]
        case "http":
            if not settings.llm_endpoints:
                raise SettingsError("The http backend has no address.", remedy="Set MONGARS_LLM_ENDPOINTS.")
            return [
                OpenAIBackend(endpoint, _model(settings), api_key=settings.llm_api_key)
                for endpoint in settings.llm_endpoints
            ]
        case "ollama":
            return [OllamaBackend(settings.ollama_host, _model(settings), context_tokens=args.context_tokens)]


def token_counter(settings: Settings) -> Callable[[str], int]:
    """Return a counter of tokens by the base's tokenizer, without loading its weights.

    Raises SettingsError when the base has no fast tokenizer.
    """
    file = base_folder(settings.base_model) / "tokenizer.json"
    if not file.is_file():
        raise SettingsError(f"{file.parent.name} has no tokenizer.json.", remedy="Use a base model that has one.")
    tokenizer = Tokenizer.from_file(str(file))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _model(settings: Settings) -> str:
    if not settings.llm_model:
        raise SettingsError(f"The {settings.llm_backend} backend has no model.", remedy="Set MONGARS_LLM_MODEL.")
    return settings.llm_model


async def _budget(args: AppArgs, llm: LLMClient) -> PromptBudget:
    if args.settings.llm_backend != "serve":
        return PromptBudget(tokens=args.context_tokens, count=count_by_characters)
    count = await asyncio.to_thread(token_counter, args.settings)
    return PromptBudget(tokens=await llm.context_tokens(), count=count)
