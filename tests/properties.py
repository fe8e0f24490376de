"""Properties that Hypothesis tests, and the texts that it makes for them."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from tests import servers

# The same examples in every run, and no files in the checkout.
set_hypothesis_home_dir(servers.DIRECTORY / "hypothesis")
properties = settings(max_examples=300, deadline=None, database=None, derandomize=True)


def texts_of(*pieces: str) -> st.SearchStrategy[str]:
    """Texts that are likely to come close to what is parsed, surrogates included."""
    piece = st.sampled_from(pieces) | st.text(st.characters(), max_size=4)
    return st.lists(piece, max_size=12).map("".join)
