from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidehub.secrets.secret import Secret
from tidehub.secrets.store import Stored, beside, parse, texts

HEX = "8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92"
OLD = "1f0e3dad99908345f7439f8ffabdffc4a8b2c6d9e5f7013bd2c4e6a8091b3d5f"
PRIVATE = "Zq7-private-Xw93"
"""In every bad file below; in no message about it."""


def stored(text: str | bytes) -> Stored:
    return parse(text.encode() if isinstance(text, str) else text, "s.yaml", Path("/base"))


def messages(found: Stored) -> str:
    return "\n".join(str(problem) for problem in found.problems)


def test_values_lists_files_and_times() -> None:
    found = stored(
        f"""
# a comment
client_secret: 'real-Client-9-secret'
hub_crypt_key: [{HEX}, {OLD}]
hub_cookie_secret: {{file: /run/secrets/cookie}}
gateway_token: {{file: below/token}}
proxy_auth_token:
made:
  hub_crypt_key: 2026-11-22T06:30:00Z
overrides:
  jupyterhub:
    hub: {{services: {{news: {{apiToken: abc, display: false}}}}}}
"""
    )
    assert found.problems == ()
    assert found.entries["client_secret"].values == (Secret("real-Client-9-secret"),)
    assert found.entries["client_secret"].where.line == 3
    assert found.entries["hub_crypt_key"].values == (Secret(HEX), Secret(OLD))
    assert found.entries["hub_crypt_key"].made == datetime(2026, 11, 22, 6, 30, tzinfo=UTC)
    assert found.entries["hub_cookie_secret"].file == Path("/run/secrets/cookie")
    assert found.entries["gateway_token"].file == Path("/base/below/token")
    assert found.entries["proxy_auth_token"].values == ()
    assert list(texts(found.overrides)) == [Secret("abc")]
    assert found.overrides["jupyterhub"]["hub"]["services"]["news"]["display"] is False
    assert HEX not in repr(found)
    assert "abc" not in repr(found.overrides)


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# only a comment\n", "---\n", "---\n...\n", "\ufeff", "~\n", "{}\n"]
)
def test_an_empty_file_is_one_without_secrets(text: str) -> None:
    assert stored(text) == Stored()


def test_several_keys_in_one_text() -> None:
    assert stored(f"hub_crypt_key: {HEX};{OLD}").entries["hub_crypt_key"].values == (Secret(HEX), Secret(OLD))


def test_line_endings_and_a_mark_at_the_beginning_do_not_matter() -> None:
    found = stored(f"\ufeffclient_secret: real-Client-9\r\nhub_crypt_key: {HEX}\r\n")
    assert found.problems == ()
    assert found.entries["client_secret"].values == (Secret("real-Client-9"),)


P = PRIVATE
BAD: dict[str, tuple[str | bytes, str]] = {
    "latin-1": (f"client_secret: {P}\xe9".encode("latin-1"), "not UTF-8"),
    "UTF-16": (f"client_secret: {P}".encode("utf-16"), "not UTF-8"),
    "binary": (b"\x00\x01\x02\xff" + P.encode(), "not UTF-8"),
    "control character": (f"client_secret: {P}\x07", "not allowed in YAML"),
    "bell in a key": (f"cl\x07ient: {P}", "not allowed in YAML"),
    "NUL": (f"client_secret: {P}\x00", "not allowed in YAML"),
    "only the value": (P, "not a secrets file"),
    "no blank after the colon": (f"client_secret:{P}", "blank after the ':'"),
    "a number alone": ("12345678901234567890", "not a secrets file"),
    "a list": (f"- client_secret\n- {P}", "not a secrets file"),
    "a list of mappings": (f"- client_secret: {P}", "not a secrets file"),
    "JSON with a comma too much": (f'{{"client_secret": "{P}",, }}', "s.yaml:1"),
    "open quote": (f"client_secret: '{P}\n", "never closed"),
    "open double quote": (f'client_secret: "{P}\n', "never closed"),
    "open bracket": (f"client_secret: [{P}\n", "s.yaml"),
    "open brace": (f"{{client_secret: {P}\n", "s.yaml"),
    "tab": (f"client_secret: fine-Value-9\n\thub_crypt_key: {P}\n", "tab"),
    "wrong indentation": (f"client_secret: fine-Value-9\n  gateway_token: {P}\n", "s.yaml:2"),
    "colon in the value": (f"client_secret: a: {P}", "s.yaml:1"),
    "starts with *": (f"client_secret: *{P}", "quotes"),
    "starts with &": (f"client_secret: &{P}", "s.yaml"),
    "starts with !": (f"client_secret: !{P}", "quotes"),
    "starts with !x!": (f"client_secret: !{P}!y z", "quotes"),
    "starts with %": (f"client_secret: %{P}", "quotes"),
    "starts with @": (f"client_secret: @{P}", "quotes"),
    "starts with a backquote": (f"client_secret: `{P}`", "quotes"),
    "starts with |": (f"client_secret: |{P}", "s.yaml:1"),
    "starts with >": (f"client_secret: >{P}", "s.yaml:1"),
    "escape": (f'client_secret: "\\q{P}"', "s.yaml:1"),
    "two documents": (f"client_secret: fine-Value-9\n---\nclient_secret: {P}", "second document"),
    "twice": (f"client_secret: fine-Value-9\nclient_secret: {P}", "a second time"),
    "twice in a pointer": (f"client_secret: {{file: /x, file: {P}}}", "a second time"),
    "unknown, near": (f"client_secet: {P}", "did you mean client_secret?"),
    "unknown, with a dash": (f"client-secret: {P}", "did you mean client_secret?"),
    "unknown, chart's name": (f"cookie_secret: {P}", "did you mean hub_cookie_secret?"),
    "unknown, far": (f"zebra: {P}", "is not known"),
    "unknown, and secret itself": (f"{P}: x", "is not known"),
    "unknown section": (f"overides: {{jupyterhub: {{a: {P}}}}}", "did you mean overrides?"),
    "a platform's own": (f"culler_token: {P}", "is not known"),
    "a key that is a list": (f"[a, b]: {P}", "plain text"),
    "a key that is a mapping": (f"{{a: b}}: {P}", "plain text"),
    "a number": ("client_secret: 83497210", "as a number"),
    "64 digits": ("hub_cookie_secret: 8349721056" + "31415926535897932384626433" * 2 + "84", "as a number"),
    "an exponent": ("client_secret: 1e5", "as a number"),
    "a small number": ("client_secret: 51", "as a number"),
    "true": ("client_secret: true", "as true or false"),
    "a list for one value": (f"client_secret: [{P}]", "expected: one value"),
    "a list for a token": (f"gateway_token: [{HEX}, {OLD}]", "expected: one value"),
    "an empty list": ("hub_crypt_key: []", "a list of 0"),
    "eleven keys": (f"hub_crypt_key: [{', '.join([HEX] * 11)}]", "a list of 11"),
    "a list in a list": (f"hub_crypt_key: [[{P}]]", "inside a list"),
    "nothing in a list": (f"hub_crypt_key: [{HEX}, ]\ngateway_token: {P}", "wrong form"),
    "null in a list": (f"hub_crypt_key: [{HEX}, ~]", "no value is written"),
    "a wrong old key": (f"hub_crypt_key: [{HEX}, {P}]", "wrong form"),
    "too short": ("client_secret: Zq7-Xw", "wrong form"),
    "too long": (f"client_secret: {P * 100}", "wrong form"),
    "a blank inside": (f"client_secret: {P} and more", "wrong form"),
    "a line break at the end": (f'client_secret: "{P}\\n"', "blanks or line breaks"),
    "a block with a line break": (f"client_secret: |\n  {P}\n", "blanks or line breaks"),
    "quotes inside quotes": (f"hub_cookie_secret: '\"{HEX}\"'", "remove the inner quotes"),
    "an umlaut": (f"client_secret: {P}ü", "wrong form"),
    "too few digits": (f"hub_cookie_secret: {HEX[:63]}", "64 hexadecimal digits"),
    "no hexadecimal digits": (f"hub_cookie_secret: {HEX[:63]}g", "64 hexadecimal digits"),
    "base64 where hex is meant": (f"hub_cookie_secret: {P * 2}+/=", "64 hexadecimal digits"),
    "a short token": (f"gateway_token: {P}", "at least 32"),
    "a wrong pointer": (f"client_secret: {{path: {P}}}", "not known here"),
    "a misspelt pointer": (f"client_secret: {{fil: {P}}}", "did you mean file?"),
    "two keys in a pointer": (f"client_secret: {{file: /x, mode: {P}}}", "not known here"),
    "an empty pointer": ("client_secret: {}", "an empty mapping"),
    "a pointer to nothing": ("client_secret: {file: }", "not a file name"),
    "a pointer to a list": (f"client_secret: {{file: [{P}]}}", "not a file name"),
    "a pointer to a number": ("client_secret: {file: 5}", "not a file name"),
    "made is a list": (f"made: [{P}]", "not a mapping"),
    "made is a text": (f"made: {P}", "not a mapping"),
    "made without a time": (f"made: {{client_secret: {P}}}", "not a time"),
    "overrides is a list": (f"overrides: [{P}]", "not a mapping"),
    "overrides is a text": (f"overrides: {P}", "not a mapping"),
    "overrides of no chart": (f"overrides: {{jupyter: {{a: {P}}}}}", "did you mean jupyterhub?"),
    "overrides without values": (f"overrides: {{jupyterhub: {P}}}", "not a mapping"),
    "merge of nothing": (f"<<: {P}", "takes a mapping"),
    "an alias before its anchor": (f"client_secret: *{P}\ngateway_token: &{P} x", "quotes"),
    "too deep": ("overrides: {jupyterhub: " + "{a: " * 60 + P + "}" * 60 + "}", "levels deep"),
    "a line too long": ("client_secret: " + P * 2000, "longer than"),
    "an alias bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "\n".join(
            f"{new}: &{new} [{', '.join(['*' + old] * 10)}]"
            for old, new in zip("abcdef", "bcdefg", strict=True)
        )
        + f"\nclient_secret: {P}",
        "expands to more",
    ),
}


def test_the_table_is_long_enough() -> None:
    assert len(BAD) >= 60


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str) -> None:
    content, words = BAD[name]
    found = stored(content)
    said = messages(found)
    assert found.problems, "nothing was found wrong"
    assert words in said
    assert "s.yaml" in said
    for piece in (PRIVATE, PRIVATE[:6], PRIVATE[-6:], HEX[:12], OLD[:12], "83497210", "31415926"):
        assert piece not in said
    assert PRIVATE not in repr(found)


def test_all_problems_at_once_and_each_in_its_place() -> None:
    found = stored(
        f"client_secet: {P}\nhub_cookie_secret: {P}\ngateway_token: 58\nclient_secret: real-Client-9\n"
    )
    assert [problem.where.line for problem in found.problems if problem.where] == [1, 2, 3]
    assert set(found.entries) == {"client_secret"}


PIECES = st.sampled_from(
    ["client_secret", "hub_crypt_key", "gateway_token", "made", "overrides", "jupyterhub", "file", ":", " ", "\n", "- ",
     "[", "]", "{", "}", "'", '"', "&a", "*a", "<<", "|", ">", "!x", "%", "#", "\t", "---", "~", HEX, PRIVATE, "1e9"]
)  # fmt: skip


@given(st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=200)))
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_no_text_is_too_strange(text: str) -> None:
    found = parse(text.encode("utf-8", "surrogatepass"), "s.yaml", Path("/base"))
    said = messages(found)
    assert PRIVATE not in said
    assert HEX not in said


@given(st.binary(max_size=300))
def test_no_bytes_are_too_strange(data: bytes) -> None:
    parse(data, "s.yaml", Path("/base"))


SECRETS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=12, max_size=60)


@given(SECRETS, st.sampled_from(["client_secret: {}", "client_secret: '{}", "cliet_secret: {}", "{}", "{}: x",
                                 "gateway_token: [{}]", "hub_cookie_secret: {}", "x: {{{}", "\t{}"]))  # fmt: skip
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_no_message_repeats_a_value(value: str, shape: str) -> None:
    found = stored(shape.format(value))
    said = messages(found)
    for start in range(len(value) - 7):
        piece = value[start : start + 8]
        assert piece not in said or piece in messages(stored(shape.format("q" * 20))), piece


def test_beside() -> None:
    assert beside(Path("/etc/tidehub/tidehub.yaml")) == Path("/etc/tidehub/tidehub.secrets.yaml")
    assert beside(Path("coast.yml")) == Path("coast.secrets.yaml")


def test_random_secrets_survive() -> None:
    for _ in range(50):
        value = secrets.token_urlsafe(30)
        assert stored(f"client_secret: '{value}'").entries["client_secret"].values == (Secret(value),)
