from __future__ import annotations

import logging

import pytest

from tidehub.login.log_scrub import ScrubFilter, scrub


@pytest.mark.parametrize(
    ("line", "clean"),
    [
        ("GET /cb?code=abc.def&state=xyz (127.0.0.1)", "GET /cb?code=[hidden]&state=[hidden] (127.0.0.1)"),
        ("client_secret=s3cr3t&grant_type=authorization_code", "client_secret=[hidden]&grant_type=authorization_code"),
        ("id_token_hint=eyJ.a.b", "id_token_hint=[hidden]"),
        ("postcode=12345", "postcode=12345"),
        ("exit code: 1", "exit code: 1"),
    ],
)  # fmt: skip
def test_values_of_secret_parameters_go(line: str, clean: str) -> None:
    assert scrub(line) == clean


def test_the_filter_cleans_what_arguments_bring(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tidehub.test.scrub")
    logger.addFilter(ScrubFilter())
    with caplog.at_level(logging.WARNING, logger.name):
        logger.warning("403 GET %s (%s): 100%% wrong", "/cb?code=topsecret&x=1", "::1")
    assert caplog.messages == ["403 GET /cb?code=[hidden]&x=1 (::1): 100% wrong"]
