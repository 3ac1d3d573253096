"""The faults that the mutation run puts in: each changes the source, and what it accepts is still there."""

import ast

import pytest
from magicstyle.tests.host.locate import PACK
from magicstyle.tools.mutation.accepted import ACCEPTED
from magicstyle.tools.mutation.concerned import with_host, without_host
from magicstyle.tools.mutation.mutants import mutant, sites

SOURCE = '''"""What it does."""
import math

def f(x: int = 3, *, more=True) -> float:
    """What it does."""
    if x < 2 and more:
        raise ValueError(f"{x + 1} is small")
    x += 1
    log(x)
    zip(x, x, strict=True)
    return -max(x, 2.5) / 3
'''


def changes():
    made = [mutant(SOURCE, index) for index in range(len(sites(ast.parse(SOURCE))))]
    return [(one.kind, one.line, ast.unparse(one.code)) for one in made]


def test_every_fault_says_what_it_changes():
    for index in range(len(sites(ast.parse(SOURCE)))):
        made = mutant(SOURCE, index)
        assert made.before != made.after and made.before in ast.unparse(ast.parse(SOURCE))


def test_every_fault_changes_the_source_in_another_way():
    plain = ast.unparse(ast.parse(SOURCE))
    texts = [text for _, _, text in changes()]
    assert plain not in texts and len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    "kind, line, expected",
    [
        ("constant", 4, "x: int=4"),
        ("constant", 4, "more=False"),
        ("comparison", 6, "x <= 2 and more"),
        ("logic", 6, "x < 2 or more"),
        ("negation", 6, "if not (x < 2 and more)"),
        ("dropped", 7, "if x < 2 and more:\n        pass"),
        ("dropped", 8, "pass\n    log(x)"),
        ("dropped", 9, "x += 1\n    pass"),
        ("return None", 11, "return None"),
        ("arithmetic", 11, "-max(x, 2.5) * 3"),
        ("sign", 11, "+max(x, 2.5) / 3"),
        ("name", 11, "-min(x, 2.5) / 3"),
        ("constant", 11, "max(x, 5.0)"),
    ],
)
def test_a_fault_of_each_kind_is_put_in(kind, line, expected):
    assert any((one, at) == (kind, line) and expected in text for one, at, text in changes())


def test_docstrings_annotations_imports_and_messages_are_left_alone():
    for _, _, text in changes():
        assert (
            "strict=False" not in text
            and text.count('"""What it does."""') == 2
            and "import math" in text
            and "-> float" in text
        )
        assert "x + 1" in text or "raise" not in text


def test_every_module_has_tests_that_concern_it_and_they_exist():
    for folder in ("core", "attention_patches"):
        for path in (PACK / folder).rglob("*.py"):
            file = path.relative_to(PACK).as_posix()
            hosted = [name for name in with_host(file) if name.startswith("tests/")]
            assert without_host(PACK, file) and hosted
            assert all((PACK / name).is_file() for name in [*without_host(PACK, file), *hosted])


def test_what_is_accepted_to_survive_is_still_in_the_source():
    for (file, before, after), reason in ACCEPTED.items():
        source = (PACK / file).read_text(encoding="utf-8")
        made = (mutant(source, index) for index in range(len(sites(ast.parse(source)))))
        assert any((one.before, one.after) == (before, after) for one in made), (file, before)
        assert reason
