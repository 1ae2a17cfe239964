"""The Presidio peer of benchmarks/pii.py; runs in a separate environment without mongars.

The first line of stdin is {"texts"}. The reply is `ready`; each further line gets a line of JSON: for `time` the
seconds of one pass over the texts on one core, for `find` a list of [start, end, type, score] per text. The spaCy
model is blank, so Presidio detects by patterns, checksums and context words, in English.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import spacy
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import NlpEngineProvider


def main() -> None:
    """Answer until stdin ends."""
    texts = json.loads(sys.stdin.readline())["texts"]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "blank"
        spacy.blank("en").to_disk(model)
        models = [{"lang_code": "en", "model_name": str(model)}]
        engine = NlpEngineProvider(
            nlp_configuration={"nlp_engine_name": "spacy", "models": models}
        ).create_engine()
        analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
        print(json.dumps("ready"), flush=True)
        for request in sys.stdin:
            started = time.process_time()
            found = [analyzer.analyze(text=text, language="en") for text in texts]
            seconds = time.process_time() - started
            spans = [[[each.start, each.end, each.entity_type, each.score] for each in one] for one in found]
            print(json.dumps(seconds if request.strip() == "time" else spans), flush=True)


if __name__ == "__main__":
    main()
