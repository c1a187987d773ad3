from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidehub.secrets.placeholders import is_placeholder, placeholders
from tidehub.secrets.secret import Secret

PLACEHOLDERS = """
<CLIENT_ID>
<CLIENT_SECRET>
<your client secret>
CHANGEME
changeme
change-me
ChangeMe!
change_it
please change me
xxx
XXXXXXXX
xxxx-xxxx-xxxx
REPLACE_ME
replace-me
replaceme
replace with the output of openssl rand -hex 32
REPLACE_WITH_YOUR_SECRET
TODO
todo!
FIXME
TBD
n/a
none
null
placeholder
dummy
secret
password
token
client_secret
client-secret
oauth-token-here
your-secret
your_client_secret
your-client-secret-here
my-secret
the-token
test-client-secret
test-only-simple-password
example-token
insert-token-here
put-your-key-here
${CLIENT_SECRET}
$CLIENT_SECRET
$(cat secret)
{{ client_secret }}
%CLIENT_SECRET%
[client secret]
...
***
--------
________
????
0000000000000000000000000000000000000000000000000000000000000000
1111111111111111111111111111111111111111111111111111111111111111
aaaaaaaaaaaaaaaa
abababababababababab
abcabcabcabcabcabcabc
0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
0123456789ABCDEF
12345678901234567890
abcdefghijklmnopqrstuvwxyz
deadbeefdeadbeefdeadbeefdeadbeef
""".strip().splitlines()

REAL = """
hunter2hunter2
correct-horse-battery
a-7f3k-9dk2-secret-8d7f
An-Unusual-9-Value
setting12345
id3f9a8b
AJ3k9sL0pQ-x7_Zm4Yv8Nw2Rt6Ub1Ce5
8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92
the_quick_brown_f0x
replacement-part-77
todor-zhivkov-1954
xxx-real-9f8d7s
password-manager-8F
""".strip().splitlines()


@pytest.mark.parametrize("text", [*PLACEHOLDERS, "", "  ", "  CHANGEME  ", "…"])
def test_placeholders(text: str) -> None:
    assert is_placeholder(text)


@pytest.mark.parametrize("text", REAL)
def test_real_values(text: str) -> None:
    assert not is_placeholder(text)


def test_random_values_are_none() -> None:
    for size in (8, 16, 24, 32):
        assert not any(is_placeholder(secrets.token_hex(size)) for _ in range(3000))
        assert not any(is_placeholder(secrets.token_urlsafe(size)) for _ in range(3000))


@given(st.text(max_size=300))
def test_any_text_gets_an_answer(text: str) -> None:
    assert is_placeholder(text) in (True, False)


@pytest.mark.parametrize(
    "long", ["<" * 50_000, "your-" * 10_000, "replace with " * 5_000, "_" * 50_000 + "x"]
)
def test_long_texts_take_no_time(long: str) -> None:
    assert is_placeholder(long) in (True, False)


def test_all_of_them_are_named_at_once() -> None:
    values = {
        "client_secret": [Secret("<CLIENT_SECRET>")],
        "gateway_token": [Secret(secrets.token_hex(32))],
        "hub_crypt_key": [Secret(secrets.token_hex(32)), Secret("CHANGEME")],
    }
    assert placeholders(values) == ["client_secret", "hub_crypt_key"]
