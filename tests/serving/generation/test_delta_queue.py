import asyncio
import threading

from mongars.serving.generation.delta_queue import DeltaQueue


async def rest_of(deltas):
    pieces = []
    while (text := await deltas.next()) is not None:
        pieces.append(text)
    return pieces


async def test_the_first_text_comes_at_once_and_later_texts_are_joined(monkeypatch):
    monkeypatch.setattr("mongars.serving.generation.delta_queue.COALESCE_S", 60.0)  # only the end can end the wait
    deltas = DeltaQueue(asyncio.get_running_loop())
    deltas.put("a")
    assert await deltas.next() == "a"
    for text in "bcd":
        deltas.put(text)
    deltas.end()
    assert await rest_of(deltas) == ["bcd"]


async def test_text_from_another_thread_is_complete_and_in_order():
    deltas = DeltaQueue(asyncio.get_running_loop())

    def generate() -> None:
        for number in range(300):
            deltas.put(f"{number},")
        deltas.end()

    thread = threading.Thread(target=generate)
    thread.start()
    text = "".join(await rest_of(deltas))
    thread.join()
    assert text == "".join(f"{number}," for number in range(300))


async def test_an_end_without_text_is_an_end():
    deltas = DeltaQueue(asyncio.get_running_loop())
    deltas.end()
    assert await rest_of(deltas) == []


async def test_an_empty_text_is_not_an_end():
    deltas = DeltaQueue(asyncio.get_running_loop())
    for text in ("", "a"):
        deltas.put(text)
    assert await deltas.next() == "a"
