"""Texts that look equal become equal, the same on both engines."""

import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from headrace.engine.values.text_forms import normalized
from tests.engine.evaluating import each

NAMES = [
    *("plain", "Zoë", "Ångström", "Việt Nam ế Ữ", "Ṩ ǭ ḗ", "ГОЛИЦЫНЪ йё", "ά ᾷ ᾂ", "がパ"),
    *("आज़ाद", "straße", "\u212bngstrom \u2126", "🚲 no", "q\u0301 ẹ́ x\u0323", ""),
]


def test_composed_and_decomposed_texts_become_equal(spark: SparkSession) -> None:
    forms = ("NFC", "NFD")
    texts = [unicodedata.normalize(form, name) for name in NAMES for form in forms]  # type: ignore[arg-type]
    found = each(spark, texts, lambda c: normalized(c, ["nfc"]))
    assert found == [unicodedata.normalize("NFC", text) for text in texts]


letters = st.sampled_from("aeoszY \u0301\u0302\u0308\u0323\u0307ýй1")


@pytest.mark.property
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.text(letters, max_size=5), max_size=80))
def test_composing_is_idempotent_and_keeps_what_a_text_means(
    spark: SparkSession, texts: list[str]
) -> None:
    found = each(spark, texts, lambda c: normalized(c, ["nfc"]))
    same = [unicodedata.normalize("NFD", text) for text in texts]
    assert [unicodedata.normalize("NFD", text) for text in found] == same
    assert each(spark, found, lambda c: normalized(c, ["nfc"])) == found


def test_invisible_characters_are_none_and_every_blank_is_a_space(spark: SparkSession) -> None:
    texts = {
        "N5\u200b": "N5",
        "a\u00adb\u200d\ufeffc\u2060": "abc",
        "AB\u200e\x07\x7f1": "AB1",
        "a\u00a0b\u2003c\u3000d": "a b c d",
        "a\tb\nc": "a\tb\nc",
        "x\U000e0101\ufe0fy": "xy",
        "Zoe\u200b\u0308": "Zoe\u0308",
        "plain": "plain",
        "\u200b": "",
    }
    found = each(spark, [*texts, None], lambda c: normalized(c, ["strip_invisible"]))
    assert dict(zip(texts, found[:-1], strict=True)) == texts
    assert found[-1] is None


def test_texts_may_be_compared_without_case(spark: SparkSession) -> None:
    texts = ["AB1", "ab1", "Straße", "STRASSE", "ΣΑΣ", "σας", "Ǆ", "ﬁn", "ÉTÉ", "E\u0301te\u0301"]
    found = each(spark, texts, lambda c: normalized(c, ["casefold", "nfc", "strip_invisible"]))
    sigmas = "\u03c3\u03b1\u03c3"
    assert found == ["ab1"] * 2 + ["strasse"] * 2 + [sigmas] * 2 + ["ǆ", "fin", "été", "été"]


def test_without_forms_a_text_stays_as_it_is(sail: SparkSession) -> None:
    assert each(sail, ["N5\u200b"], lambda c: normalized(c, ())) == ["N5\u200b"]
