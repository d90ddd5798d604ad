"""Licences of cards: what the front matter says, and which sentences of the text speak of the thing itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open360.release.evidence.card_licenses import MAX_CARD_BYTES, front_matter, licenses_of, statements

OWN = {
    "# License\n\nWe release our work under the Apache 2.0 license.": "apache-2.0",
    "- **License:** Apache 2.0": "apache-2.0",
    "| License | MIT |": "mit",
    "# License: MIT": "mit",
    "## License\nApache-2.0": "apache-2.0",
    "## Licence\n\n[Apache License, Version 2.0](LICENSE)\n": "apache-2.0",
    "This dataset is licensed under the MIT License.": "mit",
    "Our models are available under Apache 2.0.": "apache-2.0",
    "The license of this dataset is CC0": "cc0-1.0",
    "All our checkpoints are released under the CC BY-NC-SA 4.0 license.": "cc-by-nc-sa-4.0",
    "The dataset is released under the [Open Data Commons Attribution License](x).": "odc-by",
}
OTHER_THINGS = [
    "The code is released under the MIT license.",
    "Our training code and scripts are released under Apache 2.0.",
    "The code is MIT, the weights are Apache 2.0",
    "This dataset is released under CC-BY-NC-4.0 and ODC-By",
    "Wikipedia is licensed under CC-BY-SA.",
    "This dataset contains StarCoder, licensed under Apache 2.0.",
    "The Pile is released under the MIT license",
    "# License\n- arxiv: CC0\n- wikipedia: CC-BY-SA-3.0",
    "# License\n\nSee the sources: CC-BY-SA for Wikipedia.",
    "The model is based on LLaMA; the weights are released under Apache 2.0.",
    "The dataset was made by students of MIT and is released under the terms below.",
    "This model is released by MIT, not by us.",
    "The training data was collected with tools licensed under GPL v3.",
    "```\nLicense: MIT\n```",
    "<!-- License: MIT -->",
    "License: see the file LICENSE",
    "This model was previously released under Apache 2.0.",
    "The tokenizer of this model is licensed under MIT License.",
    "Use of this model is subject to our terms.",
    "Some of the data is released under CC0.",
]


def _card(text: str, front: str = "license: odc-by") -> bytes:
    return f"---\n{front}\n---\n{text}\n".encode()


@pytest.mark.parametrize("text", OWN)
def test_a_statement_about_the_thing_itself_is_found(text: str) -> None:
    assert [statement.license for statement in statements(_card(text))] == [OWN[text]]


@pytest.mark.parametrize("text", OTHER_THINGS)
def test_a_sentence_about_something_else_is_left_alone(text: str) -> None:
    assert statements(_card(text)) == []


def test_a_statement_knows_its_line() -> None:
    (found,) = statements(_card("# Title\n\nThis dataset is released under the MIT license.", "a: 1\nlicense: odc-by"))
    assert found.line == 7
    (found,) = statements(b"# Title\nLicense: MIT\n")
    assert found.line == 2


@pytest.mark.parametrize(
    ("front", "licenses"),
    [
        ("license: Apache-2.0", {"apache-2.0"}),
        ("license: [mit, bsd-3-clause]", {"mit", "bsd-3-clause"}),
        ("license: other\nlicense_name: tiny-community", {"tiny-community"}),
        ("license: other", {"other"}),
        ("license: unknown", set()),
        ("license: 5", set()),
        ("license: {a: b}", set()),
        ("title: x", set()),
    ],
)
def test_licenses_of_a_front_matter(front: str, licenses: set[str]) -> None:
    assert licenses_of(front_matter(_card("", front)) or {}) == licenses


@pytest.mark.parametrize(
    "card",
    [
        b"",
        b"# no front matter",
        b"---\n- a\n---\n",
        b"---\na: &a [*a]\n---\n",
        b"---\na: !!python/object:os.system x\n---\n",
    ],
)
def test_a_front_matter_that_is_none_is_none(card: bytes) -> None:
    assert front_matter(card) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400) | st.text(alphabet="-#\n licenseMIT:*[]()`<!>", max_size=300).map(str.encode))
def test_any_bytes_are_read(data: bytes) -> None:
    front = front_matter(data)
    assert licenses_of(front or {}) is not None
    assert all(statement.line >= 1 for statement in statements(data))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("word", ["this data ", "we release our data ", "[", "`", "license of the ", "a", "| ", "is "])
def test_a_hostile_card_is_read_to_its_end(word: str) -> None:
    assert statements((word * MAX_CARD_BYTES).encode()[:MAX_CARD_BYTES]) == []
    line = (word * 1990)[:1990] + "\n"
    assert statements((line * 500).encode()) == []
