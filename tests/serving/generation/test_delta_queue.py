import asyncio
import threading

from mongars.serving.generation.delta_queue import DeltaQueue


async def test_the_first_text_comes_at_once_and_what_gathers_comes_as_one(monkeypatch):
    monkeypatch.setattr("mongars.serving.generation.delta_queue.COALESCE_S", 60.0)  # only the end can end the wait
    texts = DeltaQueue(asyncio.get_running_loop())
    pieces = aiter(texts)
    texts.put("a")
    assert await anext(pieces) == "a"
    for text in "bcd":
        texts.put(text)
    texts.end()
    assert [piece async for piece in pieces] == ["bcd"]


async def test_text_from_another_thread_is_whole_and_in_order():
    texts = DeltaQueue(asyncio.get_running_loop())

    def speak() -> None:
        for number in range(300):
            texts.put(f"{number},")
        texts.end()

    thread = threading.Thread(target=speak)
    thread.start()
    said = "".join([piece async for piece in texts])
    thread.join()
    assert said == "".join(f"{number}," for number in range(300))


async def test_an_end_without_text_ends():
    texts = DeltaQueue(asyncio.get_running_loop())
    texts.end()
    assert [piece async for piece in texts] == []
