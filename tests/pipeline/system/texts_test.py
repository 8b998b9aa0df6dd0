import pytest

from pipeline.system import texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain 花 🌻 a\u00a0b", "plain 花 🌻 a\u00a0b"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("new\nline\t\r", r"new\nline\t\r"),
        ("gpj.\u202etxt", r"gpj.\u202etxt"),
        ("\u2028\x9b1m\udce9", r"\u2028\x9b1m\udce9"),
        ("👩\u200d🌾", "👩\u200d🌾"),
        ("back\\slash 'quoted'", "back\\slash 'quoted'"),
    ],
)
def test_controls_are_written_as_text(text, expected):
    assert texts.escape_controls(text) == expected


def test_lists_end_after_five_names():
    names = [f"{index}" for index in range(60)]
    assert texts.list_some(names) == "0, 1, 2, 3, 4 and 55 more"
    assert texts.list_some(names[:5]) == "0, 1, 2, 3, 4"
    assert texts.list_some(names[:1]) == "0"
    assert texts.list_some(names, limit=3) == "0, 1, 2 and 57 more"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("rose/1.jpg", "rose/1.jpg"),
        ("=cmd|'/c calc'!A1", "'=cmd|'/c calc'!A1"),
        ("+1", "'+1"),
        ("-dash/1.jpg", "'-dash/1.jpg"),
        ("@a", "'@a"),
        ("\tx", "'\tx"),
        ("'=x", "''=x"),
        ("''=x", "'''=x"),
        ("'quoted'", "'quoted'"),
        ("a=b", "a=b"),
        ("0.25", "0.25"),
        ("", ""),
    ],
)
def test_a_formula_gets_an_apostrophe_and_loses_it_again(value, expected):
    assert texts.escape_formula(value) == expected
    assert texts.unescape_formula(expected) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rose, 花", "rose, 花"),
        ("<img src=x>", r"\<img src=x\>"),
        ("a|b*c_d`e`[f](g)", r"a\|b\*c\_d\`e\`\[f\](g)"),
        ("&lt; $x$ ~~y~~", r"\&lt; \$x\$ \~\~y\~\~"),
        ("\x1b[2J", r"\\x1b\[2J"),
        ("two\nlines", r"two\\nlines"),
    ],
)
def test_markdown_is_shown_as_it_is(text, expected):
    assert texts.escape_markdown(text) == expected
