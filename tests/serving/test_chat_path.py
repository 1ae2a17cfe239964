"""The async generators that each piece of a chat passes on its way from the model to the socket."""

import inspect
from types import ModuleType

from mongars.conversation import bouche, cortex, llm_integration
from mongars.serving.deployments import llm
from mongars.serving.engine import engine
from mongars.serving.generation import delta_queue
from mongars.serving.http import openai

PATH = (delta_queue, engine, llm, llm_integration, bouche, cortex, openai)


def generators(module: ModuleType) -> list[str]:
    classes = [
        each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__
    ]
    return [
        function.__qualname__
        for owner in (module, *classes)
        for function in vars(owner).values()
        if inspect.isasyncgenfunction(function) and function.__module__ == module.__name__
    ]


def test_a_chat_piece_passes_five_async_generators():
    assert [name for module in PATH for name in generators(module)] == [
        "Engine.generate",
        "LLMIntegration.stream",
        "ServeBackend.stream",
        "Cortex.answer",
        "_events",
    ]
