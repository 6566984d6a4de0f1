"""Settings for all tests of the core."""

from __future__ import annotations

import os

from hypothesis import settings

# The same examples in every run, and no time limit for one: a run fails because of a change,
# never by chance. HYPOTHESIS_PROFILE=explore looks for new examples, ten times as many.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
