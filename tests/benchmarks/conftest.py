"""Small data and a base for the benchmarks, generated."""

import json

import pytest

WORDS = ("apple", "bridge", "candle", "dragon", "engine", "forest", "garden", "harbour", "island", "jacket")


@pytest.fixture(scope="session")
def write_lines(tmp_path_factory):
    """Return write_lines(name, values) -> the path of a JSON Lines file of them."""
    folder = tmp_path_factory.mktemp("lines")

    def write(name, values):
        path = folder / name
        path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def conversations():
    """Forty conversations of two turns; each reply holds a pair of words of its own, as the question does."""

    def one(number):
        pair = f"{WORDS[number % 10]}{number // 10} {WORDS[number // 4]}{number}"
        turns = [("user", f"Where is the {pair}?"), ("assistant", f"The {pair} is over there.")]
        return {"id": f"c{number}", "messages": [{"role": role, "content": text} for role, text in turns]}

    return [one(number) for number in range(40)]


@pytest.fixture
def data_folder(tmp_path, conversations):
    """A folder with the two files that encoder_quality reads."""
    import csv
    import gzip

    with gzip.open(tmp_path / "sgd_dev.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(each) + "\n" for each in conversations)
    with (tmp_path / "stsb_en_dev.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        for number, word in enumerate(WORDS):
            writer.writerow([f"The {word}, as it is.", f"The {word}, as it is."[: 20 - number], 5 - number / 2])
    return tmp_path


@pytest.fixture
def measured(capsys):
    """Return measured(main, *arguments) -> the JSON that a script prints."""

    def run(main, *arguments):
        code = main([*map(str, arguments), "--json"])
        output = capsys.readouterr()
        assert code == 0, output.err
        return json.loads(output.out)

    return run


@pytest.fixture
def failed(capsys):
    """Return failed(main, *arguments) -> (exit code, what it says on stderr); stdout must be empty."""

    def run(main, *arguments):
        code = main([*map(str, arguments)])
        output = capsys.readouterr()
        assert output.out == ""
        return code, output.err

    return run
