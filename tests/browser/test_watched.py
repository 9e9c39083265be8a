"""What may not happen in a page is seen."""

from __future__ import annotations

import pytest
from browsing import watched


def test_a_quiet_page_passes(page):
    page.set_content("<h1>fine</h1><script>console.log('said')</script>")
    assert page.inner_text("h1") == "fine"


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ("<script>console.error('a sorry page')</script>", "a sorry page"),
        ("<script>throw new Error('thrown')</script>", "thrown"),
        ("<img src='http://elsewhere.invalid/x.png'>", "elsewhere"),
    ],
)
def test_what_a_page_may_not_do_fails(browser, content, seen):
    with pytest.raises(AssertionError, match=seen), watched(browser) as page:
        page.set_content(content)
