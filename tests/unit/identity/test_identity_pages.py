"""The provider's page of an error names the site, and whom to ask."""

from __future__ import annotations

from tidehub.identity.pages import Pages


def test_the_contact_is_on_the_page_of_an_error() -> None:
    page = Pages("Coast", "/services/identity", "help@<x>.org").render("error", title="No", message="why")
    assert b"Questions: help@&lt;x&gt;.org" in page and b"<title>No" in page and b"Coast</title>" in page
    assert b"Questions" not in Pages("Coast", "/p").render("error", title="No", message="why")
