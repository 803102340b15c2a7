"""The mutants of `tests.properties.mutants` still change what they mean to change."""

import pytest

from tests.properties.mutants import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant[0])
def test_its_text_is_in_its_file_and_its_law_has_tests(mutant):
    _, path, text, change, law = mutant
    source = (ROOT / "keras_tfm" / path).read_text(encoding="utf-8")
    assert text in source
    assert source.replace(text, change) != source
    folder, name = (ROOT / "tests" / "properties", f"test_{law}.py")
    assert (folder / (f"{law}.py" if law.startswith("..") else name)).is_file()
