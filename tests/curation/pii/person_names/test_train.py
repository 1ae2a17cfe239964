"""The training of the tagger, on synthetic sentences."""

import dataclasses

import pytest

from mongars.curation.pii.person_names.tagger import WEIGHTS, load_tagger
from mongars.curation.pii.person_names.templates import FIRST, sentences
from mongars.curation.pii.person_names.train import (
    Sentence,
    TaggerRecipe,
    measure,
    read_conll,
    save,
    templates,
    train,
)
from mongars.errors import InputError

RECIPE = TaggerRecipe(templates=150, template_weight=1.0, iterations=8)
CONLL = "Zorb\tB-person\nQuux\tI-person\nsees\tO\nOslo\tB-location\n\t\nhi\tO\nBlip\tB-person\n"


def test_a_conll_file_becomes_sentences_with_their_names(tmp_path):
    path = tmp_path / "names.conll"
    path.write_text(CONLL)
    assert read_conll(path) == [Sentence("Zorb Quux sees Oslo", ((0, 9),)), Sentence("hi Blip", ((3, 7),))]


@pytest.mark.parametrize("content", [b"", b"Oslo\tB-location\n", b"\xff\xfe"])
def test_a_file_without_names_is_refused(tmp_path, content):
    path = tmp_path / "names.conll"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_conll(path)


def test_synthetic_sentences_depend_on_their_seed_and_mark_their_names():
    assert sentences(40, seed=1) == sentences(40, seed=1) != sentences(40, seed=2)
    made = templates(RECIPE)
    named = [sentence for sentence in made if sentence.names]
    assert len(named) == len(made) / 2
    assert all(sentence.text[start:end].strip() for sentence in named for start, end in sentence.names)


def test_training_learns_names_and_is_deterministic(tmp_path):
    labelled = templates(dataclasses.replace(RECIPE, templates=200, seed=5))
    tagger = train(labelled, RECIPE)
    quality = measure(tagger, templates(dataclasses.replace(RECIPE, templates=100, seed=9)))
    assert quality.recall > 0.7
    assert quality.precision > 0.7
    save(tagger, tmp_path / "a", RECIPE)
    save(train(labelled, RECIPE), tmp_path / "b", RECIPE)
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()
    assert load_tagger(tmp_path / "a") == tagger


def test_a_name_counts_as_found_only_when_both_ends_are_right():
    text = f"My name is {FIRST[0]} Zzyzx."
    tagger = load_tagger()
    (span,) = tagger.find(text)
    assert measure(tagger, [Sentence(text, ((span.start, span.end),))]).recall == 1
    assert measure(tagger, [Sentence(text, ((span.start, span.end + 1),))]).right == 0
